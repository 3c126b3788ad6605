//! How much of a text may be sent before the rest is known.

/// The length of the longest end of `text` that may be the beginning of one of `patterns`.
pub(super) fn incomplete<'p>(text: &str, patterns: impl IntoIterator<Item = &'p str>) -> usize {
    let bytes = text.as_bytes();
    let held = |pattern: &'p str| {
        let pattern = pattern.as_bytes();
        let most = bytes.len().min(pattern.len().saturating_sub(1));
        (1..=most).rev().find(|&length| bytes.ends_with(&pattern[..length])).unwrap_or_default()
    };
    let longest = patterns.into_iter().map(held).max().unwrap_or_default();
    // A pattern may be cut within a character, a text may not.
    (longest..=bytes.len())
        .find(|held| text.is_char_boundary(bytes.len() - held))
        .unwrap_or(longest)
}

#[cfg(test)]
mod tests {
    use super::incomplete;

    #[test]
    fn ends_that_may_go_on() {
        let patterns = ["</think>", "<tool_call>", "\n\n", "é!"];
        for (text, held) in [
            ("", 0),
            ("abc", 0),
            ("abc<", 1),
            ("abc</thin", 6),
            ("abc</think>", 0),
            ("a <tool_cal", 9),
            ("a\n", 1),
            ("a\n\n", 1),
            ("a é", 2),
        ] {
            assert_eq!(incomplete(text, patterns), held, "{text:?}");
        }
        assert_eq!(incomplete("abc", []), 0);
    }
}
