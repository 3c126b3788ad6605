//! Many streams for a while, with a new champion again and again and clients that vanish: every answer is one adapter's,
//! none is lost, and memory stays flat.
//!
//! `NIGHTSHIFT_SOAK_SECONDS` sets the length; ten minutes have a swap every 20 seconds:
//! `NIGHTSHIFT_SOAK_SECONDS=600 cargo test --release --test soak -- --nocapture`.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
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
/// The length without the variable.
const SECONDS: u64 = 16;
/// Swaps in each half.
const SWAPS: u32 = 15;
/// Bytes of Rust's heap that a request and a swap may leave behind. A prompt of this test has 56 tokens and more.
const PER_REQUEST: usize = 16;
const PER_SWAP: usize = 1 << 10;
/// What buffers and idle threads may take beside that.
const BUFFERS: usize = 128 << 10;
/// Resident memory differs by so much from one look to the next, with what allocators return.
const RESIDENT: u64 = 16 << 20;

/// Counts the bytes that Rust has allocated.
struct Counting(AtomicUsize);

#[global_allocator]
static HEAP: Counting = Counting(AtomicUsize::new(0));

// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.0.fetch_add(layout.size(), Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        self.0.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

struct Soak {
    server: Server,
    /// The word of each generation.
    words: Mutex<BTreeMap<u64, &'static str>>,
    over: AtomicBool,
    first: Latencies,
    between: Latencies,
}

/// How often each latency was seen, by tenths of a millisecond; the last place is of all that are longer. A list of all
/// would grow with the answers.
struct Latencies(Vec<AtomicUsize>);

impl Latencies {
    fn new() -> Self {
        Self((0..100_000).map(|_| AtomicUsize::new(0)).collect())
    }

    fn record(&self, latency: Duration) {
        let place = latency.as_micros() as usize / 100;
        self.0[place.min(self.0.len() - 1)].fetch_add(1, Relaxed);
    }

    fn quantiles(&self) -> String {
        let counts: Vec<usize> = self.0.iter().map(|count| count.load(Relaxed)).collect();
        let all: usize = counts.iter().sum();
        let at = |percent: usize| {
            let mut before = 0;
            let beyond = counts.iter().position(|count| {
                before += count;
                before * 100 >= all * percent
            });
            beyond.unwrap() as f64 / 10.0
        };
        format!("p50 {:.1} ms, p99 {:.1} ms", at(50), at(99))
    }
}

/// What is held between two halves, while nothing runs and the base model is champion.
#[derive(Debug)]
struct Held {
    requests: usize,
    swaps: usize,
    heap: usize,
    /// Arrays of MLX.
    arrays: usize,
}

/// What one client saw.
#[derive(Default)]
struct Seen {
    answers: BTreeMap<&'static str, usize>,
    vanished: usize,
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
                self.stream(&body, Some(number % 11));
                seen.vanished += 1;
                continue;
            }
            let (generation, said) = self.stream(&body, None);
            let word = *self.words.lock().unwrap().get(&generation).unwrap();
            let expected: String = word.chars().cycle().take(most).collect();
            assert_eq!(said, expected, "generation {generation}");
            *seen.answers.entry(word).or_default() += 1;
        }
        seen
    }

    /// The generation and the text of an answer, or of its first pieces.
    fn stream(&self, body: &Value, leave_after: Option<usize>) -> (u64, String) {
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
                None => self.first.record(now - begun),
                Some(before) => self.between.record(now - before),
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

impl Soak {
    /// Many clients for a while, with swaps; then all is quiet. Returns what they saw and what is still held.
    fn half(
        self: &Arc<Self>,
        length: Duration,
        adapters: &[TempDir],
        memory: &mut Vec<u64>,
    ) -> (Vec<Seen>, Held) {
        self.over.store(false, Relaxed);
        let clients: Vec<_> = (0..STREAMS)
            .map(|client| {
                let soak = Arc::clone(self);
                std::thread::spawn(move || soak.client(client))
            })
            .collect();
        let begun = Instant::now();
        for swap in 1..=SWAPS {
            while begun.elapsed() < length * swap / (SWAPS + 1) {
                std::thread::sleep(Duration::from_millis(100));
                memory.extend(resident());
            }
            self.swap(swap as usize % WORDS.len(), adapters);
        }
        std::thread::sleep(length.saturating_sub(begun.elapsed()));
        self.over.store(true, Relaxed);
        let seen = clients.into_iter().map(|client| client.join().unwrap()).collect();
        self.swap(0, adapters);
        (seen, self.quiet())
    }

    /// The adapter that says this word becomes champion.
    fn swap(&self, which: usize, adapters: &[TempDir]) {
        let mut words = self.words.lock().unwrap();
        let generation = words.len() as u64;
        words.insert(generation, WORDS[which]);
        drop(words);
        let champion = match which.checked_sub(1) {
            Some(index) => Champion::new(adapters[index].path(), generation),
            None => Champion::base(generation),
        };
        self.server.swap(&champion).unwrap();
    }

    /// Waits until nothing runs any more: what vanished clients asked for is dropped at the next step, adapters half a
    /// second later, idle threads after ten.
    fn quiet(&self) -> Held {
        let deadline = Instant::now() + Duration::from_secs(120);
        let busy = ["running", "waiting", "cache_bytes", "prefix_bytes"];
        while busy.iter().map(|name| self.metric(name)).sum::<u64>() > 0 {
            assert!(Instant::now() < deadline, "{}", get(&self.server, "/metrics").body);
            std::thread::sleep(Duration::from_millis(50));
        }
        std::thread::sleep(Duration::from_secs(12));
        Held {
            requests: self.metric("requests_total") as usize,
            swaps: self.metric("swaps_total") as usize,
            heap: HEAP.0.load(Relaxed),
            arrays: mlx_rs::memory::active_memory().unwrap(),
        }
    }
}

/// Says what was seen, and checks that no answer was lost.
fn check_answers(soak: &Soak, seen: &[Seen]) {
    let mut answers = BTreeMap::<&str, usize>::new();
    for (word, count) in seen.iter().flat_map(|seen| &seen.answers) {
        *answers.entry(word).or_default() += count;
    }
    let vanished: usize = seen.iter().map(|seen| seen.vanished).sum();
    let swaps = soak.metric("swaps_total");
    println!("answers by word: {answers:?}; {swaps} swaps, {vanished} clients vanished");
    println!("first token: {}", soak.first.quantiles());
    println!("between tokens: {}", soak.between.quantiles());
    let requests = soak.metric("requests_total");
    let [finished, cancelled, failed] =
        ["finished_total", "cancelled_total", "failed_total"].map(|name| soak.metric(name));
    assert_eq!((finished + cancelled, failed), (requests, 0));
    assert_eq!(answers.values().sum::<usize>() + vanished, requests as usize);
    assert!(cancelled > 0 && swaps == 2 * u64::from(SWAPS) + 2);
}

/// The second half may leave nothing behind that grows with requests or swaps.
fn check_memory(first: &Held, second: &Held, resident: [Option<u64>; 2]) {
    println!("held after each half: {first:?}, {second:?}");
    assert_eq!(first.arrays, second.arrays, "bytes of arrays");
    let (requests, swaps) = (second.requests - first.requests, second.swaps - first.swaps);
    let most = first.heap + BUFFERS + requests * PER_REQUEST + swaps * PER_SWAP;
    assert!(second.heap <= most, "{requests} requests, {swaps} swaps: {first:?}, {second:?}");
    let [Some(middle), Some(last)] = resident else {
        println!("skipped: the resident memory of this process is not known on this system");
        return;
    };
    println!("resident memory: at most {} MB, then {} MB", middle >> 20, last >> 20);
    assert!(last <= middle + RESIDENT, "{middle} to {last} bytes resident");
}

#[test]
fn answers_stay_right_and_memory_flat() {
    let seconds = std::env::var("NIGHTSHIFT_SOAK_SECONDS").ok();
    let seconds = seconds.map_or(SECONDS, |seconds| seconds.parse().unwrap());
    let half = Duration::from_secs(seconds) / 2;
    let checkpoint = Checkpoint::saying(WORDS[0]);
    let adapters: Vec<TempDir> =
        WORDS[1..].iter().map(|word| checkpoint.adapter(WORDS[0], word)).collect();
    let server = serve(checkpoint.base(), |options| {
        options.limits.queue = 4 * STREAMS;
        // On a machine that is busy with other things an answer may take long.
        options.limits.request = Duration::from_secs(3_600);
    });
    let words = Mutex::new(BTreeMap::from([(0, WORDS[0])]));
    let [first, between] = [Latencies::new(), Latencies::new()];
    let soak = Arc::new(Soak { server, words, over: AtomicBool::new(false), first, between });
    let mut memory = Vec::new();
    let (mut seen, warm) = soak.half(half, &adapters, &mut memory);
    // The first half is for caches to fill, of allocators and of the server.
    let middle = memory.iter().max().copied();
    memory.clear();
    let (more, held) = soak.half(half, &adapters, &mut memory);
    seen.extend(more);
    check_answers(&soak, &seen);
    check_memory(&warm, &held, [middle, memory.iter().max().copied()]);
}
