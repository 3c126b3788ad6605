//! Notifications when a night ends or a preflight fails.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Time limit for each notification.
const TIME_LIMIT: Duration = Duration::from_secs(20);

/// Where notifications go. Nothing leaves the machine unless a `webhook` is set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[serde(default, deny_unknown_fields)]
pub struct Notify {
    /// A program and its arguments. The line is added as the last argument; the whole message is
    /// written to its standard input as JSON.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// An `http` or `https` URL to which the message is posted as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<String>,
    /// Whether to show a desktop notification; macOS only.
    pub desktop: bool,
}

/// A notification: one line, and the data behind it.
#[derive(Debug, Clone, Serialize)]
pub struct Message {
    line: String,
    #[serde(flatten)]
    body: Value,
}

impl Message {
    /// A message. `body` is a JSON object; its keys are added beside `line`.
    pub fn new(line: String, body: Value) -> Self {
        Self { line, body }
    }
}

impl Notify {
    /// Sends the message everywhere. A failed notification is logged and does not fail the night.
    /// Returns the failures.
    pub fn send(&self, message: &Message) -> Vec<String> {
        let mut problems = Vec::new();
        let mut note = |what: &str, result: Result<(), String>| {
            if let Err(error) = result {
                tracing::warn!(what, error, "notification failed");
                problems.push(format!("{what}: {error}"));
            }
        };
        let json = serde_json::to_vec(message).unwrap_or_default();
        if let [program, arguments @ ..] = self.command.as_slice() {
            let mut command = Command::new(program);
            command.args(arguments).arg(&message.line);
            note("command", run(command, &json, TIME_LIMIT));
        }
        if let Some(address) = &self.webhook {
            note("webhook", post(address, &json));
        }
        if self.desktop && cfg!(target_os = "macos") {
            let mut command = Command::new("osascript");
            // The line is passed as an argument, not inserted into the script: it may contain quotes.
            command.args(["-e", SCRIPT, &message.line]);
            note("desktop", run(command, &[], TIME_LIMIT));
        }
        problems
    }
}

const SCRIPT: &str =
    "on run argv\ndisplay notification (item 1 of argv) with title \"Nightshift\"\nend run";

/// Runs a program until it ends or the time limit is reached.
pub(crate) fn run(mut command: Command, input: &[u8], limit: Duration) -> Result<(), String> {
    let text = |e: std::io::Error| e.to_string();
    let quiet = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = quiet.spawn().map_err(text)?;
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_vec();
        // On a thread of its own, as the program may not read its input. A broken pipe is ignored:
        // the exit status tells whether the program failed.
        thread::spawn(move || stdin.write_all(&input));
    }
    match wait(&mut child, limit).map_err(text)? {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(status.to_string()),
        None => {
            child.kill().and_then(|()| child.wait()).map_err(text)?;
            Err(format!("still running after {} s; stopped", limit.as_secs()))
        }
    }
}

fn wait(child: &mut Child, limit: Duration) -> std::io::Result<Option<std::process::ExitStatus>> {
    let begun = Instant::now();
    while begun.elapsed() < limit {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(None)
}

fn post(address: &str, json: &[u8]) -> Result<(), String> {
    let agent = ureq::Agent::config_builder().timeout_global(Some(TIME_LIMIT)).build().new_agent();
    let request = agent.post(address).header("content-type", "application/json");
    request.send(json).map(drop).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use serde_json::json;

    use super::*;

    fn message() -> Message {
        Message::new("night 0007 promoted; \"$(rm)\"".to_owned(), json!({ "night": "0007" }))
    }

    #[cfg(unix)]
    #[test]
    fn a_command_gets_the_line_and_the_json() {
        let dir = tempfile::tempdir().unwrap();
        let script = r#"printf '%s' "$2" > "$1/line"; cat > "$1/json""#;
        let command = ["sh", "-c", script, "sh", dir.path().to_str().unwrap()];
        let notify = Notify { command: command.map(str::to_owned).into(), ..Notify::default() };
        assert_eq!(notify.send(&message()), Vec::<String>::new());
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(read("line"), message().line);
        let json: Value = serde_json::from_str(&read("json")).unwrap();
        assert_eq!((&json["line"], &json["night"]), (&json!(message().line), &json!("0007")));
    }

    #[test]
    fn a_webhook_gets_one_post() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/hook", server.local_addr().unwrap());
        let heard = thread::spawn(move || {
            let (mut stream, _) = server.accept().unwrap();
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            while !request.ends_with(b"}") {
                let read = stream.read(&mut buffer).unwrap();
                request.extend_from_slice(&buffer[..read]);
            }
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
            String::from_utf8(request).unwrap()
        });
        let notify = Notify { webhook: Some(address), ..Notify::default() };
        assert_eq!(notify.send(&message()), Vec::<String>::new());
        let request = heard.join().unwrap();
        assert!(request.starts_with("POST /hook ") && request.contains("\"night\":\"0007\""));
    }

    #[test]
    fn failed_notifications_are_returned() {
        let notify = Notify {
            command: vec!["/no/such/program".into()],
            webhook: Some("http://127.0.0.1:1/".into()),
            desktop: false,
        };
        let problems = notify.send(&message());
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert_eq!(Notify::default().send(&message()), Vec::<String>::new());
    }
}
