//! Limits of time, memory and disk.

use std::fmt;
use std::time::Duration;

use jiff::civil::{Date, Time};
use jiff::{SignedDuration, Timestamp, Zoned};
use lora_train::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::error::{Error, Result};

/// Limits of a night.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Budgets {
    /// Time of a night, from its first start, such as `6h` or `1h 30m`. Training stops at a checkpoint in time to leave
    /// [`exams`](Self::exams) for what follows, and the result is marked as partial. Exams that are not over when the time
    /// is spent stop too, and the candidate is refused. Default `6h`.
    pub wall_clock: Span,
    /// The part of `wall_clock` for exams, gate and smoke test. Default: an eighth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exams: Option<Span>,
    /// Local time of day, such as `"07:30"`, at which a night ends whatever is left of `wall_clock`. No night begins within
    /// twelve hours after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_after: Option<TimeOfDay>,
    /// Memory limit of the process, such as `60GB`. Above it, training stops at a checkpoint and
    /// starts again with a plan that needs less. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// Free space to keep on the disk of the home. Default `1GB`.
    pub disk: Bytes,
}

impl Default for Budgets {
    fn default() -> Self {
        Self {
            wall_clock: Span(Duration::from_secs(6 * 3600)),
            exams: None,
            not_after: None,
            memory: None,
            disk: Bytes(1_000_000_000),
        }
    }
}

impl Budgets {
    /// The time of a night that training leaves for exams.
    pub(crate) fn for_exams(&self) -> Duration {
        self.exams.map_or(self.wall_clock.0 / 8, |exams| exams.0)
    }

    /// When a night that began at `begun` has to be over; `None` if that is beyond the calendar.
    pub(crate) fn end(&self, begun: &Zoned) -> Option<Timestamp> {
        let length = SignedDuration::try_from(self.wall_clock.0).ok();
        let spent = length.and_then(|length| begun.timestamp().checked_add(length).ok());
        let closes = self.not_after.and_then(|time| time.nearest(begun));
        spent.into_iter().chain(closes).min()
    }

    /// Refuses to begin a night after the time at which nights end.
    ///
    /// # Errors
    /// [`Error::TooLate`].
    pub(crate) fn check_start(&self, now: &Zoned) -> Result<()> {
        let over = self.end(now).is_some_and(|end| end <= now.timestamp());
        match self.not_after.filter(|_| over && !self.wall_clock.0.is_zero()) {
            Some(not_after) => Err(Error::TooLate {
                not_after: not_after.to_string(),
                now: now.strftime("%H:%M").to_string(),
            }),
            None => Ok(()),
        }
    }

    /// Why a wrong value is wrong.
    pub(super) fn problem(&self) -> Option<String> {
        let exams = self.exams.filter(|exams| exams.0 >= self.wall_clock.0)?;
        let wall_clock = self.wall_clock;
        Some(format!("budgets.exams: expected less than wall_clock, {wall_clock}; found {exams}"))
    }
}

/// A local time of day, written as `"07:30"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(inline, extend("format" = "time of day such as `\"07:30\"`"))]
pub struct TimeOfDay(#[schemars(with = "String")] pub Time);

impl TimeOfDay {
    /// The instant nearest to `now` at which clocks show this time. Of a time that they skip, the instant after.
    pub(crate) fn nearest(self, now: &Zoned) -> Option<Timestamp> {
        let dates = [now.date().yesterday().ok(), Some(now.date()), now.date().tomorrow().ok()];
        let at = |date: Date| {
            let at = date.to_datetime(self.0).to_zoned(now.time_zone().clone()).ok()?;
            Some(at.timestamp())
        };
        let all = dates.into_iter().flatten().filter_map(at);
        all.min_by_key(|at| at.duration_since(now.timestamp()).abs())
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.strftime("%H:%M"))
    }
}

impl Serialize for TimeOfDay {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TimeOfDay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time = Time::strptime("%H:%M", &text).map(TimeOfDay);
        time.map_err(|_| {
            de::Error::custom(format!("expected a time of day such as \"07:30\", found {text:?}"))
        })
    }
}

/// A duration, written as `6h` or `1h 30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(inline, extend("format" = "duration such as `1h 30m`"))]
pub struct Span(#[schemars(with = "String")] pub Duration);

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

#[cfg(test)]
mod tests {
    use super::*;

    /// When a night with these budgets has to be over, in local time.
    fn end(begun: &str, wall_clock: &str, not_after: &str) -> String {
        let text = format!("{{ wall_clock: {wall_clock}, not_after: \"{not_after}\" }}");
        let budgets: Budgets = serde_saphyr::from_str(&text).unwrap();
        let begun: Zoned = begun.parse().unwrap();
        let end = budgets.end(&begun).unwrap().to_zoned(begun.time_zone().clone());
        end.strftime("%d %H:%M %Z").to_string()
    }

    #[test]
    fn a_night_ends_when_its_time_is_spent_or_the_morning_comes() {
        for (begun, wall_clock, not_after, expected) in [
            ("2026-04-08T01:00[Europe/London]", "6h", "07:30", "08 07:00 BST"),
            ("2026-04-08T03:20[Europe/London]", "6h", "07:30", "08 07:30 BST"),
            ("2026-04-07T22:00[Europe/London]", "12h", "07:30", "08 07:30 BST"),
            // A lid opened at nine: it is over before it begins.
            ("2026-04-08T09:00[Europe/London]", "6h", "07:30", "08 07:30 BST"),
            ("2026-04-08T19:20[Europe/London]", "6h", "07:30", "08 07:30 BST"),
            ("2026-04-08T19:40[Europe/London]", "6h", "07:30", "09 01:40 BST"),
            // Clocks are set forward and back: a budget is a duration, the morning a time of day.
            ("2026-03-29T00:30[Europe/London]", "6h", "07:30", "29 07:30 BST"),
            ("2026-03-29T00:30[Europe/London]", "5h", "07:30", "29 06:30 BST"),
            ("2026-10-25T00:30[Europe/London]", "6h", "07:30", "25 05:30 GMT"),
            ("2026-10-25T00:30[Europe/London]", "9h", "07:30", "25 07:30 GMT"),
            // A time that the clocks skip.
            ("2026-03-29T00:30[Europe/London]", "6h", "01:30", "29 02:30 BST"),
        ] {
            assert_eq!(end(begun, wall_clock, not_after), expected, "{begun} {wall_clock}");
        }
    }

    #[test]
    fn wrong_times_are_refused_with_what_was_found() {
        for (text, words) in [
            ("{ not_after: 25:00 }", "a time of day such as \"07:30\", found \"25:00\""),
            ("{ not_after: morning }", "found \"morning\""),
            ("{ exams: soon }", "a duration such as `6h`"),
        ] {
            let error = serde_saphyr::from_str::<Budgets>(text).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let budgets: Budgets = serde_saphyr::from_str("{ wall_clock: 1h, exams: 1h }").unwrap();
        assert!(budgets.problem().unwrap().contains("less than wall_clock, 1h; found 1h"));
        assert_eq!(Budgets::default().for_exams(), Duration::from_secs(45 * 60));
    }
}
