//! The markup of gpt-oss (harmony): `<|start|>HEADER<|message|>TEXT<|end|>`, where the header names the author, the channel
//! and the recipient. `analysis` is reasoning, `commentary` to a function is a call, and `final` is the answer.

use serde_json::{Map, Value};

use super::report::{Event, Tally};
use crate::draft::{At, Draft};
use crate::tool_calls::decode_arguments;
use crate::{Problem, Role, ToolCall, family};

const START: &str = "<|start|>";
const CHANNEL: &str = "<|channel|>";
const MESSAGE: &str = "<|message|>";
const ENDS: [&str; 3] = ["<|end|>", "<|return|>", "<|call|>"];

/// An assistant's turn.
#[derive(Default)]
pub(super) struct Answer {
    pub(super) reasoning: String,
    pub(super) content: String,
    pub(super) calls: Vec<ToolCall>,
}

/// One message of the markup.
struct Segment<'t> {
    author: &'t str,
    channel: &'t str,
    recipient: Option<&'t str>,
    text: &'t str,
}

/// Whether `text` starts with a message of this markup, its header included.
pub(super) fn is_conversation(text: &str) -> bool {
    text.trim_start().starts_with(START) && text.contains(MESSAGE)
}

/// Splits a marked-up conversation.
pub(super) fn conversation<'t>(
    text: &'t str,
    at: At<'_>,
    tally: &mut Tally,
) -> Result<Vec<Draft<'t>>, Problem> {
    let problem =
        |expected: &str, found: String| Problem::new(format!("{at}.content"), expected, found);
    let segments = segments(text, tally)
        .ok_or_else(|| problem("messages from `<|start|>` to `<|end|>`", "other text".into()))?;
    tally.note(Event::Family(family::HARMONY));
    let mut messages: Vec<Draft<'t>> = Vec::new();
    let mut answer: Option<Answer> = None;
    for segment in segments {
        let role = segment
            .role()
            .ok_or_else(|| problem(Role::EXPECTED, format!("a message of {:?}", segment.author)))?;
        if role == Role::Assistant {
            answer.get_or_insert_default().add(&segment, tally);
            continue;
        }
        messages.extend(answer.take().map(Draft::from));
        let mut message = Draft::new(role, segment.text.trim());
        if role == Role::Tool {
            message.name = Some(function(segment.author).into());
        }
        messages.push(message);
    }
    messages.extend(answer.map(Draft::from));
    Ok(messages)
}

/// The parts of an assistant's content that begins with a channel.
pub(super) fn answer(text: &str, tally: &mut Tally) -> Option<Answer> {
    let text = text.trim_start();
    if !text.starts_with(CHANNEL) && !text.starts_with("<|start|>assistant") {
        return None;
    }
    let mut own = Tally::default();
    let segments = segments(text, &mut own)?;
    if !segments.iter().all(|segment| segment.role() == Some(Role::Assistant)) {
        return None;
    }
    let mut answer = Answer::default();
    segments.iter().for_each(|segment| answer.add(segment, &mut own));
    tally.append(own);
    Some(answer)
}

impl Answer {
    fn add(&mut self, segment: &Segment<'_>, tally: &mut Tally) {
        if let Some(recipient) = segment.recipient {
            let arguments = match segment.text.trim() {
                "" => Value::Object(Map::new()),
                text => decode_arguments(text.to_owned()),
            };
            let call = ToolCall::new(function(recipient), Map::new());
            self.calls.push(ToolCall { arguments, ..call });
            return;
        }
        let place = match segment.channel {
            "analysis" => {
                tally.note(Event::Reasoning);
                &mut self.reasoning
            }
            _ => &mut self.content,
        };
        if !place.is_empty() {
            place.push_str("\n\n");
        }
        place.push_str(segment.text.trim());
    }
}

impl From<Answer> for Draft<'_> {
    fn from(answer: Answer) -> Self {
        let mut message = Draft::new(Role::Assistant, answer.content);
        message.tool_calls = answer.calls;
        message.reasoning_content =
            Some(answer.reasoning).filter(|text| !text.is_empty()).map(Into::into);
        message
    }
}

impl Segment<'_> {
    fn role(&self) -> Option<Role> {
        match self.author {
            "" => Some(Role::Assistant),
            tool if tool.contains('.') => Some(Role::Tool),
            name => Role::parse(name),
        }
    }
}

fn function(recipient: &str) -> &str {
    recipient.strip_prefix("functions.").unwrap_or(recipient)
}

/// All messages of a text; `None` if it holds anything else. The first `<|start|>` may be missing, as in a completion.
fn segments<'t>(text: &'t str, tally: &mut Tally) -> Option<Vec<Segment<'t>>> {
    let mut segments = Vec::new();
    let mut removed = |literal: &str| {
        let mark = family::starting(literal, 0).map(|found| found.mark.id);
        mark.into_iter().for_each(|id| tally.note(Event::Removed(id)));
    };
    let mut rest = text.trim();
    while !rest.is_empty() {
        match rest.strip_prefix(START) {
            Some(after) => {
                removed(START);
                rest = after;
            }
            None if segments.is_empty() && rest.starts_with(CHANNEL) => {}
            None => return None,
        }
        let Some((header, after)) = rest.split_once(MESSAGE) else {
            // A generation prompt.
            return Role::parse(rest.trim()).map(|_| segments);
        };
        if header.contains(START) || header.contains('\n') {
            return None;
        }
        removed(MESSAGE);
        let end = ENDS.iter().filter_map(|end| Some((after.find(end)?, *end))).min();
        let (at, literal) = end.unwrap_or((after.len(), ""));
        removed(literal);
        let (author, channel) = header.split_once(CHANNEL).unwrap_or((header, ""));
        if header.contains(CHANNEL) {
            removed(CHANNEL);
        }
        let word = |text: &'t str| text.split([' ', '<']).next().unwrap_or_default();
        let to = header.split([' ', '<']).find_map(|part| part.strip_prefix("to="));
        segments.push(Segment {
            author: word(author),
            channel: word(channel),
            recipient: to.filter(|to| *to != "assistant" && *to != "user"),
            text: &after[..at],
        });
        rest = after[at + literal.len()..].trim_start();
    }
    Some(segments)
}
