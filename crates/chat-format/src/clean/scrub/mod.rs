//! Finds personal data and secrets in texts, and replaces them by placeholders.

mod recognize;

use std::fmt;
use std::ops::Range;

use serde::Serialize;
use serde_json::Value;

use super::report::{Event, Tally};
use crate::draft::Draft;
use crate::{Conversation, Message};

/// A kind of personal data. [`fmt::Display`] writes it in the plural: "e-mail addresses".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Personal {
    /// E-mail addresses.
    Email,
    /// Telephone numbers: international ones, national ones with a leading zero, and North American ones.
    Phone,
    /// Bank accounts whose check digits are right.
    Iban,
    /// Payment cards whose check digit is right.
    Card,
    /// IPv4 and IPv6 addresses.
    Ip,
    /// Hardware addresses.
    Mac,
    /// Keys and tokens of known services, JSON web tokens and private keys.
    Secret,
}

impl Personal {
    /// All kinds.
    pub const ALL: [Personal; 7] = {
        use Personal::{Card, Email, Iban, Ip, Mac, Phone, Secret};
        [Secret, Email, Mac, Ip, Iban, Card, Phone]
    };

    /// The text that stands in the place of the data.
    pub fn placeholder(self) -> &'static str {
        match self {
            Personal::Email => "[EMAIL]",
            Personal::Phone => "[PHONE]",
            Personal::Iban => "[IBAN]",
            Personal::Card => "[CARD]",
            Personal::Ip => "[IP]",
            Personal::Mac => "[MAC]",
            Personal::Secret => "[SECRET]",
        }
    }

    /// The length of the data that `rest` begins with, behind the text `before`.
    fn length(self, before: &[u8], rest: &[u8]) -> Option<usize> {
        let length = match self {
            Personal::Email => recognize::email(before, rest),
            Personal::Phone => recognize::phone(before, rest),
            Personal::Iban => recognize::iban(rest),
            Personal::Card => recognize::card(before, rest),
            Personal::Ip => recognize::ipv4(before, rest).or_else(|| recognize::ipv6(rest)),
            Personal::Mac => recognize::mac(rest),
            Personal::Secret => recognize::secret(rest),
        }?;
        // Inside a longer word it is something else.
        let ends = rest
            .get(length - 1..=length)
            .is_none_or(|two| !two.iter().all(u8::is_ascii_alphanumeric));
        ends.then_some(length)
    }
}

impl fmt::Display for Personal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Personal::Email => "e-mail addresses",
            Personal::Phone => "telephone numbers",
            Personal::Iban => "bank accounts",
            Personal::Card => "payment cards",
            Personal::Ip => "IP addresses",
            Personal::Mac => "hardware addresses",
            Personal::Secret => "keys or tokens",
        })
    }
}

/// The kinds of personal data that are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Scrub(u8);

impl Scrub {
    /// None: texts stay as they are.
    pub const NONE: Scrub = Scrub(0);

    /// All kinds.
    pub fn all() -> Self {
        Personal::ALL.into_iter().fold(Scrub::NONE, Scrub::with)
    }

    /// These kinds and one more.
    #[must_use]
    pub fn with(self, kind: Personal) -> Self {
        Scrub(self.0 | 1 << kind as u8)
    }

    fn has(self, kind: Personal) -> bool {
        self.0 & 1 << kind as u8 != 0
    }

    /// The first personal data that begins at byte `from` of a text or later: its kind and its place.
    fn next(self, text: &str, from: usize) -> Option<(Personal, Range<usize>)> {
        let bytes = &text.as_bytes()[from..];
        let found = |at: usize| {
            let (before, rest) = bytes.split_at(at);
            let starts = !before.last().is_some_and(u8::is_ascii_alphanumeric);
            let begins = rest[0].is_ascii_alphanumeric() || b"+(-:_.%".contains(&rest[0]);
            let kinds =
                Personal::ALL.into_iter().filter(|kind| starts && begins && self.has(*kind));
            let mut found = kinds.filter_map(|kind| Some((kind, kind.length(before, rest)?)));
            let (kind, length) = found.next()?;
            Some((kind, from + at..from + at + length))
        };
        (0..bytes.len()).find_map(found)
    }

    /// The personal data of these kinds in a text, in order: the kind and the range of bytes of each.
    ///
    /// ```
    /// use chat_format::clean::{Personal, Scrub};
    ///
    /// let found: Vec<_> = Scrub::all().find("write to ada@example.org").collect();
    /// assert_eq!(found, [(Personal::Email, 9..24)]);
    /// ```
    pub fn find(self, text: &str) -> impl Iterator<Item = (Personal, Range<usize>)> {
        let mut done = 0;
        std::iter::from_fn(move || {
            let (kind, range) = self.next(text, done)?;
            done = range.end;
            Some((kind, range))
        })
    }

    /// The personal data of these kinds in the texts of a conversation that are scrubbed: contents, reasoning and the arguments of
    /// calls.
    pub fn find_in(self, chat: &Conversation) -> Vec<(Personal, &str)> {
        let mut texts = Vec::new();
        for Message { content, reasoning_content, tool_calls, .. } in &chat.messages {
            texts.push(content.as_str());
            texts.extend(reasoning_content.as_deref());
            tool_calls.iter().for_each(|call| collect(&call.arguments, &mut texts));
        }
        let found =
            |text| self.find(text).filter_map(move |(kind, at)| Some((kind, text.get(at)?)));
        texts.into_iter().flat_map(found).collect()
    }

    /// The text with placeholders; `None` if it holds nothing to replace.
    fn text(self, text: &str, tally: &mut Tally) -> Option<String> {
        let mut out: Option<String> = None;
        let mut done = 0;
        for (kind, range) in self.find(text) {
            let out = out.get_or_insert_default();
            out.push_str(&text[done..range.start]);
            out.push_str(kind.placeholder());
            tally.note(Event::Scrubbed(kind.placeholder()));
            done = range.end;
        }
        out.map(|out| out + &text[done..])
    }

    fn value(self, value: &mut Value, tally: &mut Tally) {
        match value {
            Value::String(text) => {
                if let Some(scrubbed) = self.text(text, tally) {
                    *text = scrubbed;
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(item, tally)),
            Value::Object(fields) => fields.values_mut().for_each(|field| self.value(field, tally)),
            _ => {}
        }
    }

    /// Replaces the data in the texts of a message and in the arguments of its calls.
    pub(super) fn message(self, message: &mut Draft<'_>, tally: &mut Tally) {
        if self == Scrub::NONE {
            return;
        }
        let texts = [Some(&mut message.content), message.reasoning_content.as_mut()];
        for text in texts.into_iter().flatten() {
            if let Some(scrubbed) = self.text(text, tally) {
                *text = scrubbed.into();
            }
        }
        message.tool_calls.iter_mut().for_each(|call| self.value(&mut call.arguments, tally));
    }
}

/// Collects the texts of a value. Keys are the names of parameters.
fn collect<'v>(value: &'v Value, texts: &mut Vec<&'v str>) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(items) => items.iter().for_each(|item| collect(item, texts)),
        Value::Object(fields) => fields.values().for_each(|field| collect(field, texts)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn personal_data_becomes_placeholders() {
        let key = "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----";
        for (text, expected) in [
            ("write to ada.l+x@example.co.uk.", "write to [EMAIL]."),
            ("call +49 (0)30 1234567, now", "call [PHONE], now"),
            ("030/1234567-0", "[PHONE]"),
            ("(555) 123-4567 or 555-123-4567", "[PHONE] or [PHONE]"),
            ("DE89 3704 0044 0532 0130 00, please", "[IBAN], please"),
            ("GB82WEST12345698765432", "[IBAN]"),
            ("card 4111 1111 1111 1111.", "card [CARD]."),
            ("378282246310005", "[CARD]"),
            ("nas 192.168.1.20:8080", "nas [IP]:8080"),
            ("at fe80::1ff:fe23:4567:890a", "at [IP]"),
            ("00:1a:2B:3c:4d:5e", "[MAC]"),
            ("key sk-abcdefghij0123456789XY end", "key [SECRET] end"),
            ("AKIAIOSFODNN7EXAMPLE", "[SECRET]"),
            (key, "[SECRET]"),
            ("-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nIBAAK", "[SECRET]"),
            (
                r#"{"k": "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n"}"#,
                r#"{"k": "[SECRET]\n"}"#,
            ),
            ("_jo@example.org_, jo@example.org...", "[EMAIL]_, [EMAIL]..."),
            ("jo@m\u{fc}ller.de--bye, jo@example.org.2", "[EMAIL]--bye, [EMAIL].2"),
            ("\u{90ae}\u{7bb1}jo@example.com\u{8054}", "\u{90ae}\u{7bb1}[EMAIL]\u{8054}"),
            ("\u{7535}\u{8bdd}+49 30 1234567", "\u{7535}\u{8bdd}[PHONE]"),
            ("1-555-123-4567 or (030) 1234567", "[PHONE] or [PHONE]"),
            ("GR1601101250000000012300695", "[IBAN]"),
        ] {
            let mut tally = Tally::default();
            let scrubbed = Scrub::all().text(text, &mut tally);
            assert_eq!(scrubbed.as_deref(), Some(expected));
            assert_eq!(Scrub::all().text(expected, &mut tally), None, "{expected}");
        }
        let only = Scrub::NONE.with(Personal::Email);
        let text = "a@b.io +4930123456789";
        assert_eq!(
            only.text(text, &mut Tally::default()).as_deref(),
            Some("[EMAIL] +4930123456789")
        );
    }

    const DATA: &[(Personal, &str)] = &[
        (Personal::Email, "jo@example.org"),
        (Personal::Ip, "192.168.1.20"),
        (Personal::Ip, "fe80::1ff:fe23:4567:890a"),
        (Personal::Mac, "00:1a:2b:3c:4d:5e"),
        (Personal::Card, "4111 1111 1111 1111"),
        (Personal::Iban, "DE89370400440532013000"),
        (Personal::Phone, "+49 30 1234567"),
        (Personal::Phone, "555-123-4567"),
        (Personal::Phone, "030/1234567"),
        (Personal::Secret, "AKIAIOSFODNN7EXAMPLE"),
        (Personal::Secret, "sk-abcdefghij0123456789XY"),
        (Personal::Secret, "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----"),
    ];

    const OTHER: &[&str] = &[
        " ",
        "\n",
        ".",
        "-",
        "--",
        "@",
        ":",
        "::",
        "/",
        "(",
        ")",
        "+",
        "\u{e9}",
        "\u{90ae}",
        "a",
        "_",
        "0",
        "1",
        "jo",
        ".org",
        "-----BEGIN ",
        "PRIVATE KEY-----",
        "version ",
        "[EMAIL]",
    ];

    proptest! {
        /// Data among words is found, all of it and nothing else.
        #[test]
        fn data_among_words_is_found(items in prop::collection::vec(prop::sample::select(DATA), 0..8)) {
            let texts: Vec<&str> = items.iter().map(|(_, text)| *text).collect();
            for between in [" and ", ", ", "\u{90ae}\u{7bb1}"] {
                let text = texts.join(between);
                let found: Vec<_> = Scrub::all().find(&text).map(|(kind, at)| (kind, &text[at])).collect();
                prop_assert_eq!(&found, &items);
            }
        }

        /// Whatever the text: places ascend, are not empty, and lie between characters.
        #[test]
        fn places_ascend(pieces in prop::collection::vec(
            prop_oneof![prop::sample::select(DATA).prop_map(|(_, text)| text), prop::sample::select(OTHER)],
            0..12,
        )) {
            let text = pieces.concat();
            let mut done = 0;
            for (kind, at) in Scrub::all().find(&text) {
                prop_assert!(done <= at.start && at.start < at.end, "{:?} {:?}", kind, text);
                prop_assert!(text.get(at.clone()).is_some(), "{:?} {:?}", kind, text);
                done = at.end;
            }
        }
    }

    #[test]
    fn what_only_looks_alike_stays() {
        for text in [
            "port 22, 8080 and 65535",
            "version 10.4.2.1, v1.2.3.4, release 1.0.0.0, 1.2.3, 256.1.1.1, 1.2.3.4.5",
            "2026-11-29, 01-12-2026, 29.11.2026 08:30:45, 12:30",
            "1,234,567.89 EUR, 5 000 000 000 000 000, 12 345 678, -1250.00",
            "4111 1111 1111 1112, 1234567890123",
            "DE89 3704 0044 0532 0130 01",
            "@home, a@b, std::vec::Vec, ::, dead::beefs",
            "sk-learn, sk-this-is-a-long-name-of-a-thing, task-abc",
            "order 4411-2233, room 101, +5 degrees, 0.5, 007",
            "[EMAIL] [IP]",
        ] {
            assert_eq!(Scrub::all().text(text, &mut Tally::default()), None, "{text}");
        }
    }
}
