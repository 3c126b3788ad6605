//! The messy form in which old rows lie around: a whole ChatML conversation inside one `content`.

use std::path::Path;

use rand::RngExt;
use serde_json::{Value, json};

use crate::random::rng;
use crate::row::Row;
use crate::{Error, Result};

/// Writes rows as JSON lines of the seed's form, think blocks and all; whole or not at all.
pub fn write_raw(path: impl AsRef<Path>, rows: &[Row], seed: u64) -> Result<()> {
    let mut rng = rng(seed, "raw");
    let mut text = String::new();
    for row in rows {
        text.push_str(&raw(row, rng.random_range(0..10)).to_string());
        text.push('\n');
    }
    durable::write(path, text.as_bytes()).map_err(Error::from)
}

/// One row. Most think blocks are empty, as a model that was told not to think leaves them.
fn raw(row: &Row, style: u8) -> Value {
    let mut content = turn("system", &row.system);
    for exchange in &row.exchanges {
        let think = match style {
            0 => String::new(),
            1 | 2 => format!("<think>\n{}\n</think>\n", thought(&exchange.user)),
            _ => "<think>\n\n</think>\n".to_owned(),
        };
        content.push('\n');
        content.push_str(&turn("user", &exchange.user));
        content.push('\n');
        content.push_str(&turn("assistant", &format!("{think}{}", exchange.assistant)));
    }
    let mut value = json!({ "messages": [{ "role": "user", "content": content }] });
    if let (Value::Object(value), Ok(Value::Object(meta))) =
        (&mut value, serde_json::to_value(&row.meta))
    {
        value.extend(meta);
    }
    value
}

fn turn(role: &str, content: &str) -> String {
    format!("<|im_start|>{role}\n{content}<|im_end|>")
}

fn thought(question: &str) -> String {
    format!("The question is: {question} I should answer briefly.")
}
