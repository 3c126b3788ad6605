//! Limits of time, memory and disk.

use std::fmt;
use std::time::Duration;

use lora_train::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Limits of a night.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Budgets {
    /// Time for the stages up to training, from each start, such as `6h` or `1h 30m`. When it is spent,
    /// training stops at a checkpoint; the exam still runs, and the result is marked as partial.
    /// Default `6h`.
    pub wall_clock: Span,
    /// Memory limit of the process, such as `60GB`. Above it, training stops at a checkpoint and
    /// starts again with a plan that needs less. `None` for no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// Free space to keep on the disk of the home. Default `1GB`.
    pub disk: Bytes,
}

impl Default for Budgets {
    fn default() -> Self {
        Self {
            wall_clock: Span(Duration::from_secs(6 * 3600)),
            memory: None,
            disk: Bytes(1_000_000_000),
        }
    }
}

/// A duration, written as `6h` or `1h 30m`.
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
        let error = || {
            let expected = "a duration such as `6h` or `1h 30m`";
            de::Error::custom(format!("expected {expected}, found {text:?}"))
        };
        let span: jiff::SignedDuration = text.parse().map_err(|_| error())?;
        Duration::try_from(span).map(Span).map_err(|_| error())
    }
}
