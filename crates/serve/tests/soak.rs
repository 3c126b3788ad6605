//! Many streams for a while, with a new champion again and again and clients that vanish: every answer is one adapter's,
//! none is lost, and memory stays flat.
//!
//! The long form: `cargo test --release --test soak -- --ignored --nocapture`. `NIGHTSHIFT_SOAK_SECONDS` sets another
//! length than ten minutes.

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use serve::{Champion, Server};
use support::{Checkpoint, get, question, serve};
use tempfile::TempDir;

const STREAMS: usize = 64;
/// No two begin alike.
const WORDS: [&str; 5] = ["base ", "delta ", "kilo ", "mike ", "tango "];
/// One request of so many is left after some words.
const VANISHING: usize = 7;
/// Memory may grow by this share after the first third, for caches of allocators.
const GROWTH: f64 = 1.05;
/// What noise of other tests in the process may add.
const NOISE: u64 = 48 << 20;

struct Soak {
    server: Server,
    /// The word of each generation.
    words: Mutex<BTreeMap<u64, &'static str>>,
    over: AtomicBool,
}

/// What one client saw.
#[derive(Default)]
struct Seen {
    answers: BTreeMap<&'static str, usize>,
    vanished: usize,
    first: Vec<Duration>,
    between: Vec<Duration>,
}

impl Soak {
    /// Asks until it is over.
    fn client(&self, client: usize) -> Seen {
        let mut seen = Seen::default();
        for number in client.. {
            if self.over.load(Relaxed) {
                break;
            }
            let most = 40 + 13 * (number % 9);
            let asked = "?".repeat(1 + 37 * (number % 5));
            let body = question(&asked, json!({ "stream": true, "max_tokens": most }));
            if number % VANISHING == 0 {
                self.stream(&body, Some(number % 11), &mut seen);
                seen.vanished += 1;
                continue;
            }
            let (generation, said) = self.stream(&body, None, &mut seen);
            let word = *self.words.lock().unwrap().get(&generation).unwrap();
            let expected: String = word.chars().cycle().take(most).collect();
            assert_eq!(said, expected, "generation {generation}");
            *seen.answers.entry(word).or_default() += 1;
        }
        seen
    }

    /// The generation and the text of an answer, or of its first pieces.
    fn stream(&self, body: &Value, leave_after: Option<usize>, seen: &mut Seen) -> (u64, String) {
        let url = format!("http://{}/v1/chat/completions", self.server.address());
        let agent: ureq::Agent = ureq::Agent::config_builder().proxy(None).build().into();
        let begun = Instant::now();
        let response =
            agent.post(url).content_type("application/json").send(body.to_string()).unwrap();
        let (mut generation, mut said, mut last) = (0, String::new(), None);
        for (count, line) in BufReader::new(response.into_body().into_reader()).lines().enumerate()
        {
            if leave_after.is_some_and(|most| count >= most) {
                return (generation, said);
            }
            let line = line.unwrap();
            let Some(data) = line.strip_prefix("data: ") else { continue };
            if data == "[DONE]" {
                return (generation, said);
            }
            let object: Value = serde_json::from_str(data).unwrap();
            assert!(object["error"].is_null(), "{object}");
            let fingerprint = object["system_fingerprint"].as_str().unwrap();
            generation = fingerprint.rsplit('_').next().unwrap().parse().unwrap();
            let piece = object["choices"][0]["delta"]["content"].as_str().unwrap_or_default();
            if piece.is_empty() {
                continue;
            }
            said += piece;
            let now = Instant::now();
            match last.replace(now) {
                None => seen.first.push(now - begun),
                Some(before) => seen.between.push(now - before),
            }
        }
        panic!("an answer without an end: {said}");
    }

    fn metric(&self, name: &str) -> u64 {
        let metrics = get(&self.server, "/metrics").body;
        let begins = format!("nightshift_serve_{name} ");
        metrics.lines().find_map(|line| line.strip_prefix(&begins)).unwrap().parse().unwrap()
    }
}

/// The resident memory of this process; `None` where the system does not tell it so.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

fn soak(length: Duration, swap_every: Duration) {
    let checkpoint = Checkpoint::saying(WORDS[0]);
    let adapters: Vec<TempDir> =
        WORDS[1..].iter().map(|word| checkpoint.adapter(WORDS[0], word)).collect();
    let server = serve(checkpoint.base(), |options| {
        options.limits.queue = 4 * STREAMS;
        // On a machine that is busy with other things an answer may take long.
        options.limits.request = Duration::from_secs(3_600);
    });
    let words = Mutex::new(BTreeMap::from([(0, WORDS[0])]));
    let soak = Arc::new(Soak { server, words, over: AtomicBool::new(false) });
    let clients: Vec<_> = (0..STREAMS)
        .map(|client| {
            let soak = Arc::clone(&soak);
            std::thread::spawn(move || soak.client(client))
        })
        .collect();
    let (begun, mut memory, mut generation) = (Instant::now(), Vec::new(), 0);
    while begun.elapsed() < length {
        std::thread::sleep(Duration::from_millis(250));
        memory.extend(resident());
        if begun.elapsed() < swap_every * (generation as u32 + 1) {
            continue;
        }
        generation += 1;
        let which = generation as usize % WORDS.len();
        soak.words.lock().unwrap().insert(generation, WORDS[which]);
        let champion = match which.checked_sub(1) {
            Some(index) => Champion::new(adapters[index].path(), generation),
            None => Champion::base(generation),
        };
        soak.server.swap(&champion).unwrap();
    }
    soak.over.store(true, Relaxed);
    let seen: Vec<Seen> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    told(&soak, &seen, &memory, generation);
}

/// Says what was seen, and checks it.
fn told(soak: &Soak, seen: &[Seen], memory: &[u64], swaps: u64) {
    let mut answers = BTreeMap::<&str, usize>::new();
    for (word, count) in seen.iter().flat_map(|seen| &seen.answers) {
        *answers.entry(word).or_default() += count;
    }
    let vanished: usize = seen.iter().map(|seen| seen.vanished).sum();
    let quantiles = |of: fn(&Seen) -> &Vec<Duration>| {
        let mut all: Vec<Duration> = seen.iter().flat_map(of).copied().collect();
        all.sort_unstable();
        let at = |share: usize| all[(all.len() - 1) * share / 100].as_secs_f64() * 1000.0;
        format!("p50 {:.1} ms, p99 {:.1} ms", at(50), at(99))
    };
    println!("answers by word: {answers:?}; {swaps} swaps, {vanished} clients vanished");
    println!("first token: {}", quantiles(|seen| &seen.first));
    println!("between tokens: {}", quantiles(|seen| &seen.between));
    // What vanished clients asked for is dropped at the next step.
    let deadline = Instant::now() + Duration::from_secs(120);
    while soak.metric("running") + soak.metric("waiting") > 0 {
        assert!(Instant::now() < deadline, "{}", get(&soak.server, "/metrics").body);
        std::thread::sleep(Duration::from_millis(50));
    }
    let requests = soak.metric("requests_total");
    let [finished, cancelled, failed] =
        ["finished_total", "cancelled_total", "failed_total"].map(|name| soak.metric(name));
    assert_eq!((finished + cancelled, failed), (requests, 0));
    assert_eq!(answers.values().sum::<usize>() + vanished, requests as usize);
    assert!(cancelled > 0 && swaps > 0 && soak.metric("swaps_total") == swaps);
    assert_eq!(soak.metric("cache_bytes"), 0);
    let third = memory.len() / 3;
    let most = |range: std::ops::Range<usize>| memory[range].iter().max().copied();
    let (Some(middle), Some(last)) = (most(third..2 * third), most(2 * third..memory.len())) else {
        println!("skipped: the memory of this process is not known on this system");
        return;
    };
    println!("resident memory: {} MB, then {} MB", middle >> 20, last >> 20);
    assert!(last as f64 <= GROWTH * middle as f64 + NOISE as f64, "{middle} to {last} bytes");
}

#[test]
fn a_short_soak() {
    soak(Duration::from_secs(15), Duration::from_secs(1));
}

#[test]
#[ignore = "takes ten minutes"]
fn a_long_soak() {
    let seconds = std::env::var("NIGHTSHIFT_SOAK_SECONDS").ok();
    let seconds = seconds.map_or(600, |seconds| seconds.parse().unwrap());
    soak(Duration::from_secs(seconds), Duration::from_secs(20));
}
