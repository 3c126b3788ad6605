//! Quantities in an answer: digits and number words with their units.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use super::negation;
use super::patterns::pattern;
use super::text::{Text, stands_alone};
use super::unit::Unit;

/// A number that a text names, with the word right behind it.
#[derive(Clone, Debug, PartialEq)]
struct Quantity {
    value: f64,
    /// The unit, if the word behind the number (or a sign before it) is one.
    unit: Option<Unit>,
    /// Where it stands in the folded text, the unit included.
    at: Range<usize>,
    /// Where the number alone ends.
    digits_end: usize,
}

/// How an answer stands to an expected number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stated {
    /// It names the number and no other that could be meant.
    Expected,
    /// It names another number, alone or beside the expected one.
    Other,
    /// It names no number.
    Nothing,
}

/// What a `number` rule expects.
#[derive(Clone, Copy)]
pub(crate) struct Expected<'a> {
    pub(crate) value: f64,
    pub(crate) tolerance: f64,
    pub(crate) unit: Option<&'a str>,
}

impl Expected<'_> {
    /// How the answer to the question stands to the number.
    ///
    /// A number may be written in digits or words, and in another unit of the same kind ("a week" for 7 days). A bare
    /// number suffices if the question names the unit ("How many days ...?"). Numbers that the answer denies, repeats from
    /// the question, or gives in a unit of another kind do not count.
    pub(crate) fn stated(&self, answer: &Text, question: &Text) -> Stated {
        let asked = asked_unit(question.folded());
        let wanted = self.unit.map(str::to_lowercase);
        let unit = wanted.as_deref().map_or(asked, Unit::named);
        let same_kind =
            |a: Option<Unit>, b: Option<Unit>| a.map(|u| u.measures) == b.map(|u| u.measures);
        let bare_suffices = wanted.is_none() || (asked.is_some() && same_kind(asked, unit));
        let given: Vec<f64> =
            quantities(question.folded()).map(|quantity| quantity.value).collect();
        let said = answer.folded();
        let has_word = |quantity: &Quantity| match wanted.as_deref().filter(|_| unit.is_none()) {
            Some(word) => has_unit(said.get(quantity.digits_end..).unwrap_or_default(), word),
            None => true,
        };
        let (mut expected, mut others) = (Vec::new(), Vec::new());
        for quantity in
            quantities(said).filter(|q| !negation::is_denied(said, &q.at) && has_word(q))
        {
            let value = match (quantity.unit, unit) {
                (Some(found), Some(unit)) if found.measures != unit.measures => continue,
                (Some(found), Some(unit)) => quantity.value * found.factor / unit.factor,
                (None, Some(_)) if !bare_suffices => continue,
                _ => quantity.value,
            };
            let close =
                (value - self.value).abs() <= self.tolerance + 1e-9 * self.value.abs().max(1e-300);
            if close {
                expected.push(quantity.unit);
            } else if !given.contains(&quantity.value) {
                others.push(quantity.unit);
            }
        }
        // Beside the expected number one of another unit is about something else ("port 8123, within 5 minutes").
        let competes = |other: &Option<Unit>| {
            expected.is_empty()
                || expected.iter().any(|found| same_kind(*found, *other))
                || other.is_none()
        };
        match (expected.is_empty(), others.iter().any(competes)) {
            (_, true) => Stated::Other,
            (false, false) => Stated::Expected,
            (true, false) => Stated::Nothing,
        }
    }
}

/// The unit of "how many UNIT" or "in UNIT", if the question asks so.
fn asked_unit(question: &str) -> Option<Unit> {
    static ASKED: LazyLock<Regex> =
        LazyLock::new(|| pattern(r"\b(?:how many|number of|, in) (?P<unit>[a-z]+)\b"));
    ASKED.captures_iter(question).find_map(|found| Unit::named(found.name("unit")?.as_str()))
}

/// The quantities of a folded text. Digits inside identifiers, addresses and times of day do not count.
fn quantities(text: &str) -> impl Iterator<Item = Quantity> {
    let mut found: Vec<Quantity> = in_digits(text).chain(in_words(text)).collect();
    found.sort_by_key(|quantity| quantity.at.start);
    // "2 million" is one quantity.
    found.dedup_by(|later, first| later.at.start < first.at.end);
    found.into_iter()
}

fn in_digits(text: &str) -> impl Iterator<Item = Quantity> {
    static NUMBER: LazyLock<Regex> =
        LazyLock::new(|| pattern(r"-?(?:\d{1,3}(?:[,']\d{3})+|\d{1,3}(?: \d{3})+|\d+)(?:\.\d+)?"));
    NUMBER.find_iter(text).filter_map(move |found| {
        let mut digits = found.as_str();
        let before = text.get(..found.start())?;
        let last = before.chars().next_back();
        // A hyphen after a word or a number is not a minus sign ("vlan-20", "5-10").
        if digits.starts_with('-') && last.is_some_and(char::is_alphanumeric) {
            digits = &digits[1..];
        }
        let glued = match last {
            _ if digits.len() < found.as_str().len() => false,
            Some('.' | ':' | ',') => {
                before.chars().rev().nth(1).is_some_and(|c| c.is_ascii_digit())
            }
            Some(c) => c.is_alphanumeric() || c == '_',
            None => false,
        };
        let after = text.get(found.end()..)?;
        let mut following = after.chars();
        let goes_on = matches!(following.next(), Some('.' | ':' | ',' | '\''))
            && following.next().is_some_and(|c| c.is_ascii_digit());
        if glued || goes_on {
            return None;
        }
        let number: f64 = digits
            .chars()
            .filter(|c| !matches!(c, ',' | '\'' | ' '))
            .collect::<String>()
            .parse()
            .ok()?;
        let scale = Scale::read(after);
        let rest = after.get(scale.length..)?;
        let sign = last
            .and_then(|c| Unit::named(c.encode_utf8(&mut [0; 4])))
            .filter(|u| matches!(u.measures, "dollar" | "euro"));
        let (unit, length) = unit_behind(rest);
        // Letters right behind the digits are a unit ("45s") or make an identifier ("4a").
        let in_identifier =
            rest.starts_with(|c: char| c.is_alphabetic() || c == '_') && unit.is_none();
        if in_identifier || is_half_of_day(rest) {
            return None;
        }
        let digits_end = found.end() + scale.length;
        Some(Quantity {
            value: number * scale.factor,
            unit: unit.or(sign),
            at: found.start()..digits_end + length,
            digits_end,
        })
    })
}

/// Whether "am" or "pm" follows.
fn is_half_of_day(rest: &str) -> bool {
    let rest = rest.trim_start();
    (rest.starts_with("am") || rest.starts_with("pm")) && stands_alone(rest, 0, 2)
}

/// "k", "thousand" or "million" behind a number.
struct Scale {
    factor: f64,
    length: usize,
}

impl Scale {
    fn read(after: &str) -> Scale {
        const SCALES: [(&str, f64); 6] = [
            ("k", 1e3),
            (" thousand", 1e3),
            (" million", 1e6),
            (" hundred", 1e2),
            (" dozen", 12.0),
            (" billion", 1e9),
        ];
        let found = SCALES.iter().find(|(word, _)| {
            after.starts_with(word)
                && stands_alone(after, word.len() - word.trim_start().len(), word.len())
        });
        found.map_or(Scale { factor: 1.0, length: 0 }, |(word, factor)| Scale {
            factor: *factor,
            length: word.len(),
        })
    }
}

/// The unit that the text begins with, after at most a space or a hyphen, and where it ends.
fn unit_behind(rest: &str) -> (Option<Unit>, usize) {
    let trimmed = rest.trim_start_matches([' ', '-']);
    let skipped = rest.len() - trimmed.len();
    let length = match trimmed.chars().next() {
        Some(c @ ('%' | '$' | '\u{20ac}')) => c.len_utf8(),
        Some('\u{b0}') => {
            trimmed.find(|c: char| !(c.is_alphabetic() || c == '\u{b0}')).unwrap_or(trimmed.len())
        }
        _ if trimmed.starts_with("per cent") => "per cent".len(),
        _ => trimmed.find(|c: char| !c.is_alphabetic()).unwrap_or(trimmed.len()),
    };
    match trimmed.get(..length).and_then(Unit::named) {
        Some(unit) => (Some(unit), skipped + length),
        None => (None, 0),
    }
}

const SMALL: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
const TENS: [&str; 8] =
    ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];
const LARGE: [(&str, f64); 3] = [("hundred", 1e2), ("thousand", 1e3), ("million", 1e6)];

/// The value of a number below a hundred as a word.
pub(super) fn word_value(word: &str) -> Option<f64> {
    let place = |list: &[&str]| list.iter().position(|known| *known == word).map(|at| at as f64);
    place(&SMALL).or_else(|| place(&TENS).map(|at| (at + 2.0) * 10.0))
}

fn in_words(text: &str) -> impl Iterator<Item = Quantity> {
    static WORDS: LazyLock<Regex> = LazyLock::new(|| {
        let numbers: Vec<&str> = SMALL
            .into_iter()
            .chain(TENS)
            .chain(LARGE.map(|(word, _)| word))
            .chain(["dozen"])
            .collect();
        let number = format!("(?:{})", numbers.join("|"));
        pattern(&format!(
            r"\b(?:(?:an? )?{number}(?:(?: and |[ -]){number})*(?: and a half)?|half an?|an?)\b"
        ))
    });
    WORDS.find_iter(text).filter_map(move |found| {
        let (unit, length) = unit_behind(text.get(found.end()..)?);
        let value = match found.as_str() {
            // "A week" is a quantity, "a house" is none; "one" alone is rarely a number ("the right one").
            "a" | "an" => unit.map(|_| 1.0)?,
            "half a" | "half an" => unit.map(|_| 0.5)?,
            "one" if unit.is_none() && text.split_whitespace().count() > 3 => return None,
            words => spelled(words)?,
        };
        Some(Quantity {
            value,
            unit,
            at: found.start()..found.end() + length,
            digits_end: found.end(),
        })
    })
}

/// The value of "two hundred and fifty".
fn spelled(words: &str) -> Option<f64> {
    let (words, half) = match words.strip_suffix(" and a half") {
        Some(words) => (words, 0.5),
        None => (words, 0.0),
    };
    let (mut total, mut part, mut any) = (0.0, 0.0, false);
    for word in words.split([' ', '-']).filter(|word| !matches!(*word, "a" | "an" | "and")) {
        any = true;
        if let Some(value) = word_value(word) {
            part += value;
        } else if word == "dozen" {
            part = f64::max(part, 1.0) * 12.0;
        } else {
            let (_, factor) = LARGE.iter().find(|(name, _)| *name == word)?;
            part = f64::max(part, 1.0) * factor;
            if *factor > 100.0 {
                total += part;
                part = 0.0;
            }
        }
    }
    any.then_some(total + part + half)
}

/// Whether the text right after a number begins with the unit, in the singular or the plural.
fn has_unit(after: &str, unit: &str) -> bool {
    let after = after.trim_start_matches([' ', '-']);
    let singular = unit.strip_suffix('s').filter(|u| u.len() > 1).unwrap_or(unit);
    [unit.to_owned(), singular.to_owned(), format!("{singular}s")]
        .iter()
        .any(|u| after.starts_with(u.as_str()) && stands_alone(after, 0, u.len()))
}
