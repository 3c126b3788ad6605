//! From the tokens of an answer to what a client gets of it: reasoning, words and calls, piece by piece.

mod detokenizer;
mod held;
mod reader;

pub(crate) use detokenizer::Detokenizer;
pub(crate) use reader::{Delta, Reader, Wanted, leaves_reasoning_open};
