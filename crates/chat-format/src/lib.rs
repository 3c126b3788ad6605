//! Chat data: clean messages, templates, tokenizers, and which tokens are trained.
//!
//! Four steps, each usable alone:
//!
//! - [`clean`] turns raw rows of many shapes, with any model's markup inside, into clean messages;
//! - [`jsonl`] reads and writes rows;
//! - [`ChatTokenizer`] renders messages with a model's own template and encodes them with its own vocabulary, so that
//!   text from outside never becomes a control token;
//! - [`ChatTokenizer::training_row`] says which of the tokens a trainer should learn from, and [`inspect`] shows it.
//!
//! ```no_run
//! use chat_format::{ChatTokenizer, Conversation, Message, RenderOptions, Supervision};
//!
//! let tokenizer = ChatTokenizer::open("model.gguf")?;
//! let chat = Conversation::new(vec![
//!     Message::system("You are windu..."),
//!     Message::user("Scan the network"),
//!     Message::assistant("Running scan..."),
//! ]);
//! let row = tokenizer.training_row(&chat, &RenderOptions::default(), Supervision::AssistantTurns)?;
//! for span in &row.trained {
//!     println!("{}", tokenizer.decode(&row.tokens[span.clone()])?);
//! }
//! # Ok::<(), chat_format::Error>(())
//! ```

pub mod clean;
mod disguise;
mod draft;
mod error;
mod family;
mod input;
pub mod inspect;
mod json;
pub mod jsonl;
mod message;
mod problem;
mod raw;
pub mod reasoning;
#[cfg(test)]
mod round_trip;
mod supervise;
mod template;
mod tokenizer;
pub mod tool_calls;

pub use error::{Error, Result};
pub use message::{Conversation, Message, Role, ToolCall};
pub use problem::Problem;
pub use supervise::{Supervision, TrainingRow};
pub use tokenizer::{ChatTokenizer, RenderOptions, Thinking};
