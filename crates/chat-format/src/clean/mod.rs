//! Raw rows in, clean messages out.
//!
//! A raw row holds a chat in one of several shapes (see [`Shape`]), with or without the markup of some model inside its
//! texts. A clean row is a [`Conversation`] without any control token. The rules:
//!
//! - A text that *starts* with a turn (control tokens that open the text and white space aside) is a whole conversation,
//!   and becomes one message per turn. Contents are trimmed; empty turns are dropped.
//! - Anywhere else a control token is a stray, and is taken out. So words that imitate markup in the middle of a message
//!   never become a turn. Taking out repeats until none is left, so pieces cannot be nested to leave one behind. That goes
//!   for every text of a row: calls of tools, declarations and further keys included.
//! - A turn that opens before the last one was closed closes it; the last one may stay open (truncated data).
//! - Words between turns, and roles nobody knows, refuse the row.
//! - Reasoning (`<think>...</think>` and its like) is recognised in assistant turns only. Left open, it runs to the end of
//!   the turn; closed without having been opened, it started with the turn. What happens to it is [`Reasoning`]'s choice.
//! - An assistant turn with no words and no call left refuses the row: there is nothing to learn from it.
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

mod file;
mod report;
mod rest;
mod shape;
mod short;
mod walk;

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

use crate::draft::{At, Chat, Draft};
use crate::raw::{Fields, Raw};
use crate::{Conversation, Message, Problem, Role, family};

pub use file::{Strictness, convert};
use report::{Counts, Tally};
pub use report::{Notes, Refusal, Report};
pub use shape::Shape;

/// What becomes of an assistant's reasoning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Reasoning {
    /// It is left out.
    #[default]
    Drop,
    /// It is kept in [`Message::reasoning_content`].
    Keep,
    /// It stays in the content, before the words, between `<think>` and `</think>`.
    Inline,
}

/// Whether a row keeps whose markup it was in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Origin {
    /// It does not; the [report](Report) counts families all the same.
    #[default]
    Forget,
    /// It does, under the key [`MARKUP`].
    Keep,
}

/// The key under which a row keeps the family of its markup.
pub const MARKUP: &str = "markup";

/// How rows are cleaned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Options {
    /// What becomes of reasoning.
    pub reasoning: Reasoning,
    /// Whether rows keep whose markup they were in.
    pub origin: Origin,
}

impl Options {
    /// These options with another treatment of reasoning.
    pub fn reasoning(self, reasoning: Reasoning) -> Self {
        Options { reasoning, ..self }
    }

    /// These options with another treatment of the origin.
    pub fn origin(self, origin: Origin) -> Self {
        Options { origin, ..self }
    }
}

/// Cleans one raw row.
pub fn row(raw: Value, options: Options) -> Result<(Conversation, Notes), Problem> {
    let mut tally = Tally::default();
    let mut chat = shape::read(raw.into(), &mut tally)?;
    let clean = Clean::new(&mut chat, options, &mut tally)?.into();
    let mut counts = Counts::default();
    counts.add(&tally);
    Ok((clean, counts.into()))
}

/// A clean row. Its texts are slices of the raw one.
struct Clean<'t> {
    messages: Vec<Draft<'t>>,
    tools: &'t [Raw<'t>],
    meta: &'t Fields<'t>,
    markup: Option<&'static str>,
}

impl<'t> Clean<'t> {
    fn new(chat: &'t mut Chat<'_>, options: Options, tally: &mut Tally) -> Result<Self, Problem> {
        rest::strip(chat, tally);
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
        messages.iter_mut().for_each(|message| rest::strip_message(message, tally));
        let markup = tally.family().filter(|_| options.origin == Origin::Keep);
        let markup = markup.filter(|_| !chat.meta.has(MARKUP));
        Ok(Clean { messages, tools: &chat.tools, meta: &chat.meta, markup })
    }
}

/// As a [`Conversation`] is written.
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

/// The control tokens of every family known here.
pub fn control_tokens() -> impl Iterator<Item = &'static str> {
    family::all().iter().map(|mark| mark.literal)
}

/// The first control token that `text` holds, of whatever family. A clean text holds none.
pub fn leak(text: &str) -> Option<&'static str> {
    family::find(text).next().map(|found| found.mark.literal)
}

/// Whose markup a text holds: the family of its first control token.
pub fn markup(text: &str) -> Option<&'static str> {
    let found = family::find(text).next()?;
    family::FAMILIES.get(found.mark.family).map(|family| family.name)
}

/// Puts reasoning where the options want it.
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
