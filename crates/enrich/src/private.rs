//! Warns of rows that seem to contain personal data or secrets, as `convert --scrub` recognizes them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use chat_format::Conversation;
use chat_format::clean::{Personal, Scrub};

use crate::mix::Warning;

/// How many rows a warning names.
const NAMED: usize = 3;

/// One warning for each kind of personal data in the rows, which `name` names.
pub(crate) fn scan(rows: &[Conversation], name: impl Fn(usize) -> String) -> Vec<Warning> {
    let mut found: BTreeMap<Personal, (usize, Vec<String>)> = BTreeMap::new();
    for (row, conversation) in rows.iter().enumerate() {
        let personal = Scrub::all().find_in(conversation).into_iter();
        let personal = personal.filter(|(_, text)| !is_local_address(text));
        for kind in personal.map(|(kind, _)| kind).collect::<BTreeSet<_>>() {
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

/// Whether a text is an address inside a home: it says nothing outside of it, and a household's assistant has to know it.
fn is_local_address(text: &str) -> bool {
    match text.parse() {
        Ok(IpAddr::V4(address)) => {
            address.is_private()
                || address.is_loopback()
                || address.is_link_local()
                || address.is_unspecified()
        }
        Ok(IpAddr::V6(address)) => {
            address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
        }
        Err(_) => false,
    }
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
        rows.push(Conversation::new(vec![Message::user(
            "10.7.0.12 at 02:40, port 8443, VLAN 40.",
        )]));
        rows.push(Conversation::new(vec![
            Message::user("Call +1 555-010-9999 from 203.0.113.7."),
            thinks,
        ]));
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
                private(Personal::Ip, 1, &["a.jsonl:3"]),
            ]
        );
        let text = private(Personal::Email, 7, &["a.jsonl:1", "a.jsonl:3"]).to_string();
        assert_eq!(text, "7 rows seem to hold e-mail addresses: a.jsonl:1, a.jsonl:3 and 5 more");
    }
}
