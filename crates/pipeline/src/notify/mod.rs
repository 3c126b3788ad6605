//! Notifications when a night ends or a preflight finds a problem.

mod message;
mod post;

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

pub use message::Message;

use crate::config::{Notify, Secret};
use crate::program;
use post::Post;

/// Time limit for each notification.
const TIME_LIMIT: Duration = Duration::from_secs(20);

/// Sends the message everywhere that `to` says. A failed notification is logged and does not fail the night.
/// Returns the failures, without the addresses and tokens that `to` has.
pub fn send(message: &Message, to: &Notify) -> Vec<String> {
    let text = message.text(to.include_conversations);
    let json = message.json(to.include_conversations);
    let mut problems = Vec::new();
    let mut note = |what: &str, result: Result<(), String>| {
        if let Err(error) = result {
            tracing::warn!(what, error, "notification failed");
            problems.push(format!("{what}: {error}"));
        }
    };
    if let [program, arguments @ ..] = to.command.as_slice() {
        let mut command = Command::new(program);
        command.args(arguments).arg(&text);
        note("command", program::run(command, json.to_string().as_bytes(), TIME_LIMIT));
    }
    if let Some(address) = &to.webhook {
        note("webhook", post(address, to, message, &text, &json));
    }
    if to.desktop && cfg!(target_os = "macos") {
        let mut command = Command::new("osascript");
        // The text is passed as an argument, not inserted into the script: it may contain quotes.
        command.args(["-e", SCRIPT, &text]);
        note("desktop", program::run(command, &[], TIME_LIMIT));
    }
    problems
}

const SCRIPT: &str =
    "on run argv\ndisplay notification (item 1 of argv) with title \"Nightshift\"\nend run";

fn post(
    address: &Secret,
    to: &Notify,
    message: &Message,
    text: &str,
    json: &Value,
) -> Result<(), String> {
    let address = address.reveal()?;
    let token = to.token.as_ref().map(Secret::reveal).transpose()?;
    let Post { body, headers } =
        Post::new(to.format.unwrap_or_default(), message.is_problem(), text, json);
    let agent = ureq::Agent::config_builder().timeout_global(Some(TIME_LIMIT)).build().new_agent();
    let mut request = agent.post(&address);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    if let Some(token) = &token {
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    let result = request.send(body.as_bytes());
    // An error may quote what it is about.
    let hide = |error: ureq::Error| {
        let secrets = std::iter::once(&address).chain(&token);
        secrets.fold(error.to_string(), |text, secret| text.replace(secret.as_str(), "(hidden)"))
    };
    result.map(drop).map_err(hide)
}

#[cfg(test)]
mod tests;
