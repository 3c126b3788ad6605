//! Any text in every field of a row: no control token survives, and cleaning again changes nothing.

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
    if let Ok(raw) = serde_json::from_str::<Value>(text) {
        check(raw, Options::default());
    }
});

fn check(raw: Value, options: Options) {
    let Ok((chat, _)) = clean::row(raw, options) else { return };
    let chat = json!(chat);
    no_leak(&chat);
    let (again, _) = clean::row(chat.clone(), options).expect("a clean row is a row");
    assert_eq!(json!(again), chat);
}

fn no_leak(value: &Value) {
    match value {
        Value::String(text) => assert_eq!(clean::leak(text), None, "{text:?}"),
        Value::Array(items) => items.iter().for_each(no_leak),
        Value::Object(fields) => fields.iter().for_each(|(key, value)| {
            assert_eq!(clean::leak(key), None, "{key:?}");
            no_leak(value);
        }),
        _ => {}
    }
}
