//! Where a model's reasoning ends and its answer begins: `<think>...</think>` and the tokens of the other families.
//!
//! In both readings an opening token counts only where the text begins, and reasoning that was never closed runs to the
//! end (the model hit its token limit).
//!
//! - [`split`] takes the output of a model apart: the blocks before the first word of the answer are reasoning, so that a
//!   rule on the answer cannot be evaded by a block inside it. Reasoning that was closed without being opened began with
//!   the text, because templates write the opening token into the prompt.
//! - [`clean`](crate::clean) takes data apart: every block before the answer is reasoning, and a closing token alone is
//!   text, because people write about such tokens.

use crate::family::{self, Effect};

/// An answer in two parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Split<'t> {
    /// The reasoning without its outer tokens, if there is any; of several blocks, from the first one to the last.
    pub reasoning: Option<&'t str>,
    /// The text after the reasoning; empty if the reasoning was never closed.
    pub answer: &'t str,
}

/// Separates the reasoning from the answer in a model's output.
///
/// ```
/// use chat_format::reasoning::split;
///
/// let split = split("<think>The port is 22.</think> Port 22.");
/// assert_eq!((split.reasoning, split.answer), (Some("The port is 22."), " Port 22."));
/// ```
pub fn split(text: &str) -> Split<'_> {
    let first = first_block(text);
    let mut whole = first;
    // A further block counts only if it is opened where the answer would begin.
    while whole.reasoning.is_some() && opens(whole.answer) {
        let next = first_block(whole.answer);
        let (Some(start), Some(last)) = (first.reasoning, next.reasoning) else { break };
        let offset = |part: &str| part.as_ptr().addr() - text.as_ptr().addr();
        let reasoning = text.get(offset(start)..offset(last) + last.len());
        whole = Split { reasoning, answer: next.answer };
    }
    whole
}

/// Whether the text begins with an opening token, white space aside.
pub fn opens(text: &str) -> bool {
    let mark = family::find(text).next();
    mark.is_some_and(|found| {
        matches!(found.mark.effect, Effect::Think(_)) && text[..found.start].trim().is_empty()
    })
}

/// Whether the text ends within the opening of a block: before the whole label that some families have after the token, as
/// Gemma 4's `<|channel>thought`.
pub fn opens_partly(text: &str) -> bool {
    family::find(text).next().is_some_and(|found| match found.mark.effect {
        Effect::Think(label) => {
            let rest = &text[found.end..];
            rest.len() < label.len() && label.starts_with(rest)
        }
        _ => false,
    })
}

/// Like [`split`], but only up to the end of the first block: a further one is part of the answer.
pub fn first_block(text: &str) -> Split<'_> {
    let first = |test: &dyn Fn(&family::Found) -> bool| family::find(text).find(test);
    let opening = first(&|found| matches!(found.mark.effect, Effect::Think(_) | Effect::EndThink))
        .filter(|found| found.mark.effect != Effect::EndThink)
        .filter(|found| text[..found.start].trim().is_empty());
    let family = opening.map(|found| found.mark.family);
    let closing = first(&|found| {
        found.mark.effect == Effect::EndThink && family.is_none_or(|own| own == found.mark.family)
    });
    let start = opening.map_or(0, |found| found.content_start(text));
    match (opening, closing) {
        (_, Some(end)) => {
            Split { reasoning: Some(&text[start..end.start]), answer: &text[end.end..] }
        }
        (Some(_), None) => Split { reasoning: Some(&text[start..]), answer: "" },
        (None, None) => Split { reasoning: None, answer: text },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        for (text, reasoning, answer) in [
            ("a", None, "a"),
            (" <think>r</think> a", Some("r"), " a"),
            ("r</think>a", Some("r"), "a"),
            ("<think>r", Some("r"), ""),
            ("<think>r<channel|>r</think>a", Some("r<channel|>r"), "a"),
            ("<|channel>thought\nr<channel|>a", Some("\nr"), "a"),
            ("[THINK]r[/THINK]a", Some("r"), "a"),
            // Blocks count only before the answer, and an opening token only at the start.
            ("<think>r</think>a</think>b", Some("r"), "a</think>b"),
            ("<think>r</think>a<think>s</think>b", Some("r"), "a<think>s</think>b"),
            ("<think>r</think> <think>s</think>a", Some("r</think> <think>s"), "a"),
            ("<think>r</think><think>s", Some("r</think><think>s"), ""),
            ("It opens with <think>.", None, "It opens with <think>."),
            ("r <think>s</think>a", Some("r <think>s"), "a"),
        ] {
            assert_eq!(split(text), Split { reasoning, answer }, "{text}");
        }
    }
}
