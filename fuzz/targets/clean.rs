//! Any text in every field of a row: a clean row is not packed in markup, cleaning again changes nothing, and the words of a
//! chat survive.

#![no_main]

use chat_format::clean::{self, Options, Origin, Reasoning};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

fuzz_target!(|text: &str| {
    for reasoning in [Reasoning::Drop, Reasoning::Keep] {
        let options = Options::default().reasoning(reasoning).origin(Origin::Keep);
        for role in ["system", "user", "assistant", "tool"] {
            check(
                json!({"messages": [{"role": role, "content": text, "reasoning_content": text}]}),
                options,
            );
        }
        let call = json!({"function": {"name": text, "arguments": {(text): [text]}}});
        check(
            json!({"messages": [{"role": "assistant", "content": null, "tool_calls": [call]}]}),
            options,
        );
        check(json!({"text": text}), options);
        check(json!({"text": format!("<|im_start|>assistant\n{text}")}), options);
        check(json!({"prompt": text, "completion": text, (text): {"further": text}}), options);
    }
    let question = format!("so {text}.");
    let chat = json!({"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": question}]});
    let (clean, _) = clean::row(chat, Options::default()).expect("a chat");
    assert!(clean.messages.len() == 2 && clean.messages.iter().all(|m| m.content == question));
    if let Ok(raw) = serde_json::from_str::<Value>(text) {
        check(raw, Options::default());
    }
});

fn check(raw: Value, options: Options) {
    let Ok((chat, _)) = clean::row(raw, options) else { return };
    assert_eq!(clean::packed(&chat), None);
    let chat = json!(chat);
    let (again, _) = clean::row(chat.clone(), options).expect("a clean row is a row");
    assert_eq!(json!(again), chat);
}
