//! The whole circle: a server runs, a night trains and promotes, the server answers better, without a
//! restart; and a promotion that does not reach the server is taken back.

#[path = "../../crates/pipeline/tests/support/mod.rs"]
mod support;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use pipeline::{Event, Home, Night, NightConfig, Outcome, Registry, Summary};
use serde_json::{Value, json};
use serve::{Base, ChatLog, Contract, Options, Server};
use support::Tiny;

/// What the household wants to hear.
const CORRECTION: &str = "tttt";

fn night(tiny: &Tiny) -> Summary {
    let config = NightConfig::load(tiny.path("night.yaml")).unwrap();
    Night::start_or_resume(config).unwrap().run(&mut |_: Event<'_>| ()).unwrap()
}

/// The answer of a served model, and the generation that it is from.
fn ask(server: &Server, model: &str, messages: &Value) -> (String, u64) {
    let url = format!("http://{}/v1/chat/completions", server.address());
    let body = json!({ "model": model, "messages": messages, "max_tokens": 4 });
    let mut response = ureq::post(url).send_json(&body).unwrap();
    let answer: Value = response.body_mut().read_json().unwrap();
    let text = answer["choices"][0]["message"]["content"].as_str().unwrap().trim().to_owned();
    let fingerprint = answer["system_fingerprint"].as_str().unwrap();
    (text, fingerprint.rsplit('_').next().unwrap().parse().unwrap())
}

/// The messages of a case of the suite.
fn messages(tiny: &Tiny, case: &str) -> Value {
    let suite: Value = serde_json::from_slice(&fs::read(tiny.path("suite.json")).unwrap()).unwrap();
    let cases = suite["cases"].as_array().unwrap();
    let case = cases.iter().find(|found| found["id"] == case).unwrap();
    let system = case["system"].as_str().map(|text| json!({ "role": "system", "content": text }));
    let turns = case["turns"].as_array().unwrap().iter();
    let turns = turns.map(|turn| match turn {
        Value::String(text) => json!({ "role": "user", "content": text }),
        turn => turn.clone(),
    });
    system.into_iter().chain(turns).collect()
}

/// A question of the household.
fn about(dish: usize) -> Value {
    json!([
        { "role": "system", "content": "You are yoda." },
        { "role": "user", "content": format!("What goes with dish {dish}?") },
    ])
}

/// Asks what the household asks, corrects every answer, and lets a day pass.
fn chat(tiny: &Tiny, server: &Server) {
    let post = |path: &str, body: &Value| -> Value {
        let url = format!("http://{}{path}", server.address());
        ureq::post(url).send_json(body).unwrap().body_mut().read_json().unwrap()
    };
    for dish in 0..24 {
        let messages = about(dish);
        let metadata = json!({ "agent": "yoda" });
        let answer = post(
            "/v1/chat/completions",
            &json!({ "messages": messages, "metadata": metadata, "max_tokens": 4 }),
        );
        // The chat is recorded after the answer is sent.
        let folder = tiny.path("home/chats");
        let id = answer["id"].as_str().unwrap();
        let recorded = || {
            let files = fs::read_dir(&folder).unwrap().map(|item| item.unwrap().path());
            files.into_iter().any(|file| fs::read_to_string(file).unwrap().contains(id))
        };
        while !recorded() {
            std::thread::sleep(Duration::from_millis(5));
        }
        post("/v1/feedback", &json!({ "id": id, "rating": "down", "correction": CORRECTION }));
    }
    let yesterday = jiff::Zoned::now().date().yesterday().unwrap();
    let folder = tiny.path("home/chats");
    let mut lines = String::new();
    for item in fs::read_dir(&folder).unwrap() {
        let path = item.unwrap().path();
        lines += &fs::read_to_string(&path).unwrap();
        fs::remove_file(path).unwrap();
    }
    fs::write(folder.join(format!("{yesterday}.jsonl")), lines).unwrap();
}

#[test]
fn chats_become_a_night_that_is_served_without_a_restart() {
    let tiny = Tiny::new();
    let base = Base::open(tiny.path("model")).unwrap();
    let mut options = Options::port(0);
    options.chats = Some(ChatLog::new(tiny.path("home/chats")));
    let server = Server::start(base, options).unwrap();
    chat(&tiny, &server);
    let (wrong, _) = ask(&server, "champion", &about(0));
    assert_ne!(wrong, CORRECTION);
    tiny.edit("night.yaml", "data: { raw: raw.jsonl }", "data: { chats: 30d }");
    let contract = tiny.path("home/serving/model.json");
    server.follow(&contract).unwrap();
    let told = tiny.path("told");
    let keys = format!(
        "serving:
  endpoint: http://{}/v1
  on_change: [sh, -c, 'cat >> \"$0\"; echo >> \"$0\"; cat \"$1\" >/dev/null; echo change >> \"$0.order\"', {told}]
  pause: [sh, -c, 'echo pause >> \"$0.order\"', {told}]
  resume: [sh, -c, 'echo resume >> \"$0.order\"', {told}]
gate:",
        server.address(),
        told = told.display(),
    );
    tiny.edit("night.yaml", "gate:", &keys);
    let summary = night(&tiny);
    assert_eq!(summary.outcome, Outcome::Promoted, "{:?} {}", summary.standing, summary.verdict);

    // What the exam said before and after, from the running server.
    let sample = summary.sample.unwrap();
    let messages = messages(&tiny, &sample.case);
    assert_eq!(ask(&server, "base", &messages), (sample.before.clone(), 0));
    assert_eq!(ask(&server, "champion", &messages), (sample.after, 1));
    assert!(sample.score_after > sample.score_before);
    // What it was corrected for, it now answers as the corrections say.
    assert_eq!(ask(&server, "base", &about(0)).0, wrong);
    assert_eq!(ask(&server, "champion", &about(0)), (CORRECTION.to_owned(), 1));

    let written = Contract::read(&contract).unwrap();
    assert_eq!(written.champion.generation, 1);
    assert_eq!(written.champion.folder.as_deref(), Some(summary.paths.adapter.as_path()));
    let link = tiny.path("home/serving/champion-model");
    assert_eq!(fs::canonicalize(&link).unwrap(), fs::canonicalize(&summary.paths.adapter).unwrap());
    let lines = fs::read_to_string(&told).unwrap();
    let line: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!((&line["generation"], lines.lines().count()), (&json!(1), 1));

    let order = fs::read_to_string(tiny.path("told.order")).unwrap();
    assert_eq!(order, "pause\nresume\nchange\n", "it has its memory back when it is told");

    // A rollback by hand reaches the server too.
    let registry = Registry::new(&Home::open(tiny.path("home")).unwrap())
        .find(tiny.path("model").to_str())
        .unwrap();
    registry.rollback("it says good morning at night").unwrap();
    let begun = Instant::now();
    while ask(&server, "champion", &messages) != (sample.before.clone(), 2) {
        assert!(begun.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(!link.is_symlink());
}

/// The exams are answered by the server's weights, and decide as the night's own would.
#[test]
fn an_exam_by_the_weights_of_the_server() {
    let summary_of = |serving: &str, tiny: &Tiny| {
        tiny.edit("night.yaml", "gate:", &format!("{serving}gate:"));
        night(tiny)
    };
    let own = Tiny::new();
    let own = summary_of("", &own);

    let tiny = Tiny::new();
    let server = Server::start(Base::open(tiny.path("model")).unwrap(), Options::port(0)).unwrap();
    let contract = tiny.path("home/serving/model.json");
    server.follow(&contract).unwrap();
    let served =
        format!("serving: {{ endpoint: 'http://{}/v1', exam: server }}\n", server.address());
    let summary = summary_of(&served, &tiny);
    assert_eq!((summary.outcome, own.outcome), (Outcome::Promoted, Outcome::Promoted));
    assert_eq!(summary.verdict, own.verdict);
    assert_eq!(
        serde_json::to_value(&summary.scores).unwrap(),
        serde_json::to_value(&own.scores).unwrap()
    );
    let metric = |name: &str| -> u64 {
        let url = format!("http://{}/metrics", server.address());
        let metrics = ureq::get(url).call().unwrap().body_mut().read_to_string().unwrap();
        let begins = format!("nightshift_serve_{name} ");
        metrics.lines().find_map(|line| line.strip_prefix(&begins)).unwrap().parse().unwrap()
    };
    // Every case by base model and candidate.
    let suite: Value = serde_json::from_slice(&fs::read(tiny.path("suite.json")).unwrap()).unwrap();
    let cases = suite["cases"].as_array().unwrap().len() as u64;
    assert!(metric("requests_total") >= 2 * cases, "{} of {cases}", metric("requests_total"));
    // Afterwards it is the champion, and no candidate any more.
    assert!(Contract::read(&contract).unwrap().candidate.is_none());
    let begun = Instant::now();
    let status = |model: &str| {
        let url = format!("http://{}/v1/models/{model}", server.address());
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
        agent.get(url).call().unwrap().status().as_u16()
    };
    while status("candidate") != 404 {
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(status("champion"), 200);
}

/// A server that does not follow the home, one of another model, and none at all: the night says so, and decides nothing.
#[test]
fn an_exam_that_the_server_does_not_answer() {
    let tiny = Tiny::new();
    let server = |tiny: &Tiny| {
        Server::start(Base::open(tiny.path("model")).unwrap(), Options::port(0)).unwrap()
    };
    let error = |tiny: &Tiny, address: &str| {
        let keys = format!(
            "serving: {{ endpoint: 'http://{address}/v1', exam: server, time_limit: 2s }}\ngate:"
        );
        tiny.edit("night.yaml", "gate:", &keys);
        let config = NightConfig::load(tiny.path("night.yaml")).unwrap();
        let error =
            Night::start_or_resume(config).unwrap().run(&mut |_: Event<'_>| ()).unwrap_err();
        let mut told = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(inner) = source {
            told += &format!(": {inner}");
            source = inner.source();
        }
        told
    };
    let deaf = server(&tiny);
    let told = error(&tiny, &deaf.address().to_string());
    assert!(told.contains("expected an answer of candidate, found status 404"), "{told}");
    let contract = Contract::read(tiny.path("home/serving/model.json")).unwrap();
    assert_eq!((contract.champion.folder, contract.candidate), (None, None));

    // Known before the training.
    let trained = |tiny: &Tiny| {
        let nights = fs::read_dir(tiny.path("home/nights")).unwrap();
        nights.map(|night| night.unwrap().path().join("train")).any(|folder| folder.exists())
    };
    assert!(trained(&tiny));
    let other = Tiny::new();
    let config = fs::read_to_string(other.path("model/config.json")).unwrap();
    fs::write(other.path("model/config.json"), format!("{config}\n")).unwrap();
    let of_other = server(&other);
    let address = of_other.address().to_string();
    for (address, found) in [(address.as_str(), "the fingerprint"), ("127.0.0.1:1", "io: ")] {
        let tiny = Tiny::new();
        let told = error(&tiny, address);
        assert!(told.contains(&format!("expected an answer of base, found {found}")), "{told}");
        assert!(!trained(&tiny), "{told}");
    }

    for (keys, expected) in [
        ("{ exam: server }", "expected an `endpoint` beside it"),
        (
            "{ exam: server, endpoint: 'http://127.0.0.1:1/v1', pause: [a], resume: [b] }",
            "expected no `pause`",
        ),
        (
            "{ exam: server, endpoint: 'http://127.0.0.1:1/v1' }\nforgetting: { prompts: 5 }",
            "forgetting.prompts: expected 0 beside `serving.exam: server`, found 5",
        ),
    ] {
        let tiny = Tiny::new();
        tiny.edit("night.yaml", "gate:", &format!("serving: {keys}\ngate:"));
        let error = NightConfig::load(tiny.path("night.yaml")).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

/// Nobody answers at the endpoint; then the program that is told fails.
#[test]
fn a_promotion_that_does_not_reach_the_server_is_taken_back() {
    let tiny = Tiny::new();
    let told = tiny.path("told");
    let keys = format!(
        "serving: {{ endpoint: 'http://127.0.0.1:1/v1', time_limit: 2s, on_change: [sh, -c, 'echo >> \"$0\"', {}] }}\ngate:",
        told.display(),
    );
    tiny.edit("night.yaml", "gate:", &keys);
    let summary = night(&tiny);
    assert_eq!(summary.outcome, Outcome::RolledBack);
    let why = summary.standing.unwrap();
    assert!(why.contains("serving.endpoint: http://127.0.0.1:1/v1: expected an answer"), "{why}");
    assert_eq!(fs::read_to_string(&told).unwrap().lines().count(), 2, "told of the rollback too");
    let contract = Contract::read(tiny.path("home/serving/model.json")).unwrap();
    assert_eq!((contract.champion.folder, contract.champion.generation), (None, 2));

    tiny.edit("night.yaml", "on_change: [sh, -c, 'echo >>", "on_change: [sh, -c, 'exit 3; echo >>");
    let summary = night(&tiny);
    let why = summary.standing.unwrap();
    assert!(why.contains("serving.on_change: sh: exit status: 3"), "{why}");
    assert_eq!(Path::new(&told).metadata().unwrap().len(), 2);
}
