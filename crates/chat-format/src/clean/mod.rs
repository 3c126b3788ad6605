//! Raw rows in, clean messages out.
//!
//! A raw row holds a chat in one of several shapes (see [`Shape`]), with or without the markup of some model inside its
//! texts. A clean row is a [`Conversation`] without any control token. The rules:
//!
//! - A text that *starts* with a turn (control tokens that open the text and white space aside) is a whole conversation,
//!   and becomes one message per turn. Contents are trimmed; empty turns are dropped.
//! - Anywhere else a control token is a stray, and is taken out. So words that imitate markup in the middle of a message
//!   never become a turn. Taking out repeats until none is left, so pieces cannot be nested to leave one behind.
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

mod calls;
mod file;
mod report;
mod shape;
mod walk;

use serde_json::Value;

use crate::message::{At, Chat};
use crate::raw::Raw;
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

/// How rows are cleaned.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct Options {
    /// What becomes of reasoning.
    pub reasoning: Reasoning,
}

impl Options {
    /// These options with another treatment of reasoning.
    pub fn reasoning(self, reasoning: Reasoning) -> Self {
        Options { reasoning }
    }
}

/// Cleans one raw row.
pub fn row(raw: Value, options: Options) -> Result<(Conversation, Notes), Problem> {
    let mut tally = Tally::default();
    let chat = chat(raw.into(), options, &mut tally)?;
    let mut counts = Counts::default();
    counts.add(&tally);
    Ok((chat.into(), counts.into()))
}

fn chat<'a>(raw: Raw<'a>, options: Options, tally: &mut Tally) -> Result<Chat<'a>, Problem> {
    let chat = shape::read(raw, tally)?;
    let mut messages = Vec::with_capacity(chat.messages.len().max(3));
    for (index, message) in chat.messages.into_iter().enumerate() {
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
    Ok(Chat { messages, ..chat })
}

/// The control tokens of every family known here.
pub fn control_tokens() -> impl Iterator<Item = &'static str> {
    family::all().iter().map(|mark| mark.literal)
}

/// The first control token that `text` holds, of whatever family. A clean text holds none.
pub fn leak(text: &str) -> Option<&'static str> {
    family::find(text).next().map(|found| found.mark.literal)
}

/// Puts reasoning where the options want it.
fn place_reasoning(mut message: Message, options: Options) -> Message {
    let thought = message.reasoning_content.take().filter(|thought| !thought.is_empty());
    let Some(thought) = thought.filter(|_| message.role == Role::Assistant) else { return message };
    match options.reasoning {
        Reasoning::Drop => {}
        Reasoning::Keep => message.reasoning_content = Some(thought),
        Reasoning::Inline => {
            message.content = format!("<think>\n{thought}\n</think>\n\n{}", message.content);
        }
    }
    message
}
