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

/// Words as people write them: not empty, no white space around, no markup. None begins with a quotation mark, because a
/// marker right between two of them is taken for a quoted one.
fn words() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9é<>|\\[\\]{}'\"/ \n.,?!-]{1,40}".prop_map(|text| text.trim().to_owned()).prop_filter(
        "words",
        |text| {
            let spelled = clean::control_tokens().any(|token| text.contains(token));
            !text.is_empty() && !text.starts_with(['\'', '"']) && !spelled
        },
    )
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
        "llama4" => {
            "<|begin_of_text|>".to_owned()
                + &each(&|m| {
                    format!("<|header_start|>{}<|header_end|>\n\n{}<|eot|>", m.role, m.content)
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
        "zephyr" => each(&|m| format!("<|{}|>\n{}</s>\n", m.role, m.content)),
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

/// An object with some of these keys, each with a value of its own that can be recognised, or null.
fn keys(names: &'static [&'static str]) -> impl Strategy<Value = serde_json::Map<String, Value>> {
    prop::sample::subsequence(names, 0..4).prop_flat_map(|names| {
        let values = prop::collection::vec((0..6, "[a-z]{6}[0-9]"), names.len());
        values.prop_map(move |values| {
            let value = |(kind, word): (i32, String)| match kind {
                0 => Value::Null,
                1 => json!({"name": word, "arguments": {"deep": format!("{word}x")}}),
                2 => json!([{"name": word}]),
                3 => json!([[word, format!("{word}x")]]),
                _ => json!(word),
            };
            names
                .iter()
                .zip(values)
                .map(|(name, drawn)| ((*name).to_owned(), value(drawn)))
                .collect()
        })
    })
}

/// The texts of a value, each with the key that it is under.
fn values(value: &Value, key: &str, found: &mut Vec<(String, String)>) {
    match value {
        Value::String(text) => found.push((key.to_owned(), text.clone())),
        Value::Array(items) => items.iter().for_each(|item| values(item, key, found)),
        Value::Object(fields) => fields.iter().for_each(|(name, value)| {
            // Parts of a value are named by the key of the whole.
            let known = [
                "messages",
                "conversations",
                "content",
                "request",
                "response",
                "choices",
                "message",
                "prompt",
                "completion",
            ];
            let outer = key.is_empty() || known.contains(&key);
            let skipped = ["role", "type", "from"].contains(&name.as_str());
            if !skipped {
                values(value, if outer { name } else { key }, found);
            }
        }),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// It was "no control token survives"; but tokens that people write about must survive. What holds instead: a clean row
    /// is not packed in markup, and cleaning it again changes nothing.
    #[test]
    fn a_clean_row_is_not_packed_and_cleaning_again_changes_nothing(
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
            json!({"messages": [{"role": "user", "content": text}, {"role": role, "content": text}]}),
            json!({"prompt": text, "completion": text, "tools": [{"name": text}], (text.as_str()): {"x": [text]}}),
            json!({"text": format!("<|im_start|>user\n{text}")}),
            json!({"text": format!("<|start|>assistant<|channel|>{text}")}),
        ] {
            let Ok((chat, _)) = clean::row(raw, options) else { continue };
            prop_assert_eq!(clean::packed(&chat), None);
            let chat = json!(chat);
            let again = clean::row(chat.clone(), options).unwrap().0;
            prop_assert_eq!(json!(again), chat);
        }
    }

    /// In a proper chat no text becomes a turn, and the words of people and tools survive to the letter.
    #[test]
    fn words_of_a_chat_survive(
        texts in prop::collection::vec(hostile(), 3),
        between in hostile(),
    ) {
        let [system, user, tool] = &texts[..] else { unreachable!() };
        let word = |text: &str| format!("so {text}.");
        let raw = json!({"messages": [
            {"role": "system", "content": word(system)},
            {"role": "user", "content": word(user)},
            {"role": "assistant", "content": word(&between), "tool_calls": [
                {"id": tool, "function": {"name": tool, "arguments": {(tool.as_str()): tool}}}]},
            {"role": "tool", "content": word(tool), "name": tool, "tool_call_id": tool},
            {"role": "user", "content": format!("{user} so")},
            {"role": "assistant", "content": word(&between)},
        ], "tools": [{"name": tool}], "about": {(tool.as_str()): tool}});
        let (chat, notes) = clean::row(raw.clone(), Options::default()).unwrap();
        prop_assert_eq!(chat.messages.len(), 6);
        for (message, raw) in chat.messages.iter().zip(raw["messages"].as_array().unwrap()) {
            prop_assert_eq!(&json!(message.content), &raw["content"]);
        }
        prop_assert_eq!(&chat.messages[2].tool_calls[0].name, tool);
        prop_assert_eq!(&chat.messages[2].tool_calls[0].arguments, &json!({(tool.as_str()): tool}));
        prop_assert_eq!(json!(chat.messages[3].name), json!(tool));
        prop_assert_eq!(json!(chat.tools), raw["tools"].clone());
        prop_assert_eq!(&chat.meta["about"], &raw["about"]);
        prop_assert_eq!(notes.removed, [].into());
    }

    /// Every key of a row is used, kept, or named in the report.
    #[test]
    fn no_key_is_lost_in_silence(
        row in keys(&["messages", "conversations", "instruction", "input", "output", "history", "prompt", "completion",
            "text", "system", "tools", "functions", "request", "response", "agent", "score"]),
        message in keys(&["name", "weight", "train", "thinking", "reasoning", "reasoning_content", "tool_calls",
            "function_call", "refusal", "audio", "channel", "recipient", "time", "tool_call_id"]),
        part in keys(&["cache_control", "citations", "id"]),
        shape in 0..5,
    ) {
        let mut part = part;
        part.extend([("type".to_owned(), json!("text")), ("text".to_owned(), json!("p4rt"))]);
        let mut answer = message;
        answer.extend([("role".to_owned(), json!("assistant")), ("content".to_owned(), json!([part]))]);
        let turns = json!([{"role": "user", "content": "qu3stion"}, answer]);
        let mut raw = row;
        raw.extend(match shape {
            0 => json!({"messages": turns}),
            1 => json!({"conversations": turns}),
            2 => json!({"request": {"messages": [turns[0]], "model": "m0del"}, "response": {"choices": [{"message": turns[1]}]}}),
            3 => json!({"prompt": [turns[0]], "completion": [turns[1]]}),
            _ => json!({"instruction": "qu3stion", "output": "p4rt"}),
        }.as_object().unwrap().clone());
        let raw = Value::Object(raw);
        let Ok((chat, notes)) = clean::row(raw.clone(), Options::default().reasoning(Reasoning::Keep)) else {
            return Ok(());
        };
        let clean = json!(chat).to_string();
        let named: Vec<&str> = notes.ignored.keys().filter_map(|path| path.rsplit('.').next()).collect();
        let mut leaves = Vec::new();
        values(&raw, "", &mut leaves);
        for (key, leaf) in leaves {
            prop_assert!(clean.contains(&leaf) || named.contains(&key.as_str()), "{}: {} of {} in {}, {:?}", key, leaf, raw, clean, named);
        }
    }

    #[test]
    fn markup_comes_apart_into_the_messages_it_was_made_of(
        messages in conversation(),
        family in prop::sample::select(vec!["chatml", "gemma", "gemma4", "llama3", "llama4", "mistral", "phi", "zephyr", "deepseek"]),
    ) {
        let raw = json!({"messages": [{"role": "user", "content": markup(family, &messages)}]});
        let (chat, notes) = clean::row(raw, Options::default()).unwrap();
        prop_assert_eq!(chat.messages, messages);
        prop_assert_eq!(notes.unclosed_turns, 0);
    }
}
