//! What a night writes is served without a restart; what is served comes back as chats.

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use serve::{ChatLog, Contract, Server};
use support::{Checkpoint, chat, get, post, question, serve, text};
use tempfile::TempDir;

/// A home with adapters and a contract.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(home.path().join("serving")).unwrap();
        std::fs::create_dir_all(home.path().join("adapters")).unwrap();
        Self(home)
    }

    fn contract(&self) -> std::path::PathBuf {
        self.0.path().join("serving/base.json")
    }

    /// Puts an adapter in the home and returns its entry.
    fn adapter(&self, name: &str, from: &Path) -> Value {
        let folder = format!("adapters/{name}");
        let to = self.0.path().join(&folder);
        std::fs::create_dir_all(&to).unwrap();
        let mut listing = String::new();
        for file in ["adapter_config.json", "adapters.safetensors"] {
            std::fs::copy(from.join(file), to.join(file)).unwrap();
            listing += &format!("{}  {file}\n", durable::sha256_file(to.join(file)).unwrap());
        }
        json!({ "folder": folder, "digest": durable::digest(listing) })
    }

    fn say(&self, base: &str, adapter: Value, generation: u64) {
        let contract = json!({
            "version": 1, "base": { "path": "/models/base", "sha256": base }, "adapter": adapter,
            "generation": generation, "since": "2026-04-08T03:00:00Z", "verdict": "better",
        });
        durable::write_json(self.contract(), &contract).unwrap();
    }
}

/// Waits for what `/health` says.
fn health(server: &Server, wanted: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let health = get(server, "/health").json();
        if wanted(&health) {
            return health;
        }
        assert!(Instant::now() < deadline, "{health}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn the_contract_is_followed() {
    let checkpoint = Checkpoint::saying("base.");
    let base = checkpoint.base();
    let digest = base.digest().to_string();
    let home = Home::new();
    let server = serve(base, |_| {});
    let said = || text(&chat(&server, &question("?", json!({}))).json()).to_owned();
    server.follow(home.contract()).unwrap();
    assert_eq!(said(), "base.", "nothing was promoted yet");

    let first = home.adapter("one", checkpoint.adapter("base.", "delta.").path());
    home.say(&digest, first.clone(), 1);
    health(&server, |health| health["generation"] == 1);
    assert_eq!(said(), "delta.");

    // One whose file changed after its digest was taken.
    let second = home.adapter("two", checkpoint.adapter("base.", "kilo.").path());
    std::fs::write(home.0.path().join("adapters/two/adapter_config.json"), "{}").unwrap();
    home.say(&digest, second, 2);
    let told = health(&server, |health| !health["problem"].is_null());
    assert!(
        told["problem"].as_str().unwrap().contains("expected an adapter with the digest"),
        "{told}"
    );
    assert_eq!((&told["generation"], &told["status"]), (&json!(1), &json!("ok")));
    assert_eq!(said(), "delta.");

    // A contract that is cut short, of another base, of a later version.
    std::fs::write(home.contract(), "{\"version\": 1,").unwrap();
    health(&server, |health| health["problem"].to_string().contains("the keys version, base"));
    home.say(&durable::digest("other").to_string(), Value::Null, 3);
    health(&server, |health| health["problem"].to_string().contains("restart it for another"));
    assert_eq!(said(), "delta.");

    home.say(&digest, Value::Null, 4);
    let told = health(&server, |health| health["generation"] == 4);
    assert!(told["problem"].is_null(), "{told}");
    assert_eq!(said(), "base.");
}

/// An adapter that a night examines by the server's weights.
#[test]
fn a_candidate_is_served_by_its_name_while_it_is_examined() {
    let checkpoint = Checkpoint::saying("base.");
    let base = checkpoint.base();
    let digest = base.digest().to_string();
    let home = Home::new();
    let server = serve(base, |_| {});
    server.follow(home.contract()).unwrap();
    let champion = home.adapter("one", checkpoint.adapter("base.", "delta.").path());
    let candidate = home.adapter("two", checkpoint.adapter("base.", "kilo.").path());
    let write = |candidate: &Value| {
        let contract = json!({
            "version": 1, "base": { "path": "/models/base", "sha256": digest }, "adapter": champion,
            "generation": 3, "candidate": candidate,
        });
        durable::write_json(home.contract(), &contract).unwrap();
    };
    let ask = |model: &str| chat(&server, &question("?", json!({ "model": model })));
    let until = |status: u16| {
        let deadline = Instant::now() + Duration::from_secs(60);
        while ask("candidate").status != status {
            assert!(Instant::now() < deadline, "{}", ask("candidate").body);
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    let swaps = || {
        let metrics = get(&server, "/metrics").body;
        metrics
            .lines()
            .find(|line| line.starts_with("nightshift_serve_swaps_total "))
            .map(str::to_owned)
    };
    write(&Value::Null);
    health(&server, |health| health["generation"] == 3);
    assert_eq!(ask("candidate").status, 404);
    let before = swaps();

    write(&candidate);
    until(200);
    assert_eq!(text(&ask("candidate").json()), "kilo.");
    assert_eq!(text(&ask("champion").json()), "delta.");
    let fingerprint = ask("candidate").json()["system_fingerprint"].as_str().unwrap().to_owned();
    let short = &candidate["digest"].as_str().unwrap()[..12];
    assert_eq!(fingerprint, format!("fp_{}_{short}_0", &digest[..12]));
    assert_eq!(swaps(), before, "the champion is not loaded anew");

    write(&Value::Null);
    until(404);
    assert_eq!(text(&ask("champion").json()), "delta.");
    // One that cannot be loaded is told, and the champion serves on.
    write(&json!({ "folder": "adapters/none", "digest": candidate["digest"] }));
    health(&server, |health| health["problem"].to_string().contains("adapters/none"));
    assert_eq!(text(&ask("champion").json()), "delta.");
    write(&Value::Null);
    health(&server, |health| health["problem"].is_null());
}

#[test]
fn contracts() {
    let home = Home::new();
    let digest = durable::digest("base").to_string();
    home.say(&digest, json!({ "folder": "adapters/x", "digest": digest }), 7);
    let contract = Contract::read(home.contract()).unwrap();
    assert_eq!(contract.base, Path::new("/models/base"));
    assert_eq!(contract.champion.generation, 7);
    assert_eq!(contract.champion.folder, Some(home.0.path().join("adapters/x")));
    std::fs::write(home.contract(), r#"{"version": 2, "base": {"path": "x", "sha256": ""}}"#)
        .unwrap();
    assert!(
        Contract::read(home.contract()).unwrap_err().to_string().contains("base.json: expected")
    );
    assert!(
        Contract::read(home.0.path().join("none.json"))
            .unwrap_err()
            .to_string()
            .contains("none.json")
    );
}

/// The lines of the log, and the file's mode.
fn lines(folder: &Path) -> Vec<Value> {
    let mut files: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|item| item.unwrap().path()).collect();
    files.sort();
    let texts = files.iter().map(|file| std::fs::read_to_string(file).unwrap());
    texts
        .flat_map(|text| {
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<_>>()
        })
        .collect()
}

fn wait_for(folder: &Path, count: usize) -> Vec<Value> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let lines = lines(folder);
        if lines.len() >= count {
            return lines;
        }
        assert!(Instant::now() < deadline, "{lines:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn chats_and_feedback_are_recorded_without_personal_data() {
    let folder = tempfile::tempdir().unwrap();
    let chats = folder.path().join("chats");
    let log = ChatLog::new(&chats).agents(vec!["windu".to_owned()]);
    let server = serve(Checkpoint::saying("on duty.").base(), |options| options.chats = Some(log));
    let ask = |agent: &str, stream: bool| {
        let more = json!({ "metadata": { "agent": agent }, "stream": stream });
        let body = question("I am at ada@example.org: are you there?", more);
        match stream {
            true => support::streamed(&server, "/v1/chat/completions", &body).0.remove(0),
            false => chat(&server, &body).json(),
        }
    };
    let id = ask("windu", false)["id"].as_str().unwrap().to_owned();
    let streamed = ask("windu", true)["id"].as_str().unwrap().to_owned();
    ask("yoda", false);
    let rows = wait_for(&chats, 2);
    let row = rows.iter().find(|row| row["id"] == id.as_str()).unwrap();
    assert!(rows.iter().any(|row| row["id"] == streamed.as_str()));
    assert_eq!(
        (&row["agent"], &row["generation"], &row["finish_reason"]),
        (&json!("windu"), &json!(0), &json!("stop"))
    );
    assert_eq!(row["messages"][1], json!({ "role": "assistant", "content": "on duty." }));
    let asked = row["messages"][0]["content"].as_str().unwrap();
    assert!(!asked.contains("ada@") && asked.ends_with(": are you there?"), "{asked}");
    #[cfg(unix)]
    for item in std::fs::read_dir(&chats).unwrap() {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(item.unwrap().metadata().unwrap().permissions().mode() & 0o077, 0);
    }

    let judge = |body: Value| post(&server, "/v1/feedback", body.to_string().as_bytes());
    assert_eq!(
        judge(json!({ "id": id, "rating": "down", "correction": "Ask bob@example.org." })).status,
        200
    );
    assert_eq!(judge(json!({ "id": streamed, "rating": "up" })).status, 200);
    let rows = wait_for(&chats, 4);
    assert_eq!((&rows[2]["feedback"], &rows[2]["good"]), (&json!(id), &json!(false)));
    let correction = rows[2]["correction"].as_str().unwrap();
    assert!(correction.starts_with("Ask ") && !correction.contains("bob@"), "{correction}");
    assert_eq!((&rows[3]["feedback"], &rows[3]["good"]), (&json!(streamed), &json!(true)));
    for (body, status) in [
        (json!({ "id": "chatcmpl-none", "rating": "up" }), 404),
        (json!({ "id": "../../etc/passwd", "rating": "up" }), 404),
        (json!({ "id": id }), 400),
        (json!({ "rating": "up" }), 400),
        (json!({ "id": id, "rating": "sideways" }), 400),
        (json!({ "id": id, "correction": "  " }), 400),
    ] {
        assert_eq!(judge(body.clone()).status, status, "{body}");
    }
    assert_eq!(lines(&chats).len(), 4);
    drop(server);

    // A later server finds the chats of an earlier one.
    let log = ChatLog::new(&chats);
    let server = serve(Checkpoint::saying("on duty.").base(), |options| options.chats = Some(log));
    let body = json!({ "id": id, "rating": "up" }).to_string();
    assert_eq!(post(&server, "/v1/feedback", body.as_bytes()).status, 200);
    let plain = serve(Checkpoint::saying("on duty.").base(), |_| {});
    assert_eq!(post(&plain, "/v1/feedback", body.as_bytes()).status, 404);
}

#[test]
fn the_page_lists_the_nights_of_a_home() {
    let home = Home::new();
    let night = |id: &str, summary: &str| {
        let folder = home.0.path().join("nights").join(id);
        std::fs::create_dir_all(folder.join("report")).unwrap();
        std::fs::write(folder.join("summary.json"), summary).unwrap();
        std::fs::write(folder.join("report/report.html"), format!("<p>the report of {id}"))
            .unwrap();
    };
    night("0001-2026-04-08", r#"{"outcome": "promoted"}"#);
    night("0002-2026-04-09", r#"{"outcome": "rolled_back"}"#);
    night("0003-2026-04-10", "{");
    std::fs::write(home.0.path().join("secret"), "MARK").unwrap();
    let checkpoint = Checkpoint::saying("base.");
    let token = "0123456789abcdef";
    let server = serve(checkpoint.base(), |options| {
        options.reports = Some(home.0.path().to_owned());
    });
    let nights = get(&server, "/v1/nights").json();
    let expected = json!([
        { "id": "0002-2026-04-09", "outcome": "rolled back" },
        { "id": "0001-2026-04-08", "outcome": "promoted" },
    ]);
    assert_eq!(nights["nights"], expected);
    let report = get(&server, "/v1/nights/0001-2026-04-08/report");
    assert_eq!((report.status, report.body.as_str()), (200, "<p>the report of 0001-2026-04-08"));
    for id in ["0003-2026-04-10", "..%2F..%2Fsecret", "..", "%2e%2e", "0001-2026-04-08%2F..", "%00"]
    {
        let reply = get(&server, &format!("/v1/nights/{id}/report"));
        assert!(
            reply.status == 404 || reply.status == 400,
            "{id}: {} {}",
            reply.status,
            reply.body
        );
        assert!(!reply.body.contains("MARK") && !reply.body.contains("the report"), "{id}");
    }
    // Only by choice, and only with the token if there is one.
    let other = serve(checkpoint.base(), |_| {});
    assert_eq!(get(&other, "/v1/nights").json()["nights"], json!([]));
    assert_eq!(get(&other, "/v1/nights/0001-2026-04-08/report").status, 404);
    let guarded = serve(checkpoint.base(), |options| {
        options.reports = Some(home.0.path().to_owned());
        options.token = Some(serve::Token::new(token.to_owned()).unwrap());
    });
    for path in ["/v1/nights", "/v1/nights/0001-2026-04-08/report"] {
        assert_eq!(get(&guarded, path).status, 401);
    }
}
