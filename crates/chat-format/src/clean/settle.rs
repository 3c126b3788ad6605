//! Brings the messages of a conversation to their clean form: the markup that remains around their texts is removed, and
//! reasoning and calls move to fields of their own.

use std::borrow::Cow;

use super::report::{Event, Tally};
use super::{Options, answer, place_reasoning};
use crate::draft::Draft;
use crate::family::{self, Effect, Mark};
use crate::{Problem, Role};

/// Texts whose markup nests deeper are refused: each pass reads them once more.
const PASSES: usize = 8;

/// Settles the messages. `place` names the field of a message, for errors.
pub(super) fn settle(
    messages: &mut Vec<Draft<'_>>,
    place: impl Fn(usize) -> String,
    options: Options,
    tally: &mut Tally,
) -> Result<(), Problem> {
    let mut passes = 0;
    while pass(messages, tally) {
        passes += 1;
        if passes == PASSES {
            return Err(Problem::new("", "markup that is not nested", "markup inside markup"));
        }
    }
    for (index, message) in messages.iter_mut().enumerate() {
        let blank = is_blank(&message.content)
            || message.role == Role::Assistant && is_only_ends(&message.content);
        let empty = message.tool_calls.is_empty() && blank;
        let thought = message.reasoning_content.as_deref().is_some_and(|text| !is_blank(text));
        let expected = match message.role {
            Role::User => "words in every turn of the user",
            Role::Assistant => "an answer in every assistant turn",
            // Tools may return nothing.
            _ => "",
        };
        if empty && !expected.is_empty() {
            let found = if thought { "reasoning only" } else { "an empty turn" };
            return Err(Problem::new(place(index), expected, found));
        }
        if thought && message.role != Role::Assistant {
            tally.note(Event::Ignored(format!("reasoning of {}", message.role)));
        }
        note_spelled(message, tally);
        options.scrub.message(message, tally);
        place_reasoning(message, options.reasoning);
    }
    Ok(())
}

/// One pass over all messages. Returns whether anything changed.
fn pass(messages: &mut Vec<Draft<'_>>, tally: &mut Tally) -> bool {
    let before = messages.len();
    messages.retain(|message| message.role != Role::System || !is_blank(&message.content));
    (messages.len()..before).for_each(|_| tally.note(Event::EmptySystemTurn));
    let mut changed = messages.len() < before;
    while let Some(mark) = common_end(messages) {
        for message in messages.iter_mut() {
            tally.note(Event::Removed(mark.id));
            strip_end(&mut message.content, mark);
        }
        changed = true;
    }
    for message in messages {
        changed |= match message.role {
            Role::Assistant => answer::read(message, &[], tally),
            Role::Tool => answer::unwrap_result(message, tally),
            _ => false,
        };
    }
    changed
}

/// The end token that every message of a chat ends with. A single message may well end with one that its author wrote.
fn common_end(messages: &[Draft<'_>]) -> Option<&'static Mark> {
    let [first, others @ ..] = messages else { return None };
    let mark = family::ending(first.content.trim_end())?;
    let common = mark.effect == Effect::End
        && !others.is_empty()
        && others.iter().all(|message| message.content.trim_end().ends_with(mark.literal))
        && messages.iter().all(|message| may_end(message.content.trim_end(), mark));
    common.then_some(mark)
}

/// Whether the end token that this text ends with may be markup: templates write it right behind the words, `<s>old</s>` is
/// an element of HTML.
pub(super) fn may_end(text: &str, mark: &Mark) -> bool {
    let opens = |found: family::Found| {
        found.mark.effect == Effect::Begin && found.mark.family == mark.family
    };
    let words = text.strip_suffix(mark.literal).unwrap_or(text);
    !words.ends_with(' ') && !family::find(words).any(opens)
}

fn strip_end(text: &mut Cow<'_, str>, mark: &Mark) {
    let end = text.trim_end().len().saturating_sub(mark.literal.len());
    match text {
        Cow::Borrowed(text) => *text = text[..end].trim(),
        Cow::Owned(text) => *text = text[..end].trim().to_owned(),
    }
}

fn note_spelled(message: &Draft<'_>, tally: &mut Tally) {
    let reasons = |effect| matches!(effect, Effect::Think(_) | Effect::EndThink);
    let mut reasoning = None;
    for found in family::find(&message.content) {
        tally.note(Event::Spelled(found.mark.id));
        if reasons(found.mark.effect) {
            reasoning.get_or_insert(found.mark.effect);
        }
    }
    if message.role == Role::Assistant && reasoning == Some(Effect::EndThink) {
        tally.note(Event::UnopenedReasoning);
    }
}

/// Whether a text is nothing but end tokens: an answer that the model ended at once.
fn is_only_ends(text: &str) -> bool {
    let mut done = 0;
    for found in family::find(text) {
        if found.mark.effect != Effect::End || !is_blank(&text[done..found.start]) {
            return false;
        }
        done = found.end;
    }
    is_blank(&text[done..])
}

/// Whether a text shows nothing: white space and characters without width.
pub(super) fn is_blank(text: &str) -> bool {
    text.chars().all(|c| c.is_whitespace() || is_unseen(c))
}

/// Whether a character that is not white space has no width.
pub(super) fn is_unseen(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}')
}
