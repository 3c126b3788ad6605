//! Clean messages, rendered with a model's own template and cleaned again, are the same messages: for every family.

use std::path::PathBuf;
use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::json;

use crate::clean::{self, Options};
use crate::template::{Scene, Template};
use crate::{Message, Role};

/// What a family's template does with a system message.
#[derive(Debug, Clone, Copy, PartialEq)]
enum System {
    /// It has a turn of its own.
    Turn,
    /// The template adds words of its own to it.
    Amended,
    /// It is refused, or put into the user's words.
    None,
}

struct Family {
    template: &'static str,
    system: System,
    bos: &'static str,
    eos: &'static str,
}

const fn family(
    template: &'static str,
    system: System,
    bos: &'static str,
    eos: &'static str,
) -> Family {
    Family { template, system, bos, eos }
}

const FAMILIES: [Family; 11] = [
    family("Qwen-Qwen2.5-7B-Instruct.jinja", System::Turn, "", "<|im_end|>"),
    family("Qwen-Qwen3-0.6B.jinja", System::Turn, "", "<|im_end|>"),
    family("Qwen3.5-4B.jinja", System::Turn, "", "<|im_end|>"),
    family("google-gemma-2-2b-it.jinja", System::None, "<bos>", "<eos>"),
    family("google-gemma-4-31B-it.jinja", System::Turn, "<bos>", "<eos>"),
    family(
        "meta-llama-Llama-3.1-8B-Instruct.jinja",
        System::Amended,
        "<|begin_of_text|>",
        "<|eot_id|>",
    ),
    family("Mistral-Small-3.2-24B-Instruct-2506.jinja", System::Turn, "<s>", "</s>"),
    family("mistralai-Mistral-Nemo-Instruct-2407.jinja", System::None, "<s>", "</s>"),
    family("microsoft-Phi-3.5-mini-instruct.jinja", System::Turn, "<s>", "<|endoftext|>"),
    family(
        "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B.jinja",
        System::Turn,
        "<｜begin▁of▁sentence｜>",
        "<｜end▁of▁sentence｜>",
    ),
    // Llama 2's template is not among the pinned files; these are its words.
    family(LLAMA2, System::Turn, "<s>", "</s>"),
];

const LLAMA2: &str = "{% if messages[0].role == 'system' %}{% set rest = messages[1:] %}{% set opening = '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' %}{% else %}{% set rest = messages %}{% set opening = '' %}{% endif %}{% for m in rest %}{% if m.role == 'user' %}{{ bos_token + '[INST] ' + (opening if loop.first else '') + m.content + ' [/INST]' }}{% else %}{{ ' ' + m.content + ' ' + eos_token }}{% endif %}{% endfor %}";

static FOLDER: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    let folder = fetch::vocabularies(&mut |_| {});
    folder.inspect_err(|reason| println!("skipped: no templates: {reason}")).ok()
});

impl Family {
    fn render(&self, folder: &std::path::Path, messages: &[Message], thinking: bool) -> String {
        let source = match self.template.ends_with(".jinja") {
            true => std::fs::read_to_string(folder.join(self.template)).unwrap(),
            false => self.template.to_owned(),
        };
        let scene = Scene {
            messages: json!(messages),
            tools: json!([]),
            bos_token: self.bos,
            eos_token: self.eos,
            add_generation_prompt: false,
            enable_thinking: thinking,
            date: jiff::civil::date(2026, 4, 8),
        };
        Template::new(&source).unwrap().render(&scene).unwrap()
    }
}

/// Words as people write them: not empty, no white space around, no markup.
fn words() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9é<>|\\[\\]{}'\"/ \n.,?!-]{1,40}"
        .prop_map(|text| text.trim().to_owned())
        .prop_filter("words", |text| !text.is_empty() && clean::leak(text).is_none())
}

fn conversation() -> impl Strategy<Value = Vec<Message>> {
    let rounds = prop::collection::vec((words(), words()), 1..4);
    (words(), rounds).prop_map(|(system, rounds)| {
        let mut messages = vec![Message::system(system)];
        for (user, assistant) in rounds {
            messages.extend([Message::user(user), Message::assistant(assistant)]);
        }
        messages
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_a_template_renders_comes_apart_into_the_same_messages(
        mut messages in conversation(),
        nth in 0..FAMILIES.len(),
        thinking in any::<bool>(),
    ) {
        let Some(folder) = &*FOLDER else { return Ok(()) };
        let family = &FAMILIES[nth];
        if family.system == System::None {
            messages.remove(0);
        }
        let text = family.render(folder, &messages, thinking);
        let raw = json!({"text": text});
        let (mut chat, notes) = clean::row(raw, Options::default()).unwrap();
        prop_assert_eq!(notes.unclosed_turns, 0, "{}", text);
        if family.system == System::Amended {
            prop_assert!(chat.messages[0].content.contains(&messages[0].content));
            chat.messages[0].content = messages[0].content.clone();
        }
        // Gemma 4 asks for thinking in the system's turn.
        prop_assert_eq!(chat.messages, messages, "{}: {}", family.template, text);
    }
}

/// A call and its result, in the three notations that models write.
#[test]
fn calls_and_their_results_come_back() {
    let Some(folder) = &*FOLDER else { return };
    let messages: Vec<Message> = serde_json::from_value(json!([
        {"role": "user", "content": "Scan nas"},
        {"role": "assistant", "content": "", "tool_calls": [
            {"function": {"name": "scan", "arguments": {"host": "nas", "ports": [22, 443], "deep": true}}}]},
        {"role": "tool", "name": "scan", "content": "22 open"},
        {"role": "assistant", "content": "Port 22 is open."},
        {"role": "user", "content": "Good"},
        {"role": "assistant", "content": "Bye."},
    ]))
    .unwrap();
    for family in FAMILIES.iter().filter(|family| {
        ["Qwen-Qwen3", "Qwen3.5", "google-gemma-4"]
            .iter()
            .any(|name| family.template.starts_with(name))
    }) {
        let text = family.render(folder, &messages, false);
        let (mut chat, _) = clean::row(json!({"text": text}), Options::default()).unwrap();
        for message in &mut chat.messages {
            // Only Gemma 4 says which function answers.
            if message.role == Role::Tool {
                assert!(message.name.as_deref().is_none_or(|name| name == "scan"));
                message.name = Some("scan".to_owned());
            }
        }
        assert_eq!(chat.messages, messages, "{}: {text}", family.template);
    }
}
