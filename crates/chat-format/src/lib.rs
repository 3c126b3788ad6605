//! Chat data for fine-tuning: cleaning, templates, tokenizers, and which tokens are trained.
//!
//! Each part is usable alone:
//!
//! - [`clean`] converts raw rows of many shapes, with any model's control tokens inside, to clean messages;
//! - [`jsonl`] reads and writes files of rows;
//! - [`tool_calls`] and [`reasoning`] read both out of what a model wrote;
//! - `ChatTemplate` (feature `templates`) renders messages with a model's own template;
//! - `ChatTokenizer` (feature `tokenizers`) renders and encodes them with a model's own template and vocabulary, never
//!   encodes the text of a message as a control token, and marks the tokens to train; `inspect` shows them.
//!
//! # Features
//!
//! With `default-features = false`, cleaning and reading rows remain.
//!
//! - `parquet`: Parquet files among the inputs of [`clean`]; needs the parquet crate. Off by default.
//! - `templates`: `ChatTemplate`; needs minijinja and jiff. On by default.
//! - `tokenizers`: `ChatTokenizer`, training rows and `inspect`; needs the tokenizers crate, and implies `templates`.
//!   On by default.
//!
#![cfg_attr(feature = "tokenizers", doc = "```no_run")]
#![cfg_attr(not(feature = "tokenizers"), doc = "```ignore")]
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

mod base64;
pub mod clean;
#[cfg(feature = "tokenizers")]
mod disguise;
mod draft;
mod error;
mod family;
mod input;
#[cfg(feature = "tokenizers")]
pub mod inspect;
mod json;
pub mod jsonl;
mod message;
mod problem;
mod raw;
pub mod reasoning;
#[cfg(all(test, feature = "templates"))]
mod round_trip;
#[cfg(feature = "tokenizers")]
mod supervise;
mod table;
#[cfg(feature = "templates")]
mod template;
#[cfg(feature = "tokenizers")]
mod tokenizer;
pub mod tool_calls;
#[cfg(feature = "tokenizers")]
mod turns;

pub use error::{Error, Result};
pub use message::{Conversation, Message, Role, ToolCall};
pub use problem::Problem;
#[cfg(feature = "tokenizers")]
pub use supervise::{Supervision, TrainingRow};
#[cfg(feature = "templates")]
pub use template::{ChatTemplate, TemplateInput};
#[cfg(feature = "tokenizers")]
pub use tokenizer::{ChatTokenizer, RenderOptions, Thinking, ToolForms};
