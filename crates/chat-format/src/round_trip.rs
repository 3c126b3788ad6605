//! Clean messages, rendered with a model's own template and cleaned again, are the same messages: for every family.

use std::path::PathBuf;
use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::clean::{self, Notes, Options, Reasoning};
use crate::template::{ChatTemplate, TemplateInput};
use crate::{Conversation, Message, Role, ToolCall};

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
        let mut messages = json!(messages);
        // DeepSeek's template writes a turn of its own for every content that is not null.
        for message in messages.as_array_mut().unwrap() {
            if message.get("tool_calls").is_some() && self.template.starts_with("deepseek") {
                message["content"] = Value::Null;
            }
        }
        let input = TemplateInput {
            messages,
            tools: json!([]),
            bos_token: self.bos,
            eos_token: self.eos,
            add_generation_prompt: false,
            enable_thinking: thinking,
            date: jiff::civil::date(2026, 4, 8),
        };
        ChatTemplate::new(&source).unwrap().render(&input).unwrap()
    }
}

/// Words as people write them: not empty, no white space around, no markup. None begins with a quotation mark, because a
/// marker right between two of them is taken for a quoted one.
fn words() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9é<>|\\[\\]{}'\"/ \n.,?!-]{1,40}"
        .prop_map(|text| text.trim().to_owned())
        .prop_filter("words", |text| {
            !text.is_empty() && !text.starts_with(['\'', '"']) && !crate::family::is_in(text)
        })
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

/// Takes apart what a family's template makes of the messages.
fn there_and_back(
    family: &Family,
    messages: &[Message],
    thinking: bool,
    options: Options,
) -> Option<(Conversation, Notes, String)> {
    let folder = FOLDER.as_ref()?;
    let text = family.render(folder, messages, thinking);
    let (chat, notes) = clean::row(json!({"text": text}), options)
        .unwrap_or_else(|problem| panic!("{}: {problem}: {text}", family.template));
    Some((chat, notes, text))
}

/// Runs a property `cases` times for each family of `families`.
fn for_each<T: std::fmt::Debug>(
    families: &[&Family],
    cases: u32,
    input: impl Strategy<Value = T>,
    check: impl Fn(&Family, T) -> Result<(), TestCaseError>,
) {
    for family in families {
        let config =
            ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) };
        TestRunner::new(config).run(&input, |input| check(family, input)).unwrap();
    }
}

fn named(names: &[&str]) -> Vec<&'static Family> {
    let one = |family: &&Family| names.iter().any(|name| family.template.contains(name));
    FAMILIES.iter().filter(one).collect()
}

#[test]
fn what_a_template_renders_comes_apart_into_the_same_messages() {
    let all: Vec<_> = FAMILIES.iter().collect();
    for_each(&all, 100, (conversation(), any::<bool>()), |family, (mut messages, thinking)| {
        if family.system == System::None {
            messages.remove(0);
        }
        let back = there_and_back(family, &messages, thinking, Options::default());
        let Some((mut chat, notes, text)) = back else { return Ok(()) };
        prop_assert_eq!(notes.unclosed_turns, 0, "{}", text);
        if family.system == System::Amended {
            prop_assert!(chat.messages[0].content.contains(&messages[0].content));
            chat.messages[0].content = messages[0].content.clone();
        }
        // Gemma 4 asks for thinking in the system's turn.
        prop_assert_eq!(chat.messages, messages, "{}: {}", family.template, text);
        Ok(())
    });
}

/// Templates write the reasoning of the last turn only.
#[test]
fn reasoning_comes_back_where_a_template_writes_it() {
    let keep = Options::default().reasoning(Reasoning::Keep);
    for_each(
        &named(&["Qwen3"]),
        100,
        (conversation(), words()),
        |family, (mut messages, thought)| {
            if let Some(last) = messages.last_mut() {
                last.reasoning_content = Some(thought);
            }
            let back = there_and_back(family, &messages, true, keep);
            let Some((chat, _, text)) = back else { return Ok(()) };
            prop_assert_eq!(chat.messages, messages, "{}: {}", family.template, text);
            Ok(())
        },
    );
}

/// A question, a call, its result and the answer.
fn called() -> impl Strategy<Value = Vec<Message>> {
    let plain = || "[a-z]{2,9}( [a-z]{2,9}){0,3}".prop_filter("no constant", |text| text != "null");
    let value = prop_oneof![
        plain().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        prop::collection::vec(0..9, 0..3).prop_map(Value::from),
    ];
    let arguments = prop::collection::btree_map("[a-z_]{1,8}", value, 0..4);
    (words(), "[a-z_]{1,12}", arguments, plain(), words(), "[a-zA-Z0-9]{9}").prop_map(
        |(words, name, arguments, said, answer, id)| {
            let mut call = Message::assistant("");
            let arguments = json!(arguments);
            call.tool_calls =
                vec![ToolCall { id: Some(id.clone()), name: name.clone(), arguments }];
            let mut result = Message::new(Role::Tool, said);
            (result.name, result.tool_call_id) = (Some(name), Some(id));
            let question = [Message::system(&words), Message::user(&words)];
            question.into_iter().chain([call, result, Message::assistant(answer)]).collect()
        },
    )
}

/// Families differ in what they write of a call's id and of the name of the function that answers.
fn without_ids(mut messages: Vec<Message>) -> Vec<Message> {
    for message in &mut messages {
        (message.name, message.tool_call_id) = (None, None);
        message.tool_calls.iter_mut().for_each(|call| call.id = None);
    }
    messages
}

#[test]
fn calls_and_their_results_come_back() {
    let families = named(&["Qwen", "gemma-4", "istral", "deepseek"]);
    assert_eq!(families.len(), 7);
    for_each(&families, 60, called(), |family, mut messages| {
        if family.system == System::None {
            messages.remove(0);
        }
        let back = there_and_back(family, &messages, false, Options::default());
        let Some((chat, _, text)) = back else { return Ok(()) };
        let place = format!("{}: {text}", family.template);
        // Mistral's write both ids; only Gemma 4 says which function answers.
        if family.template.contains("istral") {
            let mut unnamed = messages.clone();
            unnamed.iter_mut().for_each(|message| message.name = None);
            prop_assert_eq!(&chat.messages, &unnamed, "{}", &place);
        }
        if family.template.contains("gemma") {
            prop_assert_eq!(&chat.messages[3].name, &messages[3].name, "{}", &place);
        }
        prop_assert_eq!(without_ids(chat.messages), without_ids(messages), "{}", place);
        Ok(())
    });
}
