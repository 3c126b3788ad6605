use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread::{self, JoinHandle};

use serde_json::json;

use super::*;
use crate::error::Error;
use crate::summary;

const MARK: &str = "s3cr3t";

fn message() -> Message {
    let mut summary = summary::example();
    summary.night = "0007 \"$(rm)\"\nsecond line\0".to_owned();
    Message::of_night(&summary)
}

fn webhook(address: &str) -> Notify {
    Notify { webhook: Some(Secret::new(address).unwrap()), ..Notify::default() }
}

#[cfg(unix)]
#[test]
fn a_command_gets_the_line_and_the_json() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"printf '%s' "$2" > "$1/line"; cat > "$1/json""#;
    let command = ["sh", "-c", script, "sh", dir.path().to_str().unwrap()];
    let notify = Notify { command: command.map(str::to_owned).into(), ..Notify::default() };
    assert_eq!(send(&message(), &notify), Vec::<String>::new());
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    assert_eq!(read("line"), message().text(false));
    assert!(read("line").starts_with("night 0007 \"$(rm)\" second line  rolled back"));
    let json: Value = serde_json::from_str(&read("json")).unwrap();
    assert_eq!((&json["line"], &json["outcome"]), (&json!(read("line")), &json!("rolled_back")));
}

/// A server for one request, and the request that it gets.
fn listen() -> (String, JoinHandle<String>) {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", server.local_addr().unwrap());
    let heard = thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        let mut request = Vec::new();
        let mut buffer = [0; 4096];
        let is_whole = |request: &[u8]| {
            let text = String::from_utf8_lossy(request);
            let (head, body) = text.split_once("\r\n\r\n")?;
            let length = head.to_lowercase().split_once("content-length: ")?.1.to_owned();
            (body.len() >= length.lines().next()?.parse().ok()?).then_some(())
        };
        while is_whole(&request).is_none() {
            let read = stream.read(&mut buffer).unwrap();
            assert!(read > 0, "{request:?}");
            request.extend_from_slice(&buffer[..read]);
        }
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
        String::from_utf8(request).unwrap()
    });
    (address, heard)
}

#[test]
fn a_webhook_gets_one_post_with_the_token() {
    let (address, heard) = listen();
    // Cargo sets the variable for tests.
    let token = Some(Secret::new("tk_${CARGO_PKG_NAME}").unwrap());
    let notify = Notify { token, ..webhook(&format!("{address}/${{CARGO_PKG_NAME}}")) };
    assert_eq!(send(&message(), &notify), Vec::<String>::new());
    let request = heard.join().unwrap();
    assert!(
        request.starts_with("POST /nightshift-pipeline ") && request.contains("\"night\":\"0007")
    );
    assert!(request.to_lowercase().contains("authorization: bearer tk_nightshift-pipeline\r\n"));
}

#[test]
fn failed_notifications_are_returned_without_their_secrets() {
    for (address, words) in [
        (format!("http://127.0.0.1:1/{MARK}"), ""),
        (format!("http://{MARK}:{MARK}@127.0.0.1:1/"), ""),
        (format!("no address {MARK}"), ""),
        (format!("ftp://example.org/{MARK}"), ""),
        (format!("http://127.0.0.1:1/${{{MARK}}}"), "expected the environment variable s3cr3t"),
    ] {
        let token = Some(Secret::new(MARK).unwrap());
        let notify =
            Notify { command: vec!["/no/such/program".into()], token, ..webhook(&address) };
        let problems = send(&message(), &notify);
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(
            problems[1].starts_with("webhook: ") && problems[1].contains(words),
            "{problems:?}"
        );
        assert!(!words.is_empty() || !problems[1].contains(MARK), "{problems:?}");
        assert!(!words.is_empty() || !format!("{notify:?}").contains(MARK), "{notify:?}");
    }
    assert_eq!(send(&message(), &Notify::default()), Vec::<String>::new());
}

/// Whatever an error quotes, a notification has its kind only, unless it was asked for.
#[test]
fn messages_of_errors_are_private() {
    let path = || MARK.into();
    let errors = [
        Error::Config { path: path(), reason: MARK.into() },
        Error::Record { path: path(), line: Some(1), expected: "a row", found: MARK.into() },
        Error::UnknownAdapter { path: path(), wanted: MARK.into(), held: MARK.into() },
        Error::OutOfMemory { reason: MARK.into() },
        Error::Pinned { path: path(), reason: MARK.into() },
        Error::Schedule { command: MARK.into(), reason: MARK.into() },
    ];
    for error in errors {
        assert!(error.to_string().contains(MARK), "{error}");
        let message = Message::of_stopped_night("0007", &error);
        assert!(message.is_problem());
        let sent = message.text(false) + &message.json(false).to_string();
        assert!(!sent.contains(MARK) && sent.contains(error.kind()), "{sent}");
        let sent = [message.text(true), message.json(true).to_string()];
        assert!(sent.iter().all(|sent| sent.contains(MARK)), "{sent:?}");
    }
}
