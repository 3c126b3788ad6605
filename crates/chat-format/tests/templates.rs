//! Real templates, against Jinja2's own renderings (tests/data/renderings.py).
#![cfg(feature = "tokenizers")]

mod common;

use chat_format::{
    ChatTokenizer, Conversation, Message, RenderOptions, Supervision, Thinking, TrainingRow,
};
use common::{GEMMA4, QWEN, vocabularies};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Golden {
    template: String,
    thinking: bool,
    messages: Vec<Message>,
    tools: Option<Vec<Value>>,
    prompt: String,
    full: String,
}

/// What the model reads, control tokens spelled out.
fn text(tokenizer: &ChatTokenizer, tokens: &[u32]) -> String {
    let row = TrainingRow { tokens: tokens.to_vec(), trained: Vec::new() };
    tokenizer.view(&row).unwrap().into_iter().map(|token| token.text).collect()
}

#[test]
fn prompts_and_rows_equal_jinjas() {
    let (Some(gemma), Some(qwen), Some(folder)) = (&*GEMMA4, &*QWEN, vocabularies()) else {
        return;
    };
    let mut compared = 0;
    for line in include_str!("data/renderings.jsonl").lines() {
        let golden: Golden = serde_json::from_str(line).unwrap();
        let source = std::fs::read_to_string(folder.join(&golden.template)).unwrap();
        let base = if golden.template.contains("gemma") { gemma } else { qwen };
        let tokenizer = base.clone().with_template(&source).unwrap();
        let thinking = if golden.thinking { Thinking::On } else { Thinking::Off };
        let tools = golden.tools.clone().unwrap_or_default();
        let options = RenderOptions::default().thinking(thinking).tools(tools.clone());
        let case =
            format!("{} thinking {} {:?}", golden.template, golden.thinking, golden.messages);

        let (_, earlier) = golden.messages.split_last().unwrap();
        let prompt = tokenizer.prompt_tokens(earlier, &options).unwrap();
        assert_eq!(text(&tokenizer, &prompt), golden.prompt, "{case}");

        let mut chat = Conversation::new(golden.messages);
        chat.tools = tools;
        let row = tokenizer.training_row(&chat, &options, Supervision::LastTurn).unwrap();
        // Gemma's prompt adds an empty channel that finished turns lack; rows have it, because serving does.
        let block = "<|channel>thought\n<channel|>";
        let served = match golden.prompt.strip_suffix(block) {
            Some(bare) if golden.full.starts_with(bare) => {
                format!("{}{}", golden.prompt, &golden.full[bare.len()..])
            }
            _ => golden.full,
        };
        assert_eq!(text(&tokenizer, &row.tokens), served, "{case}");
        compared += 1;
    }
    assert_eq!(compared, 40);
}
