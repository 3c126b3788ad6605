//! Whether an answer asserts what it names, or denies it: "Not 5. It is 50."

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use super::patterns::pattern;
use super::text::Text;

/// Whether the text asserts the word or phrase: one of its occurrences is not denied.
pub(crate) fn asserts(text: &Text, word: &str) -> bool {
    text.positions(word).any(|at| !is_denied(text.folded(), &at))
}

/// Whether what stands at `at` is denied: "not on Monday", "rather than 5", "5 is wrong".
///
/// Only what directly precedes counts, so that "never sinks below 400" and "he did not sleep" assert what they name.
pub(crate) fn is_denied(folded: &str, at: &Range<usize>) -> bool {
    static BEFORE: LazyLock<Regex> = LazyLock::new(|| {
        pattern(
            r"(?x) (?:
                (?: ^ | [,.;:!?(-]\s* | \b(?:and|but|so|or|if)\s )
                (?: (?:it|that|this|he|she|they|i|we|the\s\w+)(?:'s|'m|'re|\s(?:is|was|are|were|am))?\s )? not
              | \b(?:is|was|are|were|am|be|isn't|wasn't|aren't|weren't)\s not
              | \b(?:isn't|wasn't|aren't|weren't|ain't)
              | \b(?:rather\ than|instead\ of|except|other\ than|as\ opposed\ to|neither|nor|unlike|nothing\ but\ not)
              | \b(?:don't|do\ not|never|no\ need\ to|must\ not|mustn't|shouldn't|should\ not)\s
                (?:use|say|pick|choose|take|ask|call|go|enter|open|set|send|try|type|write|answer|on|at|in)
              | \bnever
              | \bno\ longer
            )
            (?: \s (?:a|an|the|on|in|at|to|by|from|for|of|my|your|our|called|named|port|vlan|number|it|you|i|really|yet) )* \s? ['\x22(]? $",
        )
    });
    static AFTER: LazyLock<Regex> = LazyLock::new(|| {
        pattern(
            r#"^['")]?(?:\s[a-z]+)?(?: (?:is|was|are|were|would be)(?: not (?:it|right|correct|true|the)|n't (?:it|right|correct|true|the)| (?:wrong|false|incorrect|untrue|a mistake))|\? no\b|, no[,:.]|, (?:i mean|sorry|rather|correction))"#,
        )
    });
    let before = folded.get(..at.start).unwrap_or_default();
    let after = folded.get(at.end..).unwrap_or_default();
    BEFORE.is_match(before) || AFTER.is_match(after)
}
