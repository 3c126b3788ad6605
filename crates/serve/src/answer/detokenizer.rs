//! Tokens to text, one at a time.

use std::sync::Arc;

use chat_format::ChatTokenizer;

/// A character of a byte-level vocabulary takes at most so many tokens; what is incomplete beyond that is
/// not a character.
const CHARACTER: usize = 8;

/// Decodes the tokens of one answer, control tokens by their names.
#[derive(Debug)]
pub(crate) struct Detokenizer {
    tokenizer: Arc<ChatTokenizer>,
    /// The last tokens that were decoded, as context, and those that are not yet: how a token is written
    /// depends on the one before it.
    tokens: Vec<u32>,
    /// How many of them are decoded.
    decoded: usize,
}

impl Detokenizer {
    pub fn new(tokenizer: &Arc<ChatTokenizer>) -> Self {
        Self { tokenizer: Arc::clone(tokenizer), tokens: Vec::new(), decoded: 0 }
    }

    /// The text that this token completes: empty within a character.
    pub fn push(&mut self, token: u32) -> String {
        if self.tokenizer.is_control(token) {
            let text = self.finish() + &self.tokenizer.token(token);
            self.tokens.clear();
            self.decoded = 0;
            return text;
        }
        self.tokens.push(token);
        let text = self.pending();
        if text.ends_with('\u{fffd}') && self.tokens.len() - self.decoded < CHARACTER {
            return String::new();
        }
        self.tokens.drain(..self.decoded);
        self.decoded = self.tokens.len();
        text
    }

    /// What is left: an incomplete character, as U+FFFD.
    pub fn finish(&mut self) -> String {
        let text = self.pending();
        self.decoded = self.tokens.len();
        text
    }

    fn pending(&self) -> String {
        // The tokens are the model's, so all are in the vocabulary.
        let decode = |tokens: &[u32]| self.tokenizer.decode(tokens).unwrap_or_default();
        let before = decode(&self.tokens[..self.decoded]);
        let all = decode(&self.tokens);
        all.strip_prefix(&before).unwrap_or_default().to_owned()
    }
}
