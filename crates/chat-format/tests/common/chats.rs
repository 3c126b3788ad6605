//! Raw rows, and the conversations that they become. Unlike the module beside it, this needs no tokenizer.
#![allow(dead_code, reason = "each test file uses its part")]

use chat_format::clean::{self, Options};
use chat_format::{Conversation, Role};
use serde_json::{Value, json};

/// The conversation of a raw row.
pub fn clean(raw: Value) -> Conversation {
    clean::row(raw, Options::default()).unwrap().0
}

/// A row of one message.
pub fn content(text: &str) -> Value {
    json!({"messages": [{"role": "user", "content": text}]})
}

/// A proper chat, whose texts are what people wrote.
pub fn chat(question: &str, answer: &str) -> Value {
    json!({"messages": [
        {"role": "user", "content": question},
        {"role": "assistant", "content": answer},
    ]})
}

/// Who says what.
pub fn turns(chat: &Conversation) -> Vec<(Role, &str)> {
    chat.messages.iter().map(|message| (message.role, message.content.as_str())).collect()
}
