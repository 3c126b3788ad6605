//! What holds for every text, however hostile.

use chat_format::clean::{self, Options, Origin, Reasoning};
use chat_format::{Message, Role};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Control tokens whole, in halves, and words, in any order.
fn hostile() -> impl Strategy<Value = String> {
    let tokens: Vec<&'static str> = clean::control_tokens().collect();
    let half = |token: &str| {
        let middle = token.char_indices().nth(token.chars().count() / 2).map_or(0, |(at, _)| at);
        (token[..middle].to_owned(), token[middle..].to_owned())
    };
    let piece = prop_oneof![
        4 => prop::sample::select(tokens.clone()).prop_map(str::to_owned),
        2 => prop::sample::select(tokens.clone()).prop_map(move |token| half(token).0),
        2 => prop::sample::select(tokens).prop_map(move |token| half(token).1),
        1 => prop::sample::select(vec!["user\n", "assistant", "model\n", "\n", " ", "thought", "a < b", "é", "call:x{a:1}"])
            .prop_map(str::to_owned),
        1 => "\\PC{0,6}",
    ];
    prop::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
}

/// Words as people write them: not empty, no white space around, no markup.
fn words() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9é<>|\\[\\]{}'\"/ \n.,?!-]{1,40}"
        .prop_map(|text| text.trim().to_owned())
        .prop_filter("words", |text| !text.is_empty() && clean::leak(text).is_none())
}

fn conversation() -> impl Strategy<Value = Vec<Message>> {
    let rounds = prop::collection::vec((words(), words()), 1..4);
    (prop::option::of(words()), rounds).prop_map(|(system, rounds)| {
        let mut messages: Vec<Message> = system.map(Message::system).into_iter().collect();
        for (user, assistant) in rounds {
            messages.extend([Message::user(user), Message::assistant(assistant)]);
        }
        messages
    })
}

/// The same conversation in each family's markup.
fn markup(family: &str, messages: &[Message]) -> String {
    let each =
        |render: &dyn Fn(&Message) -> String| messages.iter().map(render).collect::<String>();
    let model = |role: Role| if role == Role::Assistant { "model" } else { role.as_str() };
    match family {
        "chatml" => each(&|m| format!("<|im_start|>{}\n{}<|im_end|>\n", m.role, m.content)),
        "gemma" => {
            "<bos>".to_owned()
                + &each(&|m| {
                    format!("<start_of_turn>{}\n{}<end_of_turn>\n", model(m.role), m.content)
                })
        }
        "gemma4" => {
            "<bos>".to_owned()
                + &each(&|m| format!("<|turn>{}\n{}<turn|>\n", model(m.role), m.content))
        }
        "llama3" => {
            "<|begin_of_text|>".to_owned()
                + &each(&|m| {
                    format!(
                        "<|start_header_id|>{}<|end_header_id|>\n\n{}<|eot_id|>",
                        m.role, m.content
                    )
                })
        }
        "mistral" => {
            "<s>".to_owned()
                + &each(&|m| match m.role {
                    Role::System => format!("[SYSTEM_PROMPT]{}[/SYSTEM_PROMPT]", m.content),
                    Role::User => format!("[INST]{}[/INST]", m.content),
                    _ => format!("{}</s>", m.content),
                })
        }
        "phi" => each(&|m| format!("<|{}|>\n{}<|end|>\n", m.role, m.content)) + "<|endoftext|>",
        "deepseek" => {
            "<｜begin▁of▁sentence｜>".to_owned()
                + &each(&|m| match m.role {
                    Role::System => m.content.clone(),
                    Role::User => format!("<｜User｜>{}", m.content),
                    _ => format!("<｜Assistant｜>{}<｜end▁of▁sentence｜>", m.content),
                })
        }
        other => panic!("{other}"),
    }
}

/// Every text of a row, keys included.
fn texts(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| texts(item, found)),
        Value::Object(fields) => fields.iter().for_each(|(key, value)| {
            found.push(key.clone());
            texts(value, found);
        }),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_control_token_survives_and_cleaning_again_changes_nothing(
        text in hostile(),
        role in prop::sample::select(vec!["system", "user", "assistant", "tool"]),
        reasoning in prop::sample::select(vec![Reasoning::Drop, Reasoning::Keep]),
    ) {
        let options = Options::default().reasoning(reasoning).origin(Origin::Keep);
        let call = json!({"id": text, "function": {"name": text, "arguments": {(text.as_str()): [text]}}});
        let told = json!({"id": text, "function": {"name": text, "arguments": text}});
        for raw in [
            json!({"messages": [{"role": role, "content": text, "reasoning_content": text, "name": text}]}),
            json!({"messages": [{"role": role, "content": text, "tool_calls": [call, told], "tool_call_id": text}]}),
            json!({"prompt": text, "completion": text, "tools": [{"name": text}], (text.as_str()): {"x": [text]}}),
            json!({"text": format!("<|im_start|>user\n{text}")}),
        ] {
            let Ok((chat, _)) = clean::row(raw, options) else { continue };
            let (chat, mut found) = (json!(chat), Vec::new());
            texts(&chat, &mut found);
            for text in found {
                prop_assert_eq!(clean::leak(&text), None, "{:?}", text);
            }
            let again = clean::row(chat.clone(), options).unwrap().0;
            prop_assert_eq!(json!(again), chat);
        }
    }

    #[test]
    fn markup_comes_apart_into_the_messages_it_was_made_of(
        messages in conversation(),
        family in prop::sample::select(vec!["chatml", "gemma", "gemma4", "llama3", "mistral", "phi", "deepseek"]),
    ) {
        let raw = json!({"messages": [{"role": "user", "content": markup(family, &messages)}]});
        let (chat, notes) = clean::row(raw, Options::default()).unwrap();
        prop_assert_eq!(chat.messages, messages);
        prop_assert_eq!(notes.unclosed_turns, 0);
    }
}
