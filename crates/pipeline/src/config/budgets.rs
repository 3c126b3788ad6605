use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// What a night may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Budgets {
    /// How long one start may work, as `6h` or `1h 30m`; when it is over, the stage at work stops
    /// in good order and the next start goes on from there. Default `6h`.
    pub wall_clock: Span,
}

impl Default for Budgets {
    fn default() -> Self {
        Self { wall_clock: Span(Duration::from_secs(6 * 3600)) }
    }
}

/// A length of time, written as `6h` or `1h 30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = jiff::SignedDuration::try_from(self.0).unwrap_or(jiff::SignedDuration::MAX);
        write!(f, "{span:#}")
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let refuse = || {
            let expected = "a length of time such as `6h` or `1h 30m`";
            de::Error::custom(format!("expected {expected}, found {text:?}"))
        };
        let span: jiff::SignedDuration = text.parse().map_err(|_| refuse())?;
        Duration::try_from(span).map(Span).map_err(|_| refuse())
    }
}
