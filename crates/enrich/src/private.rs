//! Warns of rows that seem to contain personal data or secrets.

use chat_format::Conversation;
use regex::RegexSet;

use crate::mix::Warning;
use crate::{Error, Result};

const KINDS: [(&str, &str); 4] = [
    ("a mail address", r"\b[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}\b"),
    ("a phone number", r"(\+\d{1,3}[ .-]?)?(\(\d{2,4}\)[ .-]?|\b\d{3}[ .-])\d{3}[ .-]\d{2,4}\b"),
    ("an access key", r"\b(sk-[A-Za-z0-9_-]{20,}|AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{30,})\b"),
    ("a private key", r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
];

/// The contents of all messages and the arguments of their calls.
fn text(row: &Conversation) -> String {
    let mut said = Vec::new();
    for message in &row.messages {
        said.push(message.content.clone());
        said.extend(message.tool_calls.iter().map(|call| call.arguments.to_string()));
    }
    said.join("\n")
}

/// Warns of rows that seem to contain personal data or secrets.
pub(crate) fn scan(rows: &[Conversation]) -> Result<Vec<Warning>> {
    let patterns = RegexSet::new(KINDS.map(|(_, pattern)| pattern)).map_err(Error::Scan)?;
    let mut warnings = Vec::new();
    for (row, conversation) in rows.iter().enumerate() {
        for kind in patterns.matches(&text(conversation)).iter() {
            let what = KINDS.get(kind).map_or("something private", |(what, _)| what);
            warnings.push(Warning::Private { row: row + 1, what });
        }
    }
    Ok(warnings)
}

#[cfg(test)]
mod tests {
    use chat_format::Message;

    use super::*;

    fn found(content: &str) -> Vec<&'static str> {
        let row = Conversation::new(vec![Message::user(content)]);
        let what = |warning| match warning {
            Warning::Private { what, .. } => what,
            other => panic!("{other}"),
        };
        scan(&[row]).unwrap().into_iter().map(what).collect()
    }

    #[test]
    fn looks_into_the_arguments_of_calls() {
        let arguments = serde_json::json!({"to": "jo.doe@mail.example.org"});
        let mut message = Message::assistant("");
        let call = serde_json::json!({"name": "send", "arguments": arguments});
        message.tool_calls = vec![serde_json::from_value(call).unwrap()];
        let row = Conversation::new(vec![Message::user("Write to Jo."), message]);
        assert_eq!(scan(&[row]).unwrap().len(), 1);
    }

    #[test]
    fn finds_what_is_private_and_leaves_the_rest() {
        for (content, expected) in [
            ("write to jo.doe@mail.example.org", vec!["a mail address"]),
            ("call +1 555-010-9999 today", vec!["a phone number"]),
            ("token ghp_0123456789abcdefghijABCDEFGHIJ0123", vec!["an access key"]),
            ("-----BEGIN RSA PRIVATE KEY-----", vec!["a private key"]),
            ("the NAS is at 10.7.0.12, port 8443, VLAN 40, at 02:40", vec![]),
            ("10000 dollars, 9000 steps, badger 1500", vec![]),
        ] {
            assert_eq!(found(content), expected, "{content}");
        }
    }
}
