//! Writes rows in an uncleaned form: mostly a whole ChatML conversation inside one `content`.

use std::path::Path;

use rand::RngExt;
use serde_json::{Value, json};

use crate::random::rng;
use crate::row::{Exchange, Row};
use crate::{Error, Result};

/// Writes rows as JSON Lines in several uncleaned forms, with think blocks. The file is complete or absent.
pub fn write_raw(path: impl AsRef<Path>, rows: &[Row], seed: u64) -> Result<()> {
    let mut rng = rng(seed, "raw");
    let mut text = String::new();
    for row in rows {
        let mess = Mess { think: rng.random_range(0..10), shape: rng.random_range(0..20) };
        text.push_str(&mess.row(row).to_string());
        text.push('\n');
    }
    durable::write(path, text.as_bytes()).map_err(Error::from)
}

/// The uncleaned form of a row, chosen at random.
struct Mess {
    think: u8,
    shape: u8,
}

impl Mess {
    fn row(&self, row: &Row) -> Value {
        let mut value = match self.shape {
            _ if !row.tools.is_empty() => self.with_tools(row),
            0 => json!({ "text": self.marked_up(row) }),
            1 | 2 => {
                json!({ "conversations": self.turns(row, ["from", "value"], ["human", "gpt"], "") })
            }
            // Roles are separate, but each turn keeps its end token.
            3 | 4 => {
                json!({ "messages": self.turns(row, ["role", "content"], ["user", "assistant"], "<|im_end|>") })
            }
            _ => json!({ "messages": [{ "role": "user", "content": self.marked_up(row) }] }),
        };
        if let (Value::Object(value), Ok(Value::Object(meta))) =
            (&mut value, serde_json::to_value(&row.meta))
        {
            value.extend(meta);
        }
        value
    }

    /// The whole conversation in ChatML.
    fn marked_up(&self, row: &Row) -> String {
        let turn = |role: &str, content: &str| format!("<|im_start|>{role}\n{content}<|im_end|>");
        let mut turns = vec![turn("system", &row.system)];
        for exchange in &row.exchanges {
            turns.push(turn("user", &exchange.user));
            turns.push(turn("assistant", &self.answer(exchange)));
        }
        turns.join("\n")
    }

    /// The conversation as a list of turns with these keys and roles, and `end` after every content.
    fn turns(&self, row: &Row, keys: [&str; 2], roles: [&str; 2], end: &str) -> Vec<Value> {
        let turn = |role: &str, content: &str| json!({ keys[0]: role, keys[1]: format!("{content}{end}") });
        let mut turns = vec![turn("system", &row.system)];
        for exchange in &row.exchanges {
            turns.push(turn(roles[0], &exchange.user));
            turns.push(turn(roles[1], &self.answer(exchange)));
        }
        turns
    }

    /// The conversation as a log of an OpenAI-compatible server: tools beside the messages, arguments as text.
    fn with_tools(&self, row: &Row) -> Value {
        let mut messages = json!(row.messages());
        let exchanges = row.exchanges.iter();
        let mut answers = exchanges.filter(|exchange| !exchange.assistant.is_empty());
        for message in messages.as_array_mut().into_iter().flatten() {
            let calls = message.get_mut("tool_calls").and_then(Value::as_array_mut);
            if let Some(calls) = calls {
                for call in calls {
                    let arguments = call["function"]["arguments"].to_string();
                    call["function"]["arguments"] = arguments.into();
                }
                message["content"] = Value::Null;
            } else if message["role"] == "assistant" {
                message["content"] = answers.next().map(|answer| self.answer(answer)).into();
            }
        }
        json!({ "messages": messages, "tools": row.tools })
    }

    /// The answer after its think block; most blocks are empty, as models write them when thinking is disabled.
    fn answer(&self, exchange: &Exchange) -> String {
        let Exchange { user, assistant, .. } = exchange;
        match self.think {
            0 => assistant.clone(),
            1 | 2 => {
                format!("<think>\nAsked: {user} I should answer briefly.\n</think>\n{assistant}")
            }
            _ => format!("<think>\n\n</think>\n{assistant}"),
        }
    }
}
