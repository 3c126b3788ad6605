//! Replaces personal data and secrets in texts by placeholders.

mod recognize;

use serde_json::Value;

use super::report::{Event, Tally};
use crate::draft::Draft;

/// A kind of personal data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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

    /// The length of the data that begins at byte `at`.
    fn length(self, text: &str, at: usize) -> Option<usize> {
        let (before, rest) = (&text.as_bytes()[..at], &text.as_bytes()[at..]);
        let length = match self {
            Personal::Email => recognize::email(before, rest),
            Personal::Phone => recognize::phone(before, rest),
            Personal::Iban => recognize::iban(rest),
            Personal::Card => recognize::card(before, rest),
            Personal::Ip => recognize::ipv4(before, rest).or_else(|| recognize::ipv6(rest)),
            Personal::Mac => recognize::mac(rest),
            Personal::Secret => recognize::secret(rest),
        }?;
        let next = rest.get(length);
        (!next.is_some_and(u8::is_ascii_alphanumeric)).then_some(length)
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

    /// The text with placeholders; `None` if it holds nothing to replace.
    fn text(self, text: &str, tally: &mut Tally) -> Option<String> {
        let mut out: Option<String> = None;
        let (mut at, mut done) = (0, 0);
        let bytes = text.as_bytes();
        while at < bytes.len() {
            let starts =
                at == 0 || !(bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] >= 128);
            let begins =
                bytes[at].is_ascii_alphanumeric() || matches!(bytes[at], b'+' | b'(' | b'-' | b':');
            if starts && begins {
                let kinds = Personal::ALL.into_iter().filter(|kind| self.has(*kind));
                let found = kinds.filter_map(|kind| Some((kind, kind.length(text, at)?))).next();
                if let Some((kind, length)) = found {
                    let out = out.get_or_insert_default();
                    out.push_str(&text[done..at]);
                    out.push_str(kind.placeholder());
                    tally.note(Event::Scrubbed(kind.placeholder()));
                    at += length;
                    done = at;
                    continue;
                }
            }
            at += 1;
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

#[cfg(test)]
mod tests {
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
