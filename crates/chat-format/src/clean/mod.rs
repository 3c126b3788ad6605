//! Converts raw rows of many shapes and markups to clean messages.
//!
//! A raw row holds a conversation in one of several shapes (see [`Shape`]), with or without a model's markup around and
//! inside its texts. A clean row is a [`Conversation`] without markup. The rules:
//!
//! - A row whose only text *starts* with a turn (after white space and beginning-of-text tokens) is a marked-up
//!   conversation and becomes one message per turn. Contents are trimmed.
//! - In all other rows the texts are what people wrote: a control token in them is text and stays. It never becomes a turn,
//!   and `ChatTokenizer` never encodes it as a control token. [`Notes::spelled`] counts such tokens.
//! - Markup is removed only where it is structure: the markers between the turns of a marked-up conversation, outside code
//!   spans and quotations; an end token that *every* message of a chat ends with; the reasoning that an assistant turn
//!   begins with (`<think>...</think>`, `<thinking>...</thinking>` and the like); the tool calls that it ends with; the tokens around a tool's
//!   result. [`Reasoning`] says what happens to reasoning.
//! - A turn that begins before the previous one was closed closes it, but for a system turn, which is text there. The last
//!   one may stay open (truncated data).
//! - A row that is not JSON is refused, and so is one with a key twice in an object or an integer beyond 64
//!   bits, which would be rounded.
//! - A row with text between turns, or with an unknown role, is refused. So is a row with an empty turn of the user or the
//!   assistant; an empty system turn is left out and counted.
//! - Of an export, the current branch is the conversation: messages of other branches, and versions that are not selected,
//!   are counted in [`Notes::ignored`].
//! - Other keys of a row are kept. Keys of messages that have no place in a clean row are counted in [`Notes::ignored`].
//!
//! ```
//! use chat_format::clean::{self, Options};
//!
//! let raw = serde_json::json!({"messages": [{"role": "user", "content":
//!     "<|im_start|>user\nScan the network<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\nRunning scan...<|im_end|>"}]});
//! let (chat, _notes) = clean::row(raw, Options::default())?;
//! assert_eq!(chat.messages[0].content, "Scan the network");
//! assert_eq!(chat.messages[1].content, "Running scan...");
//! # Ok::<(), chat_format::Problem>(())
//! ```

mod answer;
mod fast_path;
mod file;
mod file_rows;
mod grown;
mod harmony;
mod inputs;
mod quoted;
mod refused;
mod report;
mod scrub;
mod settle;
mod shape;
mod sources;
mod walk;
mod written;

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

use crate::draft::{At, Chat, Draft};
use crate::raw::{Fields, Raw};
use crate::{Conversation, Message, Problem, Role, ToolCall, family};

pub use file::{Converter, Strictness, convert};
pub use inputs::{Format, InputFile, Inputs, SkipReason, Skipped};
use report::{Counts, Tally};
pub use report::{FileReport, Merge, Notes, Refusal, Report, Shape};
pub use scrub::{Personal, Scrub};

/// What happens to an assistant's reasoning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Reasoning {
    /// It is removed.
    #[default]
    Drop,
    /// It is kept in [`Message::reasoning_content`].
    Keep,
    /// It stays in the content, before the answer, between `<think>` and `</think>`.
    Inline,
}

/// Whether a row records the family of its markup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Origin {
    /// It does not. The [report](Report) counts families in any case.
    #[default]
    Forget,
    /// It does, under the key [`MARKUP`].
    Keep,
}

/// The key under which a row records the family of its markup.
pub const MARKUP: &str = "markup";

/// The key under which a row names the file and line that it is from, as `chats/a.jsonl:17`, if [`Converter::sources`] asks
/// for it; in an array also the element, from 0, as `chats/b.json:1[16]`.
pub const SOURCE_ROW: &str = "source_row";

/// How rows are cleaned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Options {
    /// What happens to reasoning.
    pub reasoning: Reasoning,
    /// Whether rows record the family of their markup.
    pub origin: Origin,
    /// The kinds of personal data that are replaced by placeholders in the texts of messages and the arguments of calls.
    pub scrub: Scrub,
}

impl Options {
    /// Sets which personal data is replaced.
    pub fn scrub(self, scrub: Scrub) -> Self {
        Options { scrub, ..self }
    }

    /// Sets what happens to reasoning.
    pub fn reasoning(self, reasoning: Reasoning) -> Self {
        Options { reasoning, ..self }
    }

    /// Sets whether rows record the family of their markup.
    pub fn origin(self, origin: Origin) -> Self {
        Options { origin, ..self }
    }
}

/// Cleans one raw row. Returns the conversation and the counts of what was changed.
///
/// # Errors
///
/// A [`Problem`] if the row has no known shape or cannot be split into turns.
pub fn row(raw: Value, options: Options) -> Result<(Conversation, Notes), Problem> {
    let mut tally = Tally::default();
    let chat = shape::read(raw.into(), &mut tally)?;
    let clean = Clean::new(&chat, options, &mut tally)?.into();
    let mut counts = Counts::default();
    counts.add(&tally);
    Ok((clean, counts.into()))
}

/// A clean row whose texts are borrowed from the raw one.
struct Clean<'t> {
    messages: Vec<Draft<'t>>,
    tools: &'t [Raw<'t>],
    meta: &'t Fields<'t>,
    markup: Option<&'static str>,
}

impl<'t> Clean<'t> {
    fn new(chat: &'t Chat<'_>, options: Options, tally: &mut Tally) -> Result<Self, Problem> {
        let packed = match &chat.messages[..] {
            [only] if is_packed(&only.tool_calls, &only.content) => Some(&only.content),
            _ => None,
        };
        let mut messages = match packed {
            Some(text) => walk::conversation(text, At::item("messages", 0), tally)?,
            None => chat.messages.iter().map(Draft::borrow).collect(),
        };
        if let Some(system) = &chat.system {
            add_system(&mut messages, system)?;
        }
        let place = |index| {
            let index = if packed.is_some() { 0 } else { index };
            format!("messages[{index}].content")
        };
        settle::settle(&mut messages, place, options, tally)?;
        match &messages[..] {
            [] => return Err(Problem::new("messages", "at least one message with words", "none")),
            [only] if is_packed(&only.tool_calls, &only.content) => {
                let found = "a marked-up conversation inside another one";
                return Err(Problem::new(
                    "messages[0].content",
                    "a conversation in one markup",
                    found,
                ));
            }
            _ => {}
        }
        let markup = tally.family().filter(|_| options.origin == Origin::Keep);
        let markup = markup.filter(|_| !chat.meta.has(MARKUP));
        Ok(Clean { messages, tools: &chat.tools, meta: &chat.meta, markup })
    }
}

/// The same format as a [`Conversation`]'s.
impl Serialize for Clean<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("messages", &self.messages)?;
        if !self.tools.is_empty() {
            map.serialize_entry("tools", &self.tools)?;
        }
        for (key, value) in self.meta.iter() {
            map.serialize_entry(key, value)?;
        }
        if let Some(family) = self.markup {
            map.serialize_entry(MARKUP, family)?;
        }
        map.end()
    }
}

impl From<Clean<'_>> for Conversation {
    fn from(clean: Clean<'_>) -> Self {
        let mut meta: serde_json::Map<String, Value> = clean.meta.clone().into();
        meta.extend(clean.markup.map(|family| (MARKUP.to_owned(), family.into())));
        Conversation {
            messages: clean.messages.into_iter().map(Message::from).collect(),
            tools: clean.tools.iter().cloned().map(Value::from).collect(),
            meta,
        }
    }
}

/// Whether a row's only message, with these calls and this content, is a marked-up conversation.
fn is_packed(tool_calls: &[ToolCall], content: &str) -> bool {
    tool_calls.is_empty() && walk::is_conversation(content)
}

/// Puts the system prompt that the row holds beside its messages in front of them.
fn add_system<'t>(messages: &mut Vec<Draft<'t>>, system: &'t str) -> Result<(), Problem> {
    match messages.iter().find(|message| message.role == Role::System) {
        Some(own) if own.content.trim() == system.trim() => {}
        Some(own) => {
            let found = format!("another one: {}", crate::problem::quote(&own.content));
            return Err(Problem::new("system", "no system message beside it", found));
        }
        None => messages.insert(0, Draft::new(Role::System, system)),
    }
    Ok(())
}

/// A model's output taken apart: reasoning at its beginning, calls at its end, and the words between them. The arguments of
/// calls have the types that `tools` declare (see [`tool_calls`](crate::tool_calls)).
///
/// ```
/// use chat_format::clean::answer;
///
/// let message = answer("On it.<tool_call>{\"name\": \"scan\", \"arguments\": {}}</tool_call>", &[]);
/// assert_eq!((message.content.as_str(), message.tool_calls[0].name.as_str()), ("On it.", "scan"));
/// assert_eq!(answer("No call.", &[]).content, "No call.");
/// ```
pub fn answer(text: &str, tools: &[Value]) -> Message {
    let mut draft = Draft::new(Role::Assistant, text);
    answer::read(&mut draft, tools, &mut Tally::default());
    draft.into()
}

/// The control tokens of every known family.
pub fn control_tokens() -> impl Iterator<Item = &'static str> {
    family::all().iter().map(|mark| mark.literal)
}

/// The family whose markup a conversation is still packed in: that of its only message, if that is a marked-up
/// conversation. `None` for every clean row.
pub fn packed(chat: &Conversation) -> Option<&'static str> {
    match &chat.messages[..] {
        [only] if is_packed(&only.tool_calls, &only.content) => markup(&only.content),
        _ => None,
    }
}

/// The control token by which `text` seems to hold markup still: its first turn marker if it is a marked-up conversation, or
/// the end token right behind its last word. Text that only mentions control tokens has none: they are plain text there, and
/// are encoded as such.
pub fn leak(text: &str) -> Option<&'static str> {
    leaked(text).map(|mark| mark.literal)
}

/// The family of the token that [`leak`] finds.
pub fn markup(text: &str) -> Option<&'static str> {
    family::FAMILIES.get(leaked(text)?.family).map(|family| family.name)
}

fn leaked(text: &str) -> Option<&'static family::Mark> {
    if walk::is_conversation(text) {
        let turns = |found: &family::Found| {
            matches!(found.mark.effect, family::Effect::Turn(_) | family::Effect::Header(_))
        };
        let found = family::find(text).find(turns).or_else(|| family::find(text).next());
        return found.map(|found| found.mark);
    }
    let text = text.trim_end();
    let mark = family::ending(text).filter(|mark| mark.effect == family::Effect::End)?;
    settle::may_end(text, mark).then_some(mark)
}

/// Drops the reasoning of a message, or places it where it is wanted.
fn place_reasoning(message: &mut Draft<'_>, reasoning: Reasoning) {
    let thought = message.reasoning_content.take().filter(|thought| !thought.is_empty());
    let Some(thought) = thought.filter(|_| message.role == Role::Assistant) else { return };
    match reasoning {
        Reasoning::Drop => {}
        Reasoning::Keep => message.reasoning_content = Some(thought),
        Reasoning::Inline => {
            let content = format!("<think>\n{thought}\n</think>\n\n{}", message.content);
            message.content = content.into();
        }
    }
}
