//! A real byte-level vocabulary and ChatML template: SmolLM2's.
#![cfg(feature = "tokenizers")]

mod common;

use chat_format::{ChatTokenizer, Conversation, Message, RenderOptions, Supervision};
use common::{SMOLLM2, one_turn, two_turns};

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
