//! Compiles the patterns that the rules consist of.

use regex::{Regex, RegexSet};

/// A pattern of the source, which is known to be valid.
pub(super) fn pattern(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the pattern is valid")
}

/// Several of them, which are searched at once.
pub(super) fn set(patterns: &[impl AsRef<str>]) -> RegexSet {
    RegexSet::new(patterns).expect("the patterns are valid")
}
