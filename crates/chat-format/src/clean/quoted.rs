//! Whether a control token is quoted: it stands in a code span or in quotation marks, and is text.

use memchr::{memchr, memchr2, memrchr};

/// How far a code span is searched in each direction, in bytes.
const SPAN: usize = 1000;

/// The quotation marks that open, each with the one that closes.
const QUOTATION_MARKS: [(char, char); 7] =
    [('"', '"'), ('\'', '\''), ('`', '`'), ('“', '”'), ('„', '“'), ('‘', '’'), ('«', '»')];

/// Whether a token between these two texts is quoted.
pub(super) fn is_quoted(before: &str, after: &str) -> bool {
    is_in_code_span(before, after) || is_in_quotation_marks(before, after)
}

/// Whether a token may be quoted, where the texts around it are JSON strings with their escapes. It is never false for a
/// token that [`is_quoted`].
pub(super) fn may_be_quoted(before: &str, after: &str) -> bool {
    let opened = |c: char| QUOTATION_MARKS.iter().any(|(open, _)| *open == c);
    let closed = |c: char| QUOTATION_MARKS.iter().any(|(_, close)| *close == c);
    // Looked at first, because few tokens follow one of these bytes.
    let may_open = matches!(before.as_bytes().last(), Some(b'"' | b'\'' | b'`' | 0x80..));
    may_open && before.ends_with(opened) && (after.starts_with(closed) || after.starts_with("\\\""))
        || may_be_in_code_span(before)
}

/// Whether a backtick is open on the line where `before` ends, and closed on the line where `after` begins.
fn is_in_code_span(before: &str, after: &str) -> bool {
    let bytes = before.as_bytes();
    let near = &bytes[bytes.len().saturating_sub(SPAN)..];
    let line = memrchr(b'\n', near).map_or(near, |end| &near[end + 1..]);
    let open = line.iter().filter(|&&byte| byte == b'`').count() % 2 == 1;
    let after = &after.as_bytes()[..after.len().min(SPAN)];
    open && memchr2(b'`', b'\n', after).is_some_and(|at| after[at] == b'`')
}

/// Whether there is a backtick on the last line, whose line breaks are escaped.
fn may_be_in_code_span(before: &str) -> bool {
    // An escape of two bytes stands for one.
    let near = &before.as_bytes()[before.len().saturating_sub(2 * SPAN)..];
    let Some(last) = memrchr(b'`', near) else { return false };
    let mut rest = &near[last..];
    while let Some(at) = memchr(b'\\', rest) {
        if rest.get(at + 1) == Some(&b'n') {
            return false;
        }
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    true
}

/// Whether an opening quotation mark stands right before the token and a closing one right behind it.
fn is_in_quotation_marks(before: &str, after: &str) -> bool {
    let (mut back, mut ahead) = (before.chars().rev(), after.chars());
    let (Some(open), Some(close)) = (back.next(), ahead.next()) else { return false };
    let free = |c: char| c.is_whitespace() || c.is_ascii_punctuation();
    QUOTATION_MARKS.contains(&(open, close))
        && back.next().is_none_or(free)
        && ahead.next().is_none_or(free)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The inside of a JSON string.
    fn escaped(text: &str) -> String {
        let text = serde_json::to_string(text).unwrap();
        text[1..text.len() - 1].to_owned()
    }

    #[test]
    fn a_backtick_far_away_opens_no_span() {
        for distance in [SPAN - 1, SPAN] {
            let before = format!("`{}", "\"".repeat(distance));
            assert_eq!(is_quoted(&before, "x`"), distance < SPAN);
            assert!(distance == SPAN || may_be_quoted(&escaped(&before), "x`"));
        }
    }

    proptest! {
        #[test]
        fn what_is_quoted_may_be_quoted_in_its_escaped_form(
            before in "[a`\\n\\\\\"'“„« ]{0,8}",
            after in "[a`\\n\\\\\"'”“» ]{0,4}",
            far in prop::sample::select(vec![0, SPAN / 2, SPAN - 4, SPAN]),
        ) {
            let before = before + &"\"".repeat(far);
            if is_quoted(&before, &after) {
                prop_assert!(may_be_quoted(&escaped(&before), &escaped(&after)));
            }
        }
    }
}
