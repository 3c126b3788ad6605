//! Text from outside never becomes a control token: real vocabularies, every control token of theirs and of all families
//! spliced at random, whole and in parts, into every text of a conversation.
#![cfg(feature = "tokenizers")]

mod common;

use chat_format::{
    ChatTokenizer, Conversation, Message, RenderOptions, Supervision, Thinking, clean,
};
use common::{GEMMA4, QWEN, SMOLLM2};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

/// The control tokens of a vocabulary, as it writes them.
fn controls(tokenizer: &ChatTokenizer) -> Vec<String> {
    let size = tokenizer.vocab_size() as u32;
    (0..size).filter(|&id| tokenizer.is_control(id)).map(|id| tokenizer.token(id)).collect()
}

fn hostile(tokenizer: &ChatTokenizer) -> impl Strategy<Value = String> {
    let mut tokens = controls(tokenizer);
    tokens.extend(clean::control_tokens().map(str::to_owned));
    let half = |token: String| token.chars().take(token.chars().count() / 2).collect::<String>();
    let plain =
        ["|>", ">", "<", "turn", "model\n", "assistant\n", " ", "\n\n", "é", "\u{F0000}", "word"];
    let piece = prop_oneof![
        2 => prop::sample::select(tokens.clone()),
        1 => prop::sample::select(tokens).prop_map(half),
        1 => prop::sample::select(plain.map(str::to_owned).to_vec()),
    ];
    prop::collection::vec(piece, 1..10).prop_map(|pieces| pieces.concat())
}

/// Begins with a word, because the pinned vocabulary of Qwen has no token for the `<think>` that its prompts end with: an
/// answer that begins with the same plain text would share tokens with the prompt.
fn answer(words: &str) -> String {
    format!("so {words}.")
}

fn chat(words: &str) -> Conversation {
    let answer = answer(words);
    Conversation::new(vec![
        Message::system(words),
        Message::user(words),
        Message::assistant(&answer),
        Message::user(words),
        Message::assistant(&answer),
    ])
}

fn check(tokenizer: &ChatTokenizer, at_least: usize, cases: u32) {
    assert!(controls(tokenizer).len() >= at_least, "{:?}", controls(tokenizer));
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) };
    let input = (hostile(tokenizer), prop::sample::select(vec![Thinking::Off, Thinking::On]));
    let run = TestRunner::new(config).run(&input, |(text, thinking)| {
        let tokens = tokenizer.encode(&text).unwrap();
        prop_assert!(tokens.iter().all(|&id| !tokenizer.is_control(id)));
        // SentencePiece writes a space as `▁`, and cannot tell the two apart.
        let spaced = |text: &str| text.replace('▁', " ");
        prop_assert_eq!(spaced(&tokenizer.decode(&tokens).unwrap()), spaced(&text));

        let options = RenderOptions::default().thinking(thinking);
        let row = |words: &str| {
            tokenizer.training_row(&chat(words), &options, Supervision::AssistantTurns).unwrap()
        };
        let (row, harmless) = (row(&text), row("words"));
        let controls = |tokens: &[u32]| {
            tokens.iter().copied().filter(|&id| tokenizer.is_control(id)).collect::<Vec<_>>()
        };
        prop_assert_eq!(controls(&row.tokens), controls(&harmless.tokens));
        prop_assert_eq!(row.trained.len(), 2);
        for span in &row.trained {
            let (end, words) = row.tokens[span.clone()].split_last().unwrap();
            prop_assert!(tokenizer.stop_ids().contains(end));
            let words = spaced(&tokenizer.decode(words).unwrap());
            let expected = spaced(&answer(&text));
            // With thinking on, Qwen's template puts its empty thoughts in front of the last answer.
            prop_assert!(words.trim().ends_with(expected.trim()), "{:?} {:?}", words, expected);
        }
        Ok(())
    });
    run.unwrap();
}

#[test]
fn gemma4() {
    let Some(tokenizer) = &*GEMMA4 else { return };
    check(tokenizer, 24, 100);
}

#[test]
fn qwen35() {
    let Some(tokenizer) = &*QWEN else { return };
    check(tokenizer, 3, 100);
}

#[test]
fn smollm2() {
    let Some(tokenizer) = &*SMOLLM2 else { return };
    check(tokenizer, 17, 100);
}
