//! Any text, as a whole row and as the words of each role: no control token survives, and cleaning again changes nothing.

#![no_main]

use chat_format::Conversation;
use chat_format::clean::{self, Options, Reasoning};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

fuzz_target!(|text: &str| {
    for reasoning in [Reasoning::Drop, Reasoning::Keep] {
        let options = Options::default().reasoning(reasoning);
        for role in ["system", "user", "assistant", "tool"] {
            check(json!({"messages": [{"role": role, "content": text, "reasoning_content": text}]}), options);
        }
        check(json!({"text": text}), options);
        check(json!({"text": format!("<|im_start|>assistant\n{text}")}), options);
        check(json!({"prompt": text, "completion": text}), options);
    }
    if let Ok(raw) = serde_json::from_str::<Value>(text) {
        check(raw, Options::default());
    }
});

fn check(raw: Value, options: Options) {
    let Ok((chat, _)) = clean::row(raw, options) else { return };
    for text in texts(&chat) {
        assert_eq!(clean::leak(text), None, "{text:?}");
    }
    let (again, _) = clean::row(json!(chat), options).expect("a clean row is a row");
    assert_eq!(again, chat);
}

fn texts(chat: &Conversation) -> impl Iterator<Item = &str> {
    chat.messages.iter().flat_map(|message| {
        [Some(message.content.as_str()), message.reasoning_content.as_deref()].into_iter().flatten()
    })
}
