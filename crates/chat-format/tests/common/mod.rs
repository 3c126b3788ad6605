//! Real vocabularies for tests. Where the registry cannot be reached, tests that need one say so and pass.
#![allow(dead_code, reason = "each test file uses its part")]

use std::path::PathBuf;
use std::sync::LazyLock;

use chat_format::{ChatTokenizer, Conversation, Message};
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer};

/// SmolLM2's: byte-level BPE with ChatML.
pub static SMOLLM2: LazyLock<Option<ChatTokenizer>> =
    LazyLock::new(|| Some(ChatTokenizer::open(demo_model()?).unwrap()));

/// Gemma 4's: BPE over characters with byte fallback, and its own template.
pub static GEMMA4: LazyLock<Option<ChatTokenizer>> =
    LazyLock::new(|| vocabulary("ggml-vocab-gemma-4.gguf", "google-gemma-4-31B-it.jinja"));

/// The vocabulary of Qwen 2 with the template of Qwen 3.5, whose thinking tags it lacks as tokens.
pub static QWEN: LazyLock<Option<ChatTokenizer>> =
    LazyLock::new(|| vocabulary("ggml-vocab-qwen35.gguf", "Qwen3.5-4B.jinja"));

fn vocabulary(file: &str, template: &str) -> Option<ChatTokenizer> {
    let tokenizer = ChatTokenizer::open(vocabularies()?.join(file)).unwrap();
    let template = std::fs::read_to_string(vocabularies()?.join(template)).unwrap();
    Some(tokenizer.with_template(&template).unwrap())
}

/// The demo model's file.
pub fn demo_model() -> Option<PathBuf> {
    fetch::if_reachable(fetch::demo_model(&mut |_| {})).unwrap()
}

/// The folder of the pinned vocabularies, their test vectors and templates.
pub fn vocabularies() -> Option<PathBuf> {
    fetch::if_reachable(fetch::vocabularies(&mut |_| {})).unwrap()
}

/// System, user, assistant.
pub fn one_turn() -> Conversation {
    Conversation::new(vec![
        Message::system("You are windu."),
        Message::user("Scan the network"),
        Message::assistant("Running scan..."),
    ])
}

/// Two rounds.
pub fn two_turns() -> Conversation {
    let mut chat = one_turn();
    chat.messages.extend([Message::user("And now?"), Message::assistant("All quiet.")]);
    chat
}

/// A byte-level tokenizer without merges: 256 letters, then these control tokens.
pub fn byte_level<T: Into<String>>(controls: impl IntoIterator<Item = T>) -> Tokenizer {
    let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    alphabet.sort_unstable();
    let vocab: Vocab = (0u32..).zip(alphabet).map(|(id, c)| (c.to_string(), id)).collect();
    let model = BPE::builder().vocab_and_merges(vocab, Vec::new()).build().unwrap();
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    tokenizer.with_decoder(Some(ByteLevel::new(false, true, false)));
    let controls = controls.into_iter().map(|token| AddedToken::from(token, true));
    tokenizer.add_special_tokens(controls.collect::<Vec<_>>()).unwrap();
    tokenizer
}

/// What looks like a control token in a template: `<|im_start|>`, `</think>`, `[INST]`.
pub fn literals(source: &str) -> Vec<String> {
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
