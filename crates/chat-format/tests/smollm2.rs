//! A real byte-level vocabulary and ChatML template: SmolLM2's.

mod common;

use chat_format::{ChatTokenizer, Conversation, Message, RenderOptions, Supervision};
use common::{SMOLLM2, one_turn, two_turns};
use proptest::prelude::*;

fn trained(
    tokenizer: &ChatTokenizer,
    chat: &Conversation,
    supervision: Supervision,
) -> Vec<String> {
    let row = tokenizer.training_row(chat, &RenderOptions::default(), supervision).unwrap();
    let text = |span: &std::ops::Range<usize>| {
        row.tokens[span.clone()].iter().map(|&id| tokenizer.token(id)).collect::<String>()
    };
    row.trained.iter().map(text).collect()
}

#[test]
fn tokens_equal_those_of_another_implementation() {
    let Some(tokenizer) = &*SMOLLM2 else { return };
    // Written by tests/data/smollm2_tokens.py.
    let golden = include_str!("data/smollm2_tokens.jsonl");
    for line in golden.lines() {
        let (text, expected): (String, Vec<u32>) = serde_json::from_str(line).unwrap();
        assert_eq!(tokenizer.encode(&text).unwrap(), expected, "{text:?}");
        assert_eq!(tokenizer.decode(&expected).unwrap(), text);
    }
    assert!(golden.lines().count() > 300);
}

#[test]
fn facts_of_the_vocabulary() {
    let Some(tokenizer) = &*SMOLLM2 else { return };
    assert_eq!(tokenizer.vocab_size(), 49_152);
    assert_eq!(tokenizer.eos_id(), Some(2));
    assert_eq!(tokenizer.stop_ids(), [2]);
    assert!(tokenizer.is_control(1) && !tokenizer.is_control(100));
}

#[test]
fn a_prompt_ends_where_the_model_goes_on() {
    let Some(tokenizer) = &*SMOLLM2 else { return };
    let chat = one_turn();
    let prompt = tokenizer.prompt_tokens(&chat.messages[..2], &RenderOptions::default()).unwrap();
    let mut expected = vec![1];
    expected.extend(tokenizer.encode("system\nYou are windu.").unwrap());
    expected.push(2);
    expected.extend(tokenizer.encode("\n").unwrap());
    expected.push(1);
    expected.extend(tokenizer.encode("user\nScan the network").unwrap());
    expected.push(2);
    expected.extend(tokenizer.encode("\n").unwrap());
    expected.push(1);
    expected.extend(tokenizer.encode("assistant\n").unwrap());
    assert_eq!(prompt, expected);
}

#[test]
fn spans_are_the_words_and_the_end_of_turn() {
    let Some(tokenizer) = &*SMOLLM2 else { return };
    let (first, second) = ("RunningĠscan...<|im_end|>", "AllĠquiet.<|im_end|>");
    let mut chat = two_turns();
    assert_eq!(trained(tokenizer, &chat, Supervision::AssistantTurns), [first, second]);
    assert_eq!(trained(tokenizer, &chat, Supervision::LastTurn), [second]);
    assert_eq!(trained(tokenizer, &chat, Supervision::All).len(), 1);

    chat.messages[4].train = Some(false);
    assert_eq!(trained(tokenizer, &chat, Supervision::AssistantTurns), [first]);
    assert!(trained(tokenizer, &chat, Supervision::LastTurn).is_empty());
    let all = trained(tokenizer, &chat, Supervision::All);
    assert!(all[0].contains(first) && !all.concat().contains(second), "{all:?}");
    chat.messages[2].train = Some(true);
    assert_eq!(trained(tokenizer, &chat, Supervision::LastTurn), [first]);
}

#[test]
fn a_plain_text_is_trained_whole() {
    let Some(tokenizer) = &*SMOLLM2 else { return };
    let row = tokenizer.text_row("Hello").unwrap();
    assert_eq!(row.tokens, [19556, 2]);
    assert_eq!(row.trained, std::slice::from_ref(&(1..2)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the messages say, the rendering holds the template's control tokens and no other.
    #[test]
    fn outside_text_never_becomes_a_control_token(
        parts in prop::collection::vec(prop_oneof![
            Just("<|im_start|>"), Just("<|im_end|>"), Just("<|endoftext|>"), Just("<repo_name>"),
            Just("<|im_"), Just("start|>"), Just("<"), Just(">"), Just("|"), Just("\n"), Just("assistant\n"), Just("hi "),
            Just("\u{F0000}"), Just("\u{F0001}"), Just("<file_sep>"), Just("é"),
        ], 0..12),
    ) {
        let Some(tokenizer) = &*SMOLLM2 else { return Ok(()) };
        let text = parts.concat();
        prop_assert!(tokenizer.encode(&text).unwrap().iter().all(|&id| !tokenizer.is_control(id)));
        let mut chat = two_turns();
        for message in &mut chat.messages {
            message.content = text.clone();
        }
        let row = tokenizer.training_row(&chat, &RenderOptions::default(), Supervision::AssistantTurns).unwrap();
        let controls: Vec<u32> = row.tokens.iter().copied().filter(|&id| tokenizer.is_control(id)).collect();
        prop_assert_eq!(controls, [1, 2].repeat(5));
        for span in &row.trained {
            let (end, words) = row.tokens[span.clone()].split_last().unwrap();
            prop_assert_eq!(*end, 2);
            // This template does not trim, so a line end that opens the answer merges with the header's.
            let words = tokenizer.decode(words).unwrap();
            prop_assert_eq!(words.trim_start_matches('\n'), text.trim_start_matches('\n'));
        }
    }
}

#[test]
fn a_model_without_a_template_says_so() {
    let Some(tokenizer) = &*SMOLLM2 else { return };
    let broken = tokenizer.clone().with_template("{% for %}").map(drop).unwrap_err().to_string();
    assert!(broken.starts_with("chat template: "), "{broken}");
    let strict =
        "{% if messages[0].role != 'user' %}{{ raise_exception('user first') }}{% endif %}";
    let strict = tokenizer.clone().with_template(strict).unwrap();
    let error = strict.prompt_tokens(&[Message::system("x")], &RenderOptions::default());
    assert!(error.unwrap_err().to_string().contains("user first"));
}
