//! What is posted to a webhook, in the form that its service reads.

use serde_json::{Value, json};

use crate::config::WebhookFormat;

/// The most characters of a message that Discord takes.
const DISCORD: usize = 2000;
/// The most bytes of a message that ntfy shows; it makes longer ones an attachment.
const NTFY: usize = 4096;
const CUT: &str = " …";

/// A body and its headers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Post {
    pub body: String,
    pub headers: Vec<(&'static str, &'static str)>,
}

impl Post {
    pub fn new(format: WebhookFormat, is_problem: bool, text: &str, json: &Value) -> Self {
        let object = ("Content-Type", "application/json");
        let plain = ("Content-Type", "text/plain; charset=utf-8");
        let (body, headers) = match format {
            WebhookFormat::Json => (json.to_string(), vec![object]),
            WebhookFormat::Text => (text.to_owned(), vec![plain]),
            WebhookFormat::Slack => (slack(text).to_string(), vec![object]),
            WebhookFormat::Discord => (discord(text).to_string(), vec![object]),
            WebhookFormat::Ntfy => {
                let priority = if is_problem { "high" } else { "default" };
                let headers = vec![plain, ("Title", "Nightshift"), ("Priority", priority)];
                (cut(text, NTFY, char::len_utf8), headers)
            }
        };
        Self { body, headers }
    }
}

/// <https://docs.slack.dev/messaging/formatting-message-text>: three characters are escaped, so that nothing becomes a
/// link or calls anybody; `mrkdwn` switches bold and the like off.
fn slack(text: &str) -> Value {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    json!({ "text": text, "mrkdwn": false })
}

/// <https://discord.com/developers/docs/resources/webhook#execute-webhook>: without `parse`, `@everyone` calls nobody.
fn discord(text: &str) -> Value {
    json!({ "content": cut(text, DISCORD, char::len_utf16), "allowed_mentions": { "parse": [] } })
}

/// The beginning of a text that is longer than `most`, measured by `length`.
fn cut(text: &str, most: usize, length: fn(char) -> usize) -> String {
    let size = |text: &str| text.chars().map(length).sum::<usize>();
    if size(text) <= most {
        return text.to_owned();
    }
    let mut left = most - size(CUT);
    let fits = |c: &char| {
        let fits = length(*c) <= left;
        left = left.saturating_sub(length(*c));
        fits
    };
    text.chars().take_while(fits).collect::<String>() + CUT
}

#[cfg(test)]
mod tests {
    use super::*;

    fn posted(format: WebhookFormat, text: &str) -> Post {
        Post::new(format, true, text, &json!({ "line": text, "night": "0007" }))
    }

    fn body(format: WebhookFormat, text: &str) -> Value {
        serde_json::from_str(&posted(format, text).body).unwrap()
    }

    /// The forms that the services document.
    #[test]
    fn every_service_gets_its_form() {
        const LINE: &str = "night 0007 <!channel> & @everyone *so*";
        let json = ("Content-Type", "application/json");
        let plain = ("Content-Type", "text/plain; charset=utf-8");
        assert_eq!(body(WebhookFormat::Json, LINE), json!({ "line": LINE, "night": "0007" }));
        assert_eq!(
            body(WebhookFormat::Slack, LINE),
            json!({ "text": "night 0007 &lt;!channel&gt; &amp; @everyone *so*", "mrkdwn": false })
        );
        assert_eq!(
            body(WebhookFormat::Discord, LINE),
            json!({ "content": LINE, "allowed_mentions": { "parse": [] } })
        );
        for format in [WebhookFormat::Json, WebhookFormat::Slack, WebhookFormat::Discord] {
            assert_eq!(posted(format, LINE).headers, [json]);
        }
        let expected = Post { body: LINE.to_owned(), headers: vec![plain] };
        assert_eq!(posted(WebhookFormat::Text, LINE), expected);
        let ntfy = posted(WebhookFormat::Ntfy, LINE);
        assert_eq!(ntfy.body, LINE);
        assert_eq!(ntfy.headers, [plain, ("Title", "Nightshift"), ("Priority", "high")]);
        let usual = Post::new(WebhookFormat::Ntfy, false, LINE, &Value::Null);
        assert_eq!(usual.headers[2], ("Priority", "default"));
    }

    #[test]
    fn long_texts_are_cut_to_what_a_service_takes() {
        for text in ["a".repeat(9000), "😀".repeat(5000), "ü".repeat(3000)] {
            let discord = body(WebhookFormat::Discord, &text);
            let content = discord["content"].as_str().unwrap();
            let length = content.encode_utf16().count();
            assert!(
                (DISCORD - 1..=DISCORD).contains(&length) && content.ends_with(CUT),
                "{length}"
            );
            let ntfy = posted(WebhookFormat::Ntfy, &text).body;
            assert!(
                (NTFY - 3..=NTFY).contains(&ntfy.len()) && ntfy.ends_with(CUT),
                "{}",
                ntfy.len()
            );
            assert_eq!(posted(WebhookFormat::Text, &text).body, text);
        }
        let whole = "x".repeat(DISCORD);
        assert_eq!(body(WebhookFormat::Discord, &whole)["content"], whole);
    }
}
