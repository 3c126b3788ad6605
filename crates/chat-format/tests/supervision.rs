//! Which tokens are trained, as a property: conversations drawn at random, under every template of a public collection, with
//! thinking off and on and under each kind of supervision. A turn that is to be trained is in the spans with its own words, and
//! no other turn's words are; or the row is refused with the reason.
//!
//! `NIGHTSHIFT_ROWS=200 NIGHTSHIFT_SEED=7 cargo test -p nightshift-chat-format --test supervision -- --nocapture` draws more rows.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use chat_format::{
    ChatTokenizer, Conversation, Message, RenderOptions, Role, Supervision, Thinking, ToolCall,
};
use common::vocabularies;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer};

/// A byte-level tokenizer with the control tokens that a template writes.
fn tokenizer(template: &Path) -> ChatTokenizer {
    let source = fs::read_to_string(template).unwrap();
    let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    alphabet.sort_unstable();
    let vocab: Vocab = (0u32..).zip(alphabet).map(|(id, c)| (c.to_string(), id)).collect();
    let model = BPE::builder().vocab_and_merges(vocab, Vec::new()).build().unwrap();
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    tokenizer.with_decoder(Some(ByteLevel::new(false, true, false)));
    let mut controls: BTreeSet<String> =
        ["<bos>", "<eos>", "[e~[", "]~b]", "]~!b["].map(str::to_owned).into();
    controls.extend(literals(&source));
    let controls = controls.into_iter().map(|token| AddedToken::from(token, true));
    tokenizer.add_special_tokens(controls.collect::<Vec<_>>()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    tokenizer.save(folder.path().join("tokenizer.json"), false).unwrap();
    let config = json!({ "bos_token": "<bos>", "eos_token": "<eos>", "chat_template": source });
    fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    ChatTokenizer::open(folder.path()).unwrap()
}

/// What looks like a control token in a template: `<|im_start|>`, `</think>`, `[INST]`.
fn literals(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (open, close) in [('<', '>'), ('[', ']')] {
        for part in source.split(open).skip(1) {
            let Some((inner, _)) = part.split_once(close) else { continue };
            let word = |c: char| c.is_alphanumeric() || "|｜▁_-/:".contains(c);
            let shouts = |c: char| c.is_ascii_uppercase() || "_/".contains(c);
            let fits = match open {
                '<' => inner.chars().all(word) && inner.chars().any(char::is_alphabetic),
                _ => inner.len() > 1 && inner.chars().all(shouts),
            };
            if fits {
                found.push(format!("{open}{inner}{close}"));
            }
        }
    }
    found
}

/// Draws conversations. Every text holds a word that stands nowhere else.
struct Draw {
    random: StdRng,
    word: usize,
}

impl Draw {
    fn word(&mut self) -> String {
        self.word += 1;
        format!("w{}q", self.word)
    }

    fn text(&mut self) -> String {
        let word = self.word();
        let pieces = [
            "",
            " ",
            "\n",
            "\n\n",
            "é🙂",
            "<|im_end|>",
            "<turn|>",
            "</think>",
            "<think>",
            "[INST]",
            "```\n<s>\n```",
            "user\n",
            "assistant",
            "{\"a\": 1}",
            "- item",
            "It is 50.",
            "¿Qué?",
            "<eos>",
            "\u{301}",
        ];
        let before = self.some(&pieces);
        let after = self.some(&pieces);
        format!("{before}{word}{after}")
    }

    fn some(&mut self, pieces: &[&str]) -> String {
        let count = self.random.random_range(0..3);
        (0..count).map(|_| *pieces.choose(&mut self.random).unwrap()).collect()
    }

    fn call(&mut self, number: usize) -> ToolCall {
        let arguments = match self.random.random_range(0..3) {
            0 => json!({ "host": self.word(), "ports": [22, 443] }),
            1 => json!({ "on": true }),
            _ => json!({ "text": self.text(), "more": { "deep": self.word() } }),
        };
        let name = ["scan", "light_on"][self.random.random_range(0..2)];
        serde_json::from_value(json!({
            "id": format!("call{number:05}"), "type": "function",
            "function": { "name": name, "arguments": arguments },
        }))
        .unwrap()
    }

    fn conversation(&mut self) -> Conversation {
        let mut messages = Vec::new();
        let mut chance = |of: u32| self.random.random_range(0..of) == 0;
        let (system, greeting, twice, tools, reasons) =
            (chance(2), chance(8), chance(8), chance(3), chance(3));
        if system {
            messages.push(Message::system(self.text()));
        }
        if greeting {
            messages.push(Message::assistant(self.text()));
        }
        for round in 0..self.random.random_range(1..4) {
            messages.push(Message::user(self.text()));
            if tools && self.random.random_range(0..2) == 0 {
                let words =
                    if self.random.random_range(0..2) == 0 { String::new() } else { self.text() };
                let calls = self.random.random_range(1..3);
                let calls: Vec<ToolCall> = (0..calls).map(|n| self.call(round * 10 + n)).collect();
                let results = calls.iter().map(|call| (call.id.clone(), call.name.clone()));
                let results: Vec<_> = results.collect();
                let mut asks = Message::assistant(words);
                asks.tool_calls = calls;
                messages.push(asks);
                for (id, name) in results {
                    let mut result = Message::new(Role::Tool, self.text());
                    (result.tool_call_id, result.name) = (id, Some(name));
                    messages.push(result);
                }
            }
            let mut answer = Message::assistant(self.text());
            if reasons {
                answer.reasoning_content = Some(self.text());
            }
            messages.push(answer);
            if twice && round == 0 {
                messages.push(Message::assistant(self.text()));
            }
        }
        let mut chat = Conversation::new(messages);
        if tools {
            chat.tools = vec![json!({ "type": "function", "function": {
                "name": "scan", "description": "Scans a host.",
                "parameters": { "type": "object", "required": ["host"], "properties": {
                    "host": { "type": "string", "description": "Name" },
                    "ports": { "type": "array", "items": { "type": "integer" }, "description": "Ports" } } } } })];
        }
        chat
    }
}

/// The unique words of a message: of its content, and of its calls.
fn words(message: &Message) -> BTreeSet<String> {
    let mut text = message.content.clone();
    for call in &message.tool_calls {
        text.push_str(&call.arguments.to_string());
    }
    unique(&text).into_iter().collect()
}

fn unique(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for part in text.split('w').skip(1) {
        let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
        if !digits.is_empty() && part[digits.len()..].starts_with('q') {
            found.push(format!("w{digits}q"));
        }
    }
    found
}

fn templates() -> Option<Vec<PathBuf>> {
    let folder = match std::env::var_os("NIGHTSHIFT_TEMPLATES") {
        Some(folder) => PathBuf::from(folder),
        None => vocabularies()?,
    };
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|kind| kind == "jinja")).collect();
    files.sort();
    Some(files)
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn spans_hold_the_words_of_the_turns_to_train_and_no_others() {
    let Some(files) = templates() else { return };
    let (rows, seed) = (number("NIGHTSHIFT_ROWS", 12), number("NIGHTSHIFT_SEED", 1));
    println!("{} templates, {rows} rows each, seed {seed}", files.len());
    let mut wrong = Vec::new();
    let mut log = std::env::var_os("NIGHTSHIFT_DUMP").map(|path| fs::File::create(path).unwrap());
    let (mut tried, mut refused) = (0, 0);
    for file in &files {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let tokenizer = tokenizer(file);
        let mut draw = Draw { random: StdRng::seed_from_u64(seed), word: 0 };
        let mut reasons = BTreeMap::<String, usize>::new();
        let mut trained_rows = 0;
        let mut shapes = BTreeMap::<String, usize>::new();
        for _ in 0..rows {
            let chat = draw.conversation();
            for thinking in [Thinking::Off, Thinking::On] {
                let date = jiff::civil::date(2026, 4, 8);
                let options = RenderOptions::default().thinking(thinking).date(date);
                for supervision in [Supervision::AssistantTurns, Supervision::LastTurn] {
                    tried += 1;
                    let row = match tokenizer.training_row(&chat, &options, supervision) {
                        Ok(row) => row,
                        Err(error) => {
                            refused += 1;
                            let reason = error.to_string();
                            let reason: String =
                                reason.chars().filter(|c| !c.is_ascii_digit()).collect();
                            *reasons
                                .entry(reason.lines().next().unwrap_or_default().to_owned())
                                .or_default() += 1;
                            continue;
                        }
                    };
                    trained_rows += 1;
                    let view = tokenizer.view(&row).unwrap();
                    let text = |range: &std::ops::Range<usize>| {
                        view[range.clone()]
                            .iter()
                            .map(|token| token.text.as_str())
                            .collect::<String>()
                    };
                    let spans: Vec<String> = row.trained.iter().map(text).collect();
                    let last = chat.messages.iter().rposition(|m| m.role == Role::Assistant);
                    let wanted: Vec<&Message> = chat
                        .messages
                        .iter()
                        .enumerate()
                        .filter(|(index, m)| {
                            m.role == Role::Assistant
                                && (supervision == Supervision::AssistantTurns
                                    || Some(*index) == last)
                        })
                        .map(|(_, m)| m)
                        .collect();
                    let mut expected: BTreeSet<String> =
                        wanted.iter().copied().flat_map(words).collect();
                    // Reasoning is trained where the template renders it.
                    let reasoning: BTreeSet<String> = wanted
                        .iter()
                        .flat_map(|m| unique(m.reasoning_content.as_deref().unwrap_or_default()))
                        .collect();
                    let found: Vec<String> = spans.iter().flat_map(|span| unique(span)).collect();
                    let found: BTreeSet<String> =
                        found.into_iter().filter(|word| !reasoning.contains(word)).collect();
                    if found != expected {
                        let shown =
                            chat_format::inspect::render(&view, chat_format::inspect::Style::Plain);
                        wrong.push(format!("{name} {thinking:?} {supervision:?}: missing {:?}, foreign {:?}\n{shown}",
                            expected.difference(&found).collect::<Vec<_>>(), found.difference(&expected).collect::<Vec<_>>()));
                    }
                    expected.clear();
                    for span in &spans {
                        let mut shape = span.clone();
                        for message in &wanted {
                            for text in [
                                message.content.trim(),
                                message.reasoning_content.as_deref().unwrap_or_default().trim(),
                            ] {
                                if !text.is_empty() {
                                    shape = shape.replace(text, "…");
                                }
                            }
                        }
                        if !shape.contains("scan") && !shape.contains("light_on") {
                            *shapes.entry(shape).or_default() += 1;
                        }
                    }
                    if let Some(log) = &mut log {
                        use std::io::Write;
                        let whole = text(&(0..row.tokens.len()));
                        let line = json!({"template": name, "thinking": thinking == Thinking::On, "messages": chat.messages,
                            "tools": chat.tools, "text": whole, "spans": spans});
                        writeln!(log, "{line}").unwrap();
                    }
                }
            }
        }
        println!("{name}: {trained_rows} rows, {reasons:?}");
        println!("    {shapes:?}");
    }
    println!("{tried} rows tried, {refused} refused, {} wrong", wrong.len());
    let few: Vec<&String> = wrong.iter().take(12).collect();
    assert!(
        wrong.is_empty(),
        "{} wrong: {}",
        wrong.len(),
        few.iter().map(|w| w.as_str()).collect::<Vec<_>>().join("\n----\n")
    );
    let _: Option<Value> = None;
}
