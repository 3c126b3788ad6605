//! How a model writes a call.

use chat_format::{ChatTokenizer, Message, RenderOptions, ToolCall};
use serde_json::{Map, json};

/// The forms of a call that answers can be made to have. Marks are in the notation of grammars.
pub(super) enum CallForm {
    /// A JSON object with `name` and `arguments`, and nothing else.
    Plain,
    /// The same between two marks, each on a line (Hermes, Qwen up to 3).
    Json { open: String, close: String },
    /// `call:NAME{key:value}` between two marks, with texts between two quotation marks (Gemma 4).
    Braces { open: String, close: String, quote: String },
    /// `<function=NAME>` and a tag for each parameter, between two marks (Qwen 3.5).
    Tags { open: String, close: String },
}

impl CallForm {
    /// The form that the chat template has, if it is one of these.
    pub(super) fn of(tokenizer: &ChatTokenizer) -> Option<Self> {
        const JSON: &str =
            "<tool_call>\n{\"name\": \"probe\", \"arguments\": {\"a\": \"b\"}}\n</tool_call>";
        const BRACES: &str = "<|tool_call>call:probe{a:<|\"|>b<|\"|>}<tool_call|>";
        const TAGS: &str = "<tool_call>\n<function=probe>\n<parameter=a>\nb\n</parameter>\n</function>\n</tool_call>";
        if !tokenizer.tool_forms().calls {
            return Some(Self::Plain);
        }
        let call = ToolCall::new("probe", Map::from_iter([("a".to_owned(), json!("b"))]));
        let mut called = Message::assistant("");
        called.tool_calls.push(call);
        let chat = [Message::user("?"), called, Message::user("?")];
        let prompt = tokenizer.prompt_tokens(&chat, &RenderOptions::default()).ok()?;
        let written = |&id: &u32| match tokenizer.is_control(id) {
            true => tokenizer.token(id),
            false => tokenizer.decode(&[id]).unwrap_or_default(),
        };
        let text: String = prompt.iter().map(written).collect();
        let mark = |mark| mark_of(tokenizer, mark);
        if text.contains(BRACES) {
            let [open, close, quote] = ["<|tool_call>", "<tool_call|>", "<|\"|>"].map(mark);
            return Some(Self::Braces { open, close, quote });
        }
        let [open, close] = ["<tool_call>", "</tool_call>"].map(mark);
        if text.contains(JSON) {
            return Some(Self::Json { open, close });
        }
        text.contains(TAGS).then_some(Self::Tags { open, close })
    }
}

/// A mark in the notation of grammars: a control token by its id, or text.
fn mark_of(tokenizer: &ChatTokenizer, mark: &str) -> String {
    let ids = 0..u32::try_from(tokenizer.vocab_size()).unwrap_or(u32::MAX);
    let mut ids = ids.filter(|&id| tokenizer.is_control(id) && tokenizer.token(id) == mark);
    ids.next().map_or_else(|| super::quoted(mark), |id| format!("<[{id}]>"))
}
