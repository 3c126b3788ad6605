//! The text of an answer, normalized for matching.

use std::ops::Range;

use chat_format::reasoning;
use regex::{Regex, RegexBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

/// The languages a [`Rule::Language`](crate::Rule::Language) can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Language {
    /// English.
    En,
    /// French.
    Fr,
}

/// An answer without the model's reasoning, composed (NFC), with typographic quotes and dashes replaced by ASCII ones.
pub(crate) struct Text {
    shown: String,
    folded: String,
}

impl Text {
    /// Normalizes an answer as the model wrote it, reasoning included.
    pub(crate) fn of_answer(raw: &str) -> Text {
        Text::of(reasoning::split(raw).answer)
    }

    /// Normalizes a text in which nothing is reasoning.
    pub(crate) fn of(text: &str) -> Text {
        let shown = plain(text.trim());
        let folded = fold(&shown);
        Text { shown, folded }
    }

    /// The text without what the patterns match.
    pub(crate) fn without(&self, repeated: &[Regex]) -> Text {
        let cut = |shown: String, pattern: &Regex| match pattern.is_match(&shown) {
            true => pattern.replace_all(&shown, " ").into_owned(),
            false => shown,
        };
        let shown = repeated.iter().fold(self.shown.clone(), cut);
        if shown == self.shown {
            Text { folded: self.folded.clone(), shown }
        } else {
            Text::of(&shown)
        }
    }

    /// Patterns of the text's sentences of at least four words, whatever their case and line breaks.
    pub(crate) fn sentence_patterns(&self) -> Vec<Regex> {
        const SHORTEST: usize = 4;
        let pattern = |sentence: &str| {
            let sentence = sentence.trim_matches(|c: char| !c.is_alphanumeric());
            let words: Vec<String> = sentence.split_whitespace().map(regex::escape).collect();
            let pattern = RegexBuilder::new(&words.join(r"\s+")).case_insensitive(true).build();
            // Escaped words compile unless they are very long; a sentence of that length is not cut out.
            pattern.ok().filter(|_| words.len() >= SHORTEST)
        };
        sentences(&self.shown).filter_map(pattern).collect()
    }

    /// The answer with its case and line breaks.
    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    /// The answer in lower case, with every run of white space replaced by one space.
    pub(crate) fn folded(&self) -> &str {
        &self.folded
    }

    pub(crate) fn words(&self) -> impl Iterator<Item = &str> {
        self.folded.split_whitespace().filter(|w| w.chars().any(char::is_alphanumeric))
    }

    /// Whether the answer contains the word or phrase as whole words.
    pub(crate) fn contains(&self, word: &str) -> bool {
        self.position(word).is_some()
    }

    /// The byte offset in the folded text at which the word or phrase first occurs as whole words.
    pub(crate) fn position(&self, word: &str) -> Option<usize> {
        self.positions(word).next().map(|at| at.start)
    }

    /// Where in the folded text the word or phrase occurs as whole words.
    pub(crate) fn positions(&self, word: &str) -> impl Iterator<Item = Range<usize>> {
        let word = fold(&plain(word));
        let found: Vec<usize> = self.folded.match_indices(&word).map(|(at, _)| at).collect();
        let end = word.len();
        found
            .into_iter()
            .map(move |at| at..at + end)
            .filter(|at| stands_alone(&self.folded, at.start, at.end))
    }

    /// Whether the text can be in the language. A text too short to tell passes in any language of the same script.
    pub(crate) fn could_be(&self, language: Language) -> bool {
        let expected = match language {
            Language::En => whatlang::Lang::Eng,
            Language::Fr => whatlang::Lang::Fra,
        };
        let Some(found) = whatlang::detect(&self.shown) else {
            return self.folded.chars().any(|c| c.is_ascii_digit());
        };
        let told = self.words().count() >= 8 && found.is_reliable();
        found.script() == whatlang::Script::Latin && (!told || found.lang() == expected)
    }
}

/// Composed (NFC), with typographic quotes, dashes and spaces replaced by ASCII ones.
pub(super) fn plain(text: &str) -> String {
    text.nfc().map(plain_char).collect()
}

fn plain_char(c: char) -> char {
    match c {
        '\u{2018}' | '\u{2019}' | '\u{2032}' => '\'',
        '\u{201c}' | '\u{201d}' => '"',
        '\u{2010}'..='\u{2015}' | '\u{2212}' => '-',
        '\u{a0}' | '\u{202f}' => ' ',
        c => c,
    }
}

fn fold(text: &str) -> String {
    let lower = text.to_lowercase();
    lower.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether `text[start..end]` is not part of a longer word or number.
pub(crate) fn stands_alone(text: &str, start: usize, end: usize) -> bool {
    let (Some(before), Some(found), Some(after)) =
        (text.get(..start), text.get(start..end), text.get(end..))
    else {
        return false;
    };
    let edge = |inner: Option<char>, mut outside: [Option<char>; 2]| {
        let Some(inner) = inner.filter(|&c| in_word(c)) else { return true };
        // "1.5" is one number, so "5" does not stand alone in it.
        if inner.is_ascii_digit() && matches!(outside[0], Some('.' | ',')) {
            outside[0] = outside[1].filter(char::is_ascii_digit);
        }
        !outside[0].is_some_and(in_word)
    };
    let mut left = before.chars().rev();
    let mut right = after.chars();
    edge(found.chars().next(), [left.next(), left.next()])
        && edge(found.chars().next_back(), [right.next(), right.next()])
}

fn in_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The sentences of a text, trimmed.
pub(crate) fn sentences(text: &str) -> impl Iterator<Item = &str> {
    let ends = |pair: &(char, char)| matches!(pair.0, '.' | '!' | '?' | ';') && pair.1 == ' ';
    text.split('\n').flat_map(move |line| {
        let mut start = 0;
        let mut cuts: Vec<&str> = Vec::new();
        let following = line.char_indices().skip(1);
        for ((_, c), (next_at, next)) in line.char_indices().zip(following) {
            if ends(&(c, next)) {
                cuts.extend(line.get(start..next_at));
                start = next_at;
            }
        }
        cuts.extend(line.get(start..));
        cuts.into_iter().map(str::trim).filter(|s| !s.is_empty())
    })
}
