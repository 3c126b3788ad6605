//! Renders conversations with chat templates, for a comparison with transformers (`benches/peers/templates.py`).
//!
//! Standard input has one request a line: `template` (a file), `date`, `messages`, `tools`, `thinking` and `prompt`, with the
//! names of the special tokens fixed as `<bos>` and `<eos>`. Standard output has one answer a line: `text` or `error`.

use std::error::Error;
use std::io::{BufRead, Write};

use chat_format::{ChatTemplate, TemplateInput};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Request {
    template: String,
    date: String,
    messages: Value,
    tools: Value,
    thinking: bool,
    prompt: bool,
}

impl Request {
    fn render(self) -> Result<String, Box<dyn Error>> {
        let mut input = TemplateInput::new(&[], self.date.parse()?);
        (input.messages, input.tools) = (self.messages, self.tools);
        (input.bos_token, input.eos_token) = ("<bos>", "<eos>");
        (input.add_generation_prompt, input.enable_thinking) = (self.prompt, self.thinking);
        Ok(ChatTemplate::new(&std::fs::read_to_string(self.template)?)?.render(&input)?)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut output = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let request: Request = serde_json::from_str(&line?)?;
        let answer = match request.render() {
            Ok(text) => json!({ "text": text }),
            Err(error) => json!({ "error": error.to_string() }),
        };
        writeln!(output, "{answer}")?;
    }
    Ok(())
}
