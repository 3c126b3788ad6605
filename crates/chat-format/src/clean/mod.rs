//! Converts raw rows of many shapes and markups to clean messages.
//!
//! A raw row holds a conversation in one of several shapes (see [`Shape`]), with or without a model's markup inside its
//! texts. A clean row is a [`Conversation`] without any control token. The rules:
//!
//! - A text that *starts* with a turn (after white space and beginning-of-text tokens) is a whole conversation and becomes
//!   one message per turn. Contents are trimmed; empty turns are dropped.
//! - A control token anywhere else is removed, so text that imitates markup inside a message never becomes a turn. Removal
//!   repeats until no token is left, because removing one may join the halves of another. This applies to every string of
//!   a row, including tool calls, tool declarations and other keys.
//! - A turn that begins before the previous one was closed closes it. The last one may stay open (truncated data).
//! - A row with text between turns, or with an unknown role, is refused.
//! - Reasoning (`<think>...</think>` and its equivalents) is recognised in assistant turns only; see
//!   [`reasoning`](crate::reasoning) for blocks that are not opened or closed. [`Reasoning`] says what happens to it.
//! - A row with an assistant turn that has neither text nor calls is refused, because nothing can be learnt from it.
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

mod fast_path;
mod file;
mod report;
mod shape;
mod strip;
mod walk;

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

use crate::draft::{At, Chat, Draft};
use crate::raw::{Fields, Raw};
use crate::{Conversation, Message, Problem, Role, family};

pub use file::{Strictness, convert};
use report::{Counts, Tally};
pub use report::{Notes, Refusal, Report, Shape};

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

/// How rows are cleaned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Options {
    /// What happens to reasoning.
    pub reasoning: Reasoning,
    /// Whether rows record the family of their markup.
    pub origin: Origin,
}

impl Options {
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
    let mut chat = shape::read(raw.into(), &mut tally)?;
    let clean = Clean::new(&mut chat, options, &mut tally)?.into();
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
    fn new(chat: &'t mut Chat<'_>, options: Options, tally: &mut Tally) -> Result<Self, Problem> {
        strip::row(chat, tally);
        let chat = &*chat;
        let mut messages = Vec::with_capacity(chat.messages.len().max(3));
        for (index, message) in chat.messages.iter().enumerate() {
            let at = At::item("messages", index);
            if walk::is_conversation(&message.content) {
                walk::conversation(&message.content, at, options, tally, &mut messages)?;
            } else {
                messages.extend(walk::single(message, at, options, tally)?);
            }
        }
        if messages.is_empty() {
            return Err(Problem::new("messages", "at least one message with words", "none"));
        }
        messages.iter_mut().for_each(|message| strip::message(message, tally));
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

/// The control tokens of every known family.
pub fn control_tokens() -> impl Iterator<Item = &'static str> {
    family::all().iter().map(|mark| mark.literal)
}

/// The first control token in `text`, of any family. A clean text contains none.
pub fn leak(text: &str) -> Option<&'static str> {
    family::find(text).next().map(|found| found.mark.literal)
}

/// The family of the first control token in `text`.
pub fn markup(text: &str) -> Option<&'static str> {
    let found = family::find(text).next()?;
    family::FAMILIES.get(found.mark.family).map(|family| family.name)
}

/// Places the reasoning as the options say.
fn place_reasoning<'t>(mut message: Draft<'t>, options: Options) -> Draft<'t> {
    let thought = message.reasoning_content.take().filter(|thought| !thought.is_empty());
    let Some(thought) = thought.filter(|_| message.role == Role::Assistant) else { return message };
    match options.reasoning {
        Reasoning::Drop => {}
        Reasoning::Keep => message.reasoning_content = Some(thought),
        Reasoning::Inline => {
            let content = format!("<think>\n{thought}\n</think>\n\n{}", message.content);
            message.content = content.into();
        }
    }
    message
}
