//! Nothing of a conversation leaves the machine in a notification, unless it was asked for.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;

use pipeline::config::{ModelChoice, NightFile};
use pipeline::notify::{self, Message};
use pipeline::{Night, NightConfig, Preflight};
use support::Tiny;

/// Words of every row, question and answer of the tiny night; the last one is in a row that cannot be read.
const WORDS: [&str; 6] = ["dish", "thirsty", "Guest", "tttt", "soup", "wizardry"];

/// A server that keeps all requests.
struct Webhook {
    address: String,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Webhook {
    fn start() -> Self {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/hook", server.local_addr().unwrap());
        let heard = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&heard);
        thread::spawn(move || {
            for stream in server.incoming() {
                let mut stream = stream.unwrap();
                let (mut request, mut buffer) = (Vec::new(), [0; 65_536]);
                while !is_whole(&String::from_utf8_lossy(&request)) {
                    let read = stream.read(&mut buffer).unwrap();
                    assert!(read > 0, "a request that is cut short");
                    request.extend_from_slice(&buffer[..read]);
                }
                keep.lock().unwrap().push(String::from_utf8_lossy(&request).into_owned());
                stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").unwrap();
            }
        });
        Self { address, heard }
    }
}

/// Whether the body of a request has arrived.
fn is_whole(request: &str) -> bool {
    let Some((head, body)) = request.split_once("\r\n\r\n") else { return false };
    let head = head.to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.is_some_and(|length| body.len() >= length.parse().unwrap())
}

/// A night that tells a command and a webhook. Returns what was sent by both.
struct Told {
    tiny: Tiny,
    webhook: Webhook,
}

impl Told {
    fn new() -> Self {
        Self { tiny: Tiny::new(), webhook: Webhook::start() }
    }

    fn notify(&self, format: &str, more: &str) {
        let night = fs::read_to_string(self.tiny.path("night.yaml")).unwrap();
        let night = night.split("notify:").next().unwrap();
        let command = format!("[sh, -c, 'printf %s \"$1\" >> {0}; cat >> {0}', sh]", self.told());
        let notify = format!(
            "notify: {{ webhook: \"{}\", format: {format}, command: {command}{more} }}\n",
            self.webhook.address
        );
        self.tiny.write("night.yaml", &format!("{night}{notify}"));
    }

    fn told(&self) -> String {
        self.tiny.path("told").display().to_string()
    }

    /// Sends a message in every form.
    fn send(&self, message: &Message, more: &str) {
        for format in ["json", "text", "slack", "discord", "ntfy"] {
            self.notify(format, more);
            let config = NightConfig::load(self.tiny.path("night.yaml")).unwrap();
            assert_eq!(notify::send(message, &config.notify), Vec::<String>::new());
        }
    }

    /// What was sent since the last call.
    fn sent(&self) -> Vec<String> {
        let mut sent: Vec<_> = self.webhook.heard.lock().unwrap().drain(..).collect();
        sent.push(fs::read_to_string(self.tiny.path("told")).unwrap());
        fs::remove_file(self.tiny.path("told")).unwrap();
        sent
    }
}

fn found(sent: &str) -> Vec<&'static str> {
    let sent = sent.to_lowercase();
    WORDS.into_iter().filter(|word| sent.contains(&word.to_lowercase())).collect()
}

#[test]
fn no_word_of_a_conversation_is_sent_unless_asked_for() {
    let told = Told::new();
    told.notify("json", "");
    let run = || {
        let config = NightConfig::load(told.tiny.path("night.yaml")).unwrap();
        Night::start_or_resume(config).unwrap().run(&mut |_: pipeline::Event<'_>| ())
    };
    let preflight = || {
        let file = NightFile::load(told.tiny.path("night.yaml")).unwrap();
        Preflight::new(file, ModelChoice::Default).run(&mut |_| ()).unwrap()
    };

    // A finished night, as it is sent by the night itself, and in every form.
    let summary = run().unwrap();
    let sample = summary.sample.as_ref().unwrap();
    assert!(!found(&sample.question).is_empty() && !found(&sample.after).is_empty(), "{sample:?}");
    let finished = Message::of_night(&summary);
    told.send(&finished, "");
    // A night that an unreadable row has stopped.
    let wizard = "<|im_start|>wizardry\nhm<|im_end|>\n<|im_start|>assistant\nno<|im_end|>";
    let row = serde_json::json!({ "messages": [{ "role": "user", "content": wizard }] });
    told.tiny.write("raw.jsonl", &format!("{row}\n"));
    told.notify("json", "");
    let error = run().unwrap_err();
    assert!(error.to_string().contains("wizardry"), "{error}");
    let stopped = Message::of_stopped_night("0002", &error);
    told.send(&stopped, "");
    // A preflight that fails by it, and tells of the night that stopped.
    let report = preflight();
    assert!(!found(&report.line).is_empty(), "{}", report.line);
    let checked = Message::of_preflight(&report);
    told.send(&checked, "");

    let sent = told.sent();
    // Two nights by themselves, three messages in five forms, all that the command got.
    assert_eq!(sent.len(), 2 + 15 + 1);
    for sent in &sent {
        assert_eq!(found(sent), Vec::<&str>::new(), "{sent}");
    }
    let all = sent.concat();
    for words in ["promoted", "a file, or a row", "Qwen token stripping", "0001-"] {
        assert!(all.contains(words), "{words}");
    }

    for (message, word) in [(finished, "thirsty"), (stopped, "wizardry"), (checked, "wizardry")] {
        told.send(&message, ", include_conversations: true");
        for sent in told.sent() {
            assert!(found(&sent).contains(&word), "{sent}");
        }
    }
}
