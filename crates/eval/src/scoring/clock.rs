//! Times of day in an answer: 20:30, 8:30 PM, half past eight in the evening.

use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::negation;
use super::number::word_value;
use super::patterns::pattern;
use super::text::Text;

/// A time of day in minutes, as far as the text says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Time {
    /// On the 24-hour clock.
    Exact(u32),
    /// On the 12-hour clock, in the morning or the evening.
    Either(u32),
}

impl Time {
    fn can_be(self, minutes: u32) -> bool {
        match self {
            Time::Exact(found) => found == minutes,
            Time::Either(found) => found % 720 == minutes % 720,
        }
    }
}

/// The minutes of "20:30".
pub(crate) fn minutes(text: &str) -> Option<u32> {
    let (hour, minute) = text.split_once(':')?;
    let (hour, minute): (u32, u32) = (hour.parse().ok()?, minute.parse().ok()?);
    (hour < 24 && minute < 60 && text.len() >= 4).then_some(hour * 60 + minute)
}

/// Whether the answer names this time of day, and whether it names another one. The question's times do not count as
/// another.
pub(crate) fn names(answer: &Text, question: &Text, expected: u32) -> (bool, bool) {
    let given = times(question);
    let mut named = (false, false);
    for time in times(answer) {
        if time.can_be(expected) {
            named.0 = true;
        } else if !given.contains(&time) {
            named.1 = true;
        }
    }
    named
}

fn times(text: &Text) -> Vec<Time> {
    static DIGITS: LazyLock<Regex> = LazyLock::new(|| {
        pattern(
            r"(?x) \b (?P<hour>2[0-4]|[01]?\d) (?:[:h.](?P<minute>[0-5]\d))? (?: \s? (?P<half>[ap])\.?m\b\.? | \s(?P<sharp>o'clock) )?",
        )
    });
    static WORDS: LazyLock<Regex> = LazyLock::new(|| {
        let hour = "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve";
        let minute = "five|ten|fifteen|twenty|twenty[- ]five|thirty|thirty[- ]five|forty|forty[- ]five|fifty|fifty[- ]five";
        pattern(&format!(
            r"(?x) \b(?: (?P<part>half|(?:a\s)?quarter|{minute}|\d{{1,2}})(?:\sminutes)?\s(?P<side>past|after|to|before)\s(?P<of>{hour}|\d{{1,2}})
              | (?P<at>{hour}) (?: \so'clock | [\s-](?P<then>{minute}) (?: \s?[ap]\.?m\b | \sin\sthe ) ) )\b",
        ))
    });
    static NAMED: LazyLock<Regex> =
        LazyLock::new(|| pattern(r"\b(?P<name>noon|midday|midnight)\b"));
    let said = text.folded();
    let asserted = |found: &Captures<'_>| {
        found.get(0).is_some_and(|at| !negation::is_denied(said, &at.range()))
    };
    let digits =
        DIGITS.captures_iter(said).filter(asserted).filter_map(|found| in_digits(said, &found));
    let words =
        WORDS.captures_iter(said).filter(asserted).filter_map(|found| in_words(said, &found));
    let named = NAMED.captures_iter(said).filter(asserted).filter_map(|found| {
        Some(Time::Exact(if found.name("name")?.as_str() == "midnight" { 0 } else { 720 }))
    });
    digits.chain(words).chain(named).collect()
}

fn in_digits(said: &str, found: &Captures<'_>) -> Option<Time> {
    let at = found.get(0)?;
    // Digits of an address, a longer number or a version are no time.
    let glued =
        |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || matches!(c, ':' | '_' | '$'));
    let before = said.get(..at.start())?.chars().next_back();
    let mut after = said.get(at.end()..)?.chars();
    let follows = after.next();
    let goes_on = matches!(follows, Some('.' | ',' | ':'))
        && after.next().is_some_and(|c| c.is_ascii_digit());
    if glued(before) || before == Some('.') || glued(follows) || goes_on {
        return None;
    }
    let hour: u32 = found.name("hour")?.as_str().parse().ok()?;
    let minute = found.name("minute").and_then(|m| m.as_str().parse().ok());
    let half = found
        .name("half")
        .map(|half| half.as_str() == "p")
        .or_else(|| half_of_day(said.get(at.end()..)?));
    // "2.40" without more is a number.
    let dotted = at.as_str().contains('.');
    let bare = minute.is_none() && found.name("sharp").is_none();
    if half.is_none() && (dotted || bare) {
        return None;
    }
    on_clock(hour, minute.unwrap_or(0), half, minute.is_none())
}

fn in_words(said: &str, found: &Captures<'_>) -> Option<Time> {
    let half = half_of_day(said.get(found.get(0)?.end()..)?);
    let number = |name: &str| -> Option<u32> {
        let text = found.name(name)?.as_str();
        let spelled = || {
            text.split([' ', '-']).map(word_value).sum::<Option<f64>>().map(|value| value as u32)
        };
        text.parse().ok().or_else(spelled)
    };
    if let Some(hour) = number("at") {
        return on_clock(hour, number("then").unwrap_or(0), half, true);
    }
    let part = match found.name("part")?.as_str() {
        "half" => 30,
        part if part.ends_with("quarter") => 15,
        _ => number("part")?,
    };
    let hour = number("of")?;
    match found.name("side")?.as_str() {
        "past" | "after" => on_clock(hour, part, half, true),
        _ => on_clock(
            if hour == 1 { 12 } else { hour.checked_sub(1)? },
            60_u32.checked_sub(part)?,
            half,
            true,
        ),
    }
}

/// A time from its parts; `half` is whether it is after noon, if that is said, and `spoken` a way of telling the time that
/// leaves it open.
fn on_clock(hour: u32, minute: u32, half: Option<bool>, spoken: bool) -> Option<Time> {
    if hour > 24 || minute > 59 {
        return None;
    }
    Some(match half {
        Some(evening) if hour <= 12 => {
            Time::Exact((hour % 12 + if evening { 12 } else { 0 }) * 60 + minute)
        }
        _ if spoken && (1..=12).contains(&hour) => Time::Either(hour * 60 + minute),
        _ => Time::Exact(hour % 24 * 60 + minute),
    })
}

/// "In the evening" and the like behind a time.
fn half_of_day(after: &str) -> Option<bool> {
    static HALF: LazyLock<Regex> = LazyLock::new(|| {
        pattern(
            r"^,? (?:sharp )?(?:in the (?P<of>morning|afternoon|evening)|at (?P<night>night)|tonight|each evening)\b",
        )
    });
    let found = HALF.captures(after)?;
    Some(found.name("of").is_none_or(|of| of.as_str() != "morning"))
}
