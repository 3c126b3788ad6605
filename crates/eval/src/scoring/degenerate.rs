//! Whether an answer is language at all.

use std::collections::HashMap;

use super::json;
use super::text::Text;

/// Whether the text is not language: a loop, or mostly symbols. One of these is enough:
///
/// * outside of JSON it has at least 20 visible characters, and fewer than half are letters or digits;
/// * one to twelve words repeat at least five times in a row, at the end or over at least half of the text;
/// * three or more words repeat two and a half times in a row, over at least four fifths of the text;
/// * it has at least 40 words, and fewer than a fifth are distinct.
pub(crate) fn is_degenerate(text: &Text) -> bool {
    let prose = json::without(text.folded());
    let visible = prose.chars().filter(|c| !c.is_whitespace());
    let (letters, others): (Vec<char>, Vec<char>) =
        visible.partition(|&c| c.is_alphanumeric() && c != '\u{fffd}');
    if letters.len() + others.len() >= 20 && letters.len() < others.len() {
        return true;
    }
    let bare = |word| str::trim_matches(word, |c: char| !c.is_alphanumeric());
    let words: Vec<&str> = text.words().map(bare).collect();
    if words.len() >= 40 {
        let mut seen = HashMap::new();
        words.iter().for_each(|w| *seen.entry(w).or_insert(0) += 1);
        if seen.len() * 5 < words.len() {
            return true;
        }
    }
    (1..=12).any(|period| loops(&words, period))
}

fn loops(words: &[&str], period: usize) -> bool {
    const REPEATS: usize = 5;
    // Two words twice and a half may be meant: "no, no, no".
    const PHRASE: usize = 3;
    let Some(shifted) = words.get(period..) else { return false };
    let mut run = 0;
    for (i, (a, b)) in words.iter().zip(shifted).enumerate() {
        run = if a == b { run + 1 } else { 0 };
        let span = run + period;
        // A token limit may cut the answer inside a repetition, so the loop may stop shortly before the end.
        let near_end = i + 1 + period + period > words.len();
        if span >= REPEATS * period && (near_end || span * 2 >= words.len()) {
            return true;
        }
        if period >= PHRASE && span * 2 >= 5 * period && span * 5 >= 4 * words.len() {
            return true;
        }
    }
    false
}
