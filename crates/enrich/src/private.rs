//! Warns of rows that seem to contain personal data or secrets, as `convert --scrub` recognizes them.

use std::collections::BTreeMap;

use chat_format::Conversation;
use chat_format::clean::{Personal, Scrub};

use crate::mix::Warning;

/// How many rows a warning names.
const NAMED: usize = 3;

/// One warning for each kind of personal data in the rows, which `name` names.
pub(crate) fn scan(rows: &[Conversation], name: impl Fn(usize) -> String) -> Vec<Warning> {
    let mut found: BTreeMap<Personal, (usize, Vec<String>)> = BTreeMap::new();
    for (row, conversation) in rows.iter().enumerate() {
        for kind in Scrub::all().count(conversation).into_keys() {
            let (rows, first) = found.entry(kind).or_default();
            *rows += 1;
            if first.len() < NAMED {
                first.push(name(row));
            }
        }
    }
    let warning = |(kind, (rows, first))| Warning::Private { kind, rows, first };
    found.into_iter().map(warning).collect()
}

#[cfg(test)]
mod tests {
    use chat_format::Message;

    use super::*;

    #[test]
    fn rows_are_counted_by_kind_and_the_first_are_named() {
        let call = serde_json::json!({"name": "send", "arguments": {"to": ["jo@example.org"]}});
        let mut calls = Message::assistant("");
        calls.tool_calls = vec![serde_json::from_value(call).unwrap()];
        let mut thinks = Message::assistant("I call.");
        thinks.reasoning_content = Some("jo@example.org".to_owned());
        let mut rows = vec![Conversation::new(vec![Message::user("Write to Jo."), calls])];
        rows.push(Conversation::new(vec![Message::user("At 02:40, port 8443, VLAN 40.")]));
        rows.push(Conversation::new(vec![Message::user("Call +1 555-010-9999."), thinks]));
        let mail = Message::user("jo@example.org, or bo@example.org");
        rows.extend((0..5).map(|_| Conversation::new(vec![mail.clone()])));
        let private = |kind, rows, first: &[&str]| Warning::Private {
            kind,
            rows,
            first: first.iter().map(|name| (*name).to_owned()).collect(),
        };
        assert_eq!(
            scan(&rows, |row| format!("a.jsonl:{}", row + 1)),
            [
                private(Personal::Email, 7, &["a.jsonl:1", "a.jsonl:3", "a.jsonl:4"]),
                private(Personal::Phone, 1, &["a.jsonl:3"]),
            ]
        );
        let text = private(Personal::Email, 7, &["a.jsonl:1", "a.jsonl:3"]).to_string();
        assert_eq!(text, "7 rows seem to hold e-mail addresses: a.jsonl:1, a.jsonl:3 and 5 more");
    }
}
