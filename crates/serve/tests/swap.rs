//! Champions that change while requests run: every answer is one adapter's, from its first word to its
//! last.

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};

use chat_format::{ChatTokenizer, Message, RenderOptions};
use models::{Adapter, GenerateOptions, Generator};
use serde_json::{Value, json};
use serve::{Champion, Server};
use support::{Checkpoint, chat, get, question, serve, text};
use tempfile::TempDir;

/// Requests and swaps go on until every adapter has given so many answers.
const ANSWERS: usize = 5;
/// On a machine that is busy with other things, that takes a while.
const PATIENCE: Duration = Duration::from_secs(240);

fn fingerprint(answer: &Value) -> String {
    answer["system_fingerprint"].as_str().unwrap().to_owned()
}

fn metric(server: &Server, name: &str) -> u64 {
    let metrics = get(server, "/metrics").body;
    let line =
        metrics.lines().find_map(|line| line.strip_prefix(&format!("nightshift_serve_{name} ")));
    line.unwrap_or_else(|| panic!("{name}: {metrics}")).parse().unwrap()
}

/// Adapters that each say their own word.
#[test]
fn the_next_request_goes_to_the_new_champion() {
    let checkpoint = Checkpoint::saying("base.");
    let words = ["delta.", "kilo.", "mike."];
    let server = serve(checkpoint.base(), |_| {});
    let ask = |model: &str| chat(&server, &question("?", json!({ "model": model }))).json();
    assert_eq!(text(&ask("champion")), "base.");
    let mut seen = vec![fingerprint(&ask("champion"))];
    for (generation, word) in (1..).zip(words) {
        let adapter = checkpoint.adapter("base.", word);
        server.swap(&Champion::new(adapter.path(), generation)).unwrap();
        let answer = ask("champion");
        assert_eq!(text(&answer), word);
        assert!(!seen.contains(&fingerprint(&answer)), "{seen:?}");
        seen.push(fingerprint(&answer));
        assert!(seen.last().unwrap().ends_with(&format!("_{generation}")));
        assert_eq!(text(&ask("base")), "base.");
        assert_eq!(metric(&server, "generation"), generation);
    }
    server.swap(&Champion::base(9)).unwrap();
    assert_eq!(text(&ask("champion")), "base.");
}

#[test]
fn an_adapter_that_is_corrupt_or_does_not_fit_leaves_the_old_one_serving() {
    let checkpoint = Checkpoint::saying("base.");
    let good = checkpoint.adapter("base.", "delta.");
    let server = serve(checkpoint.base(), |_| {});
    server.swap(&Champion::new(good.path(), 1)).unwrap();
    let damaged = |damage: &dyn Fn(&std::path::Path)| {
        let folder = checkpoint.adapter("base.", "kilo.");
        damage(folder.path());
        folder
    };
    let weights = "adapters.safetensors";
    let cases: [(&str, TempDir, &str); 5] = [
        (
            "cut short",
            damaged(&|folder| {
                let bytes = std::fs::read(folder.join(weights)).unwrap();
                std::fs::write(folder.join(weights), &bytes[..bytes.len() / 2]).unwrap();
            }),
            weights,
        ),
        (
            "no tensors",
            damaged(&|folder| std::fs::write(folder.join(weights), b"").unwrap()),
            weights,
        ),
        (
            "no configuration",
            damaged(&|folder| {
                std::fs::write(folder.join("adapter_config.json"), b"{}").unwrap();
            }),
            "adapter_config.json",
        ),
        ("of another model", Checkpoint::random(1).random_adapter(2), weights),
        (
            "not there",
            damaged(&|folder| std::fs::remove_file(folder.join(weights)).unwrap()),
            weights,
        ),
    ];
    for (name, folder, says) in &cases {
        let error = server.swap(&Champion::new(folder.path(), 2)).unwrap_err().to_string();
        assert!(error.contains(says), "{name}: {error}");
    }
    let announced = Champion::new(good.path(), 3).digest(durable::digest("something else"));
    let error = server.swap(&announced).unwrap_err().to_string();
    assert!(error.contains("expected an adapter with the digest"), "{error}");
    let answer = chat(&server, &question("?", json!({}))).json();
    assert_eq!(text(&answer), "delta.");
    assert!(fingerprint(&answer).ends_with("_1"));
    assert_eq!((metric(&server, "failed_swaps_total"), metric(&server, "generation")), (6, 1));
    for name in ["", "base", "champion", "a\nb"] {
        assert!(server.add(name, good.path()).is_err(), "{name:?}");
    }
}

/// What every adapter answers to every question by itself.
fn expected(
    checkpoint: &Checkpoint,
    adapters: &[TempDir],
    questions: &[String],
) -> Vec<Vec<String>> {
    let model = checkpoint.model();
    let tokenizer = ChatTokenizer::open(checkpoint.path()).unwrap();
    let options = GenerateOptions {
        max_tokens: 40,
        stop_ids: tokenizer.stop_ids().to_vec(),
        ..GenerateOptions::default()
    };
    let prompt = |question: &String| {
        tokenizer
            .prompt_tokens(&[Message::user(question.as_str())], &RenderOptions::default())
            .unwrap()
    };
    let prompts: Vec<Vec<u32>> = questions.iter().map(prompt).collect();
    let answers = |folder: Option<&TempDir>| {
        let adapter = Adapter::open(folder.map(|folder| folder.path()), &model).unwrap();
        let generator = Generator::new(&model, &adapter).unwrap();
        let completions = generator.generate(&prompts, &options).unwrap();
        completions.iter().map(|one| tokenizer.decode(&one.tokens).unwrap()).collect()
    };
    std::iter::once(None).chain(adapters.iter().map(Some)).map(answers).collect()
}

/// Many clients, a new champion again and again, prompts that share beginnings with those of other
/// adapters, clients that vanish: every answer is what its generation says by itself, none is lost.
#[test]
fn no_answer_mixes_adapters_and_none_is_lost() {
    let checkpoint = Checkpoint::random(11);
    let adapters: Vec<TempDir> = (0..3).map(|seed| checkpoint.random_adapter(seed)).collect();
    let common = "You are windu, security agent of the council. ";
    let questions: Vec<String> =
        (0..6).map(|number| format!("{}{number}", common.repeat(number % 3))).collect();
    let expected = expected(&checkpoint, &adapters, &questions);
    for question in 0..questions.len() {
        let distinct: std::collections::BTreeSet<_> =
            expected.iter().map(|all| &all[question]).collect();
        assert_eq!(distinct.len(), expected.len(), "adapters must differ: {distinct:?}");
    }
    let server = Arc::new(serve(checkpoint.base(), |_| {}));
    let over = Arc::new(AtomicBool::new(false));
    // Which adapter serves, by generation: 0 is the base model.
    let served = Arc::new(Mutex::new(BTreeMap::from([(0, 0)])));
    let answered = Arc::new(Mutex::new(BTreeMap::<usize, usize>::new()));
    let begin = Arc::new(Barrier::new(9));
    let clients: Vec<_> = (0..8usize)
        .map(|client| {
            let (server, over, begin) =
                (Arc::clone(&server), Arc::clone(&over), Arc::clone(&begin));
            let (questions, expected) = (questions.clone(), expected.clone());
            let (served, answered) = (Arc::clone(&served), Arc::clone(&answered));
            std::thread::spawn(move || {
                begin.wait();
                for number in client.. {
                    if over.load(Relaxed) {
                        break;
                    }
                    let asked = number % questions.len();
                    // One asks a model that stays, whose prompts' beginnings are cached between swaps.
                    let model = if client == 6 { "base" } else { "champion" };
                    let more = json!({ "max_tokens": 40, "model": model });
                    let body = question(&questions[asked], more);
                    if client == 7 {
                        vanish(&server, &body);
                        continue;
                    }
                    let reply = chat(&server, &body);
                    assert_eq!(reply.status, 200, "{}", reply.body);
                    let answer = reply.json();
                    let generation =
                        fingerprint(&answer).rsplit('_').next().unwrap().parse().unwrap();
                    let adapter = *served.lock().unwrap().get(&generation).unwrap();
                    assert_eq!(text(&answer), expected[adapter][asked], "generation {generation}");
                    *answered.lock().unwrap().entry(adapter).or_default() += 1;
                }
            })
        })
        .collect();
    begin.wait();
    let start = Instant::now();
    for generation in 1.. {
        let adapter = generation % (adapters.len() + 1);
        served.lock().unwrap().insert(generation, adapter);
        let champion = match adapter.checked_sub(1) {
            Some(index) => Champion::new(adapters[index].path(), generation as u64),
            None => Champion::base(generation as u64),
        };
        server.swap(&champion).unwrap();
        std::thread::sleep(Duration::from_millis(60));
        let answered = answered.lock().unwrap();
        if answered.len() == 4 && answered.values().all(|&count| count >= ANSWERS) {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "{answered:?}");
    }
    over.store(true, Relaxed);
    for client in clients {
        client.join().unwrap();
    }
    let answered = answered.lock().unwrap().clone();
    println!("answers by adapter: {answered:?}; swaps: {}", metric(&server, "swaps_total"));
    // What vanished clients asked for is dropped at the next step.
    let deadline = Instant::now() + PATIENCE;
    while metric(&server, "running") + metric(&server, "waiting") > 0 {
        assert!(Instant::now() < deadline, "{}", get(&server, "/metrics").body);
        std::thread::sleep(Duration::from_millis(20));
    }
    let requests = metric(&server, "requests_total");
    let [finished, cancelled, failed] =
        ["finished_total", "cancelled_total", "failed_total"].map(|name| metric(&server, name));
    assert_eq!((finished + cancelled, failed), (requests, 0));
    assert!(cancelled > 0, "some clients must have vanished in time");
    assert!(metric(&server, "cached_tokens_total") > 0);
    assert_eq!(metric(&server, "cache_bytes"), 0);
}

/// Asks, and closes the connection without reading the answer.
fn vanish(server: &Server, body: &Value) {
    use std::io::Write;
    let mut stream = std::net::TcpStream::connect(server.address()).unwrap();
    let body = body.to_string();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(25));
}
