//! Texts of a configuration that may be secret.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

/// An address or a token. `${NAME}` stands for the environment variable `NAME`, which is read when the text is used.
///
/// It is never shown: as text, in JSON and in messages it is the names of its variables, or the host of an address.
///
/// ```
/// use pipeline::config::Secret;
///
/// let show = |text: &str| Secret::new(text).map(|secret| secret.to_string());
/// assert_eq!(show("${HOOK}").unwrap(), "${HOOK}");
/// assert_eq!(show("https://hooks.example.org/T0/B0/xyz").unwrap(), "https://hooks.example.org/…");
/// assert_eq!(show("tk_0123456789").unwrap(), "(hidden)");
/// assert!(show("${HOOK").is_err());
/// ```
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
pub struct Secret(#[schemars(with = "String")] Vec<Part>);

#[derive(Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Variable(String),
}

impl Secret {
    /// The text as a configuration has it.
    ///
    /// # Errors
    /// `${` that is not followed by a name and `}`.
    pub fn new(text: &str) -> Result<Self, String> {
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some((before, after)) = rest.split_once("${") {
            let (name, after) = after.split_once('}').ok_or(EXPECTED)?;
            if name.is_empty() || name.contains(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
                return Err(EXPECTED.to_owned());
            }
            parts.extend((!before.is_empty()).then(|| Part::Text(before.to_owned())));
            parts.push(Part::Variable(name.to_owned()));
            rest = after;
        }
        parts.extend((!rest.is_empty()).then(|| Part::Text(rest.to_owned())));
        Ok(Self(parts))
    }

    /// The text with the values of its variables.
    ///
    /// # Errors
    /// A variable that is not set, or empty; the message names it.
    pub(crate) fn reveal(&self) -> Result<String, String> {
        self.reveal_with(|name| std::env::var(name).ok())
    }

    fn reveal_with(&self, variable: impl Fn(&str) -> Option<String>) -> Result<String, String> {
        let value = |part: &Part| match part {
            Part::Text(text) => Ok(text.clone()),
            Part::Variable(name) => variable(name)
                .filter(|value| !value.is_empty())
                .ok_or_else(|| format!("expected the environment variable {name}, found it unset")),
        };
        self.0.iter().map(value).collect()
    }
}

/// Without the text itself, which may be secret.
const EXPECTED: &str =
    "expected the name of an environment variable between `${` and `}`, found something else";

impl TryFrom<String> for Secret {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::new(&text)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_variable = |part: &Part| matches!(part, Part::Variable(_));
        let written = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Variable(name) => format!("${{{name}}}"),
        };
        let text: String = self.0.iter().map(written).collect();
        match host(&text) {
            _ if self.0.iter().all(is_variable) => f.write_str(&text),
            Some((scheme, host)) => write!(f, "{scheme}://{host}/…"),
            None => f.write_str("(hidden)"),
        }
    }
}

/// Scheme and host of an address, without the name and password before the host.
fn host(address: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = address.split_once("://")?;
    let authority = rest.split(['/', '?', '#', '\\']).next()?;
    let host = authority.rsplit('@').next()?;
    (!host.is_empty() && ["http", "https"].contains(&scheme)).then_some((scheme, host))
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced_and_named_if_unset() {
        let variable = |name: &str| match name {
            "TOPIC" => Some("night".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let reveal = |text: &str| Secret::new(text).unwrap().reveal_with(variable);
        assert_eq!(
            reveal("https://ntfy.sh/${TOPIC}?x=${TOPIC}").unwrap(),
            "https://ntfy.sh/night?x=night"
        );
        assert_eq!(reveal("plain $TOPIC {TOPIC}").unwrap(), "plain $TOPIC {TOPIC}");
        for text in ["${NONE}", "${EMPTY}"] {
            let error = reveal(text).unwrap_err();
            assert!(error.contains(text.trim_matches(['$', '{', '}'])), "{error}");
        }
        for text in ["${", "${}", "a ${B", "${A B}", "${A-B}"] {
            assert_eq!(Secret::new(text).unwrap_err(), EXPECTED, "{text}");
        }
    }

    #[test]
    fn what_is_written_is_not_shown() {
        for (text, shown) in [
            ("${HOOK}", "${HOOK}"),
            ("https://example.org", "https://example.org/…"),
            ("https://example.org:8080/x/MARK", "https://example.org:8080/…"),
            ("https://example.org?key=MARK", "https://example.org/…"),
            ("https://me:MARK@example.org/x", "https://example.org/…"),
            ("https://ntfy.sh/${TOPIC}", "https://ntfy.sh/…"),
            ("MARK${TOPIC}", "(hidden)"),
            ("MARK", "(hidden)"),
            ("MARK://x/y", "(hidden)"),
            ("", ""),
        ] {
            let secret = Secret::new(text).unwrap();
            let json = serde_json::to_string(&secret).unwrap();
            assert_eq!((secret.to_string(), format!("{secret:?}")), (shown.into(), shown.into()));
            assert!(!json.contains("MARK"), "{json}");
        }
    }
}
