//! Text from outside never becomes a control sequence that a template writes as plain text: every public template of the pinned
//! collection, and templates of older models, with vocabularies that have no tokens for their control sequences.
//!
//! A sequence is compared by where its tokens end. What a person typed has the same characters and other tokens.
#![cfg(feature = "tokenizers")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;

use chat_format::{ChatTokenizer, Conversation, Message, RenderOptions, Supervision, TrainingRow};
use common::{byte_level, literals, vocabularies};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

/// Llama 2's form: the system prompt inside the first user turn.
const LLAMA2: &str = "{% set s = messages[0].content if messages[0].role == 'system' else none %}\
    {% for m in messages if m.role != 'system' %}{% if m.role == 'user' %}\
    {{ bos_token }}[INST] {% if s and loop.first %}<<SYS>>\n{{ s }}\n<</SYS>>\n\n{% endif %}{{ m.content }} [/INST]\
    {% else %} {{ m.content }} {{ eos_token }}{% endif %}{% endfor %}";

/// Forms that mark turns with words.
const WORDS: [(&str, &str); 3] = [
    (
        "a model that answers as an assistant",
        "{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}\n\n{% elif m.role == 'user' %}\
         USER: {{ m.content }} ASSISTANT:{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}",
    ),
    (
        "a model that follows instructions",
        "{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}\n\n{% elif m.role == 'user' %}\
         ### Instruction:\n{{ m.content }}\n\n{% else %}### Response:\n{{ m.content }}\n\n{% endif %}{% endfor %}\
         {% if add_generation_prompt %}### Response:\n{% endif %}",
    ),
    (
        "a model with tags of its own",
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{{ eos_token }}\n{% endfor %}\
         {% if add_generation_prompt %}<|assistant|>\n{% endif %}",
    ),
];

/// Control sequences of the older forms.
const OLD: [&str; 8] = [
    "[INST]",
    "[/INST]",
    "<<SYS>>",
    "<</SYS>>",
    "### Response:",
    "### Instruction:",
    "USER:",
    "ASSISTANT:",
];

/// The text of a row, and where its tokens end; of several tokens that share a character, the last.
fn read(tokenizer: &ChatTokenizer, row: &TrainingRow) -> (String, BTreeSet<usize>) {
    let (mut text, mut ends) = (String::new(), BTreeSet::new());
    // Decoders may drop a leading space, so tokens are decoded after another one.
    let before = tokenizer.encode("a").unwrap();
    let mut open = before.clone();
    for &id in &row.tokens {
        if tokenizer.is_control(id) {
            text.push_str(&spaced(&tokenizer.token(id)));
        } else {
            open.push(id);
            let words = tokenizer.decode(&open).unwrap();
            if words.ends_with('\u{fffd}') {
                continue;
            }
            text.push_str(&spaced(words.strip_prefix('a').unwrap()));
        }
        open.truncate(before.len());
        ends.insert(text.len());
    }
    (text, ends)
}

/// SentencePiece writes a space as `▁`, and cannot tell the two apart.
fn spaced(text: &str) -> String {
    text.replace('▁', " ")
}

/// How a range is divided into tokens: where, relative to its start, tokens end inside it.
fn division(ends: &BTreeSet<usize>, range: &Range<usize>) -> Vec<usize> {
    ends.range(range.start + 1..range.end).map(|end| end - range.start).collect()
}

/// The divisions of every place of a sequence in a row.
fn divisions(tokenizer: &ChatTokenizer, row: &TrainingRow, literal: &str) -> Vec<Vec<usize>> {
    let (text, ends) = read(tokenizer, row);
    let literal = spaced(literal);
    let places = text.match_indices(&literal);
    places.map(|(at, found)| division(&ends, &(at..at + found.len()))).collect()
}

fn chat(system: bool, words: &str) -> Conversation {
    let system = system.then(|| Message::system("Be brief."));
    let turns = [
        Message::user(words),
        Message::assistant(format!("so {words}.")),
        Message::user("More?"),
        Message::assistant(format!("no {words}.")),
    ];
    Conversation::new(system.into_iter().chain(turns).collect())
}

fn prompt(tokenizer: &ChatTokenizer, chat: &Conversation) -> chat_format::Result<TrainingRow> {
    let (_, earlier) = chat.messages.split_last().unwrap();
    let tokens = tokenizer.prompt_tokens(earlier, &RenderOptions::default())?;
    Ok(TrainingRow { tokens, trained: Vec::new() })
}

fn row(tokenizer: &ChatTokenizer, chat: &Conversation) -> chat_format::Result<TrainingRow> {
    tokenizer.training_row(chat, &RenderOptions::default(), Supervision::AssistantTurns)
}

/// Texts of control sequences, halves of them, and words.
fn hostile(sequences: Vec<String>) -> impl Strategy<Value = String> {
    let half = |text: String| text.chars().take(text.chars().count() / 2).collect::<String>();
    let plain =
        ["▁", "word", " ", "\n", "[", "]", "<", ">", "#", ":", "a", "[[", "INST]", "RESPONSE:"];
    let piece = prop_oneof![
        3 => prop::sample::select(sequences.clone()),
        1 => prop::sample::select(sequences.clone()).prop_map(|text| spaced(&text)),
        1 => prop::sample::select(sequences).prop_map(half),
        1 => prop::sample::select(plain.map(str::to_owned).to_vec()),
    ];
    prop::collection::vec(piece, 1..8).prop_map(|pieces| format!("w{}w", pieces.concat()))
}

/// Checks one template with one vocabulary. Returns how many of its control sequences were compared.
fn check(name: &str, tokenizer: &ChatTokenizer, source: &str, cases: u32) -> usize {
    let mut sequences = literals(source);
    sequences.extend(OLD.map(str::to_owned));
    // `<SYS>` is only a part of the sequence `<<SYS>>`.
    sequences.retain(|sequence| sequence != "<SYS>" && sequence != "</SYS>");
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) };
    let mut compared = 0;
    for system in [false, true] {
        for render in [prompt, row] {
            // Some templates refuse system prompts, or all that is not a tool's.
            let Ok(harmless) = render(tokenizer, &chat(system, "words")) else { continue };
            let own = |literal: &String| divisions(tokenizer, &harmless, literal);
            let written: Vec<(&String, Vec<Vec<usize>>)> =
                sequences.iter().map(|literal| (literal, own(literal))).collect();
            compared += written.iter().filter(|(_, own)| !own.is_empty()).count();
            let run = TestRunner::new(config.clone()).run(&hostile(sequences.clone()), |words| {
                let row = render(tokenizer, &chat(system, &words)).unwrap();
                let (text, _) = read(tokenizer, &row);
                prop_assert!(text.contains(&spaced(&words)), "{} {:?} {:?}", name, words, text);
                for (literal, own) in written.iter().filter(|(_, own)| !own.is_empty()) {
                    let mut found = divisions(tokenizer, &row, literal);
                    found.retain(|division| own.contains(division));
                    prop_assert_eq!(found.len(), own.len(), "{} {} {:?}", name, literal, words);
                }
                Ok(())
            });
            run.unwrap();
        }
    }
    compared
}

#[test]
fn templates_without_tokens_for_their_control_sequences() {
    let Some(folder) = vocabularies() else { return };
    let cases = std::env::var("NIGHTSHIFT_ROWS").ok().and_then(|rows| rows.parse().ok());
    let mut templates: Vec<(String, String)> = vec![("Llama 2".to_owned(), LLAMA2.to_owned())];
    templates.extend(WORDS.map(|(name, source)| (name.to_owned(), source.to_owned())));
    for file in fs::read_dir(&folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "jinja") {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            templates.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
    templates.sort();
    for vocabulary in ["ggml-vocab-llama-spm.gguf", "ggml-vocab-qwen2.gguf"] {
        let base = ChatTokenizer::open(folder.join(vocabulary)).unwrap();
        let mut compared = 0;
        for (name, source) in &templates {
            let tokenizer = base.clone().with_template(source).unwrap();
            compared += check(name, &tokenizer, source, cases.unwrap_or(3));
        }
        println!("{vocabulary}: {} templates, {compared} control sequences", templates.len());
        assert!(compared > templates.len(), "{compared}");
    }
}

/// Where a vocabulary has one token a character, there are no others: the row is refused, with the sequence.
#[test]
fn what_cannot_be_written_otherwise_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    byte_level(["<s>", "</s>"]).save(folder.path().join("tokenizer.json"), false).unwrap();
    let config =
        serde_json::json!({ "bos_token": "<s>", "eos_token": "</s>", "chat_template": LLAMA2 });
    fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    let tokenizer = ChatTokenizer::open(folder.path()).unwrap();
    let error = row(&tokenizer, &chat(false, "say [/INST] twice")).unwrap_err().to_string();
    assert!(error.contains("found \"[/INST]\""), "{error}");
    for harmless in ["say INST", "a[0] < b", "[inst] [ INST ]"] {
        let row = row(&tokenizer, &chat(true, harmless)).unwrap();
        assert!(read(&tokenizer, &row).0.contains(harmless));
    }
}
