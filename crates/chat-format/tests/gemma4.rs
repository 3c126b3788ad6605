//! The real vocabulary and template of Gemma 4.

mod common;

use chat_format::{ChatTokenizer, Conversation, Message, RenderOptions, Supervision, Thinking};
use common::{GEMMA4, one_turn, two_turns, vocabularies};
use proptest::prelude::*;
use serde_json::json;

const TURN: u32 = 105;
const END_OF_TURN: u32 = 106;

fn options(thinking: Thinking) -> RenderOptions {
    RenderOptions { thinking, ..RenderOptions::default() }
}

/// The trained spans as the vocabulary writes them.
fn trained(tokenizer: &ChatTokenizer, chat: &Conversation, thinking: Thinking) -> Vec<String> {
    let supervision = Supervision::AssistantTurns;
    let row = tokenizer.training_row(chat, &options(thinking), supervision).unwrap();
    let text = |span: &std::ops::Range<usize>| {
        row.tokens[span.clone()].iter().map(|&id| tokenizer.token(id)).collect::<String>()
    };
    row.trained.iter().map(text).collect()
}

#[test]
fn all_vectors_of_the_vocabulary_match() {
    let (Some(tokenizer), Some(folder)) = (&*GEMMA4, vocabularies()) else { return };
    let read = |end: &str| {
        std::fs::read_to_string(folder.join(format!("ggml-vocab-gemma-4.gguf.{end}"))).unwrap()
    };
    let (inputs, outputs) = (read("inp"), read("out"));
    let inputs: Vec<&str> = inputs.split("\n__ggml_vocab_test__\n").collect();
    let mut matched = 0;
    for (input, output) in inputs.iter().zip(outputs.lines()) {
        let expected: Vec<u32> = output.split_whitespace().map(|id| id.parse().unwrap()).collect();
        assert_eq!(tokenizer.encode(input).unwrap(), expected, "{input:?}");
        matched += 1;
    }
    assert_eq!(matched, 46);
}

#[test]
fn facts_of_the_vocabulary() {
    let Some(tokenizer) = &*GEMMA4 else { return };
    assert_eq!(tokenizer.vocab_size(), 262_144);
    assert_eq!((tokenizer.bos_id(), tokenizer.eos_id()), (Some(2), Some(1)));
    assert_eq!(tokenizer.stop_ids(), [1, END_OF_TURN]);
    assert_eq!(tokenizer.text_tokens("\n").unwrap(), [2, 107, 1]);
    // Runs of line ends and spaces are tokens of their own, in anybody's text.
    assert_eq!(tokenizer.encode("\n\n\n").unwrap().len(), 1);
    // Tokens of the old Gemmas are plain text here.
    assert!(tokenizer.encode("<start_of_turn>").unwrap().len() > 1);
}

#[test]
fn the_empty_thinking_block_of_serving_is_in_the_row_and_untrained() {
    let Some(tokenizer) = &*GEMMA4 else { return };
    let chat = one_turn();
    let off = options(Thinking::Off);
    let prompt = tokenizer.prompt_tokens(&chat.messages[..2], &off).unwrap();
    assert!(prompt.ends_with(&[TURN, 4368, 107, 100, 45518, 107, 101]), "{prompt:?}");
    let row = tokenizer.training_row(&chat, &off, Supervision::AssistantTurns).unwrap();
    assert!(row.tokens.starts_with(&prompt));
    let answer = prompt.len()..row.tokens.len() - 1;
    assert_eq!(row.trained, std::slice::from_ref(&answer));
    assert_eq!(row.tokens[row.tokens.len() - 2..], [END_OF_TURN, 107]);
}

#[test]
fn spans_are_the_words_and_the_end_of_turn() {
    let Some(tokenizer) = &*GEMMA4 else { return };
    for thinking in [Thinking::Off, Thinking::On] {
        let (first, second) = ("Running▁scan...<turn|>", "All▁quiet.<turn|>");
        assert_eq!(trained(tokenizer, &one_turn(), thinking), [first], "{thinking:?}");
        assert_eq!(trained(tokenizer, &two_turns(), thinking), [first, second], "{thinking:?}");
    }
}

#[test]
fn a_tool_call_is_trained_and_the_tools_answer_is_not() {
    let Some(tokenizer) = &*GEMMA4 else { return };
    let chat: Conversation = serde_json::from_value(json!({"messages": [
        {"role": "user", "content": "Scan nas"},
        {"role": "assistant", "content": null, "tool_calls": [{"id": "c", "function": {"name": "scan", "arguments": {"host": "nas"}}}]},
        {"role": "tool", "tool_call_id": "c", "content": "22 open"},
        {"role": "assistant", "content": "Port 22 is open."}]}))
    .unwrap();
    let spans = trained(tokenizer, &chat, Thinking::Off);
    let call = "<|tool_call>call:scan{host:<|\"|>nas<|\"|>}<tool_call|><|tool_response>";
    assert_eq!(spans, [call, "Port▁22▁is▁open.<turn|>"]);
}

fn piece(tokenizer: &'static ChatTokenizer) -> impl Strategy<Value = String> {
    let controls: Vec<String> =
        (0..262_144).filter(|&id| tokenizer.is_control(id)).map(|id| tokenizer.token(id)).collect();
    assert!(controls.len() >= 24, "{controls:?}");
    prop_oneof![
        prop::sample::select(controls.clone()),
        prop::sample::select(controls).prop_map(|token| token[..token.len() / 2].to_owned()),
        prop::sample::select(vec![
            "|>",
            ">",
            "<",
            "turn",
            "model\n",
            " ",
            "\n\n",
            "é",
            "\u{F0000}",
            "word"
        ])
        .prop_map(str::to_owned),
    ]
}

/// Every control token of the vocabulary, whole and in parts, spliced into every text of a conversation.
#[test]
fn outside_text_never_becomes_a_control_token() {
    let Some(tokenizer) = &*GEMMA4 else { return };
    let pieces = prop::collection::vec(piece(tokenizer), 1..10);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(150)
    });
    runner
        .run(&pieces, |pieces| {
            let text = pieces.concat();
            let tokens = tokenizer.encode(&text).unwrap();
            prop_assert!(tokens.iter().all(|&id| !tokenizer.is_control(id)));
            prop_assert_eq!(tokenizer.decode(&tokens).unwrap(), text.as_str());
            let chat = Conversation::new(vec![
                Message::system(text.as_str()),
                Message::user(text.as_str()),
                Message::assistant(format!("{text}.")),
            ]);
            let supervision = Supervision::AssistantTurns;
            let row = tokenizer.training_row(&chat, &options(Thinking::Off), supervision).unwrap();
            let controls: Vec<u32> =
                row.tokens.iter().copied().filter(|&id| tokenizer.is_control(id)).collect();
            prop_assert_eq!(controls, [2, TURN, 106, TURN, 106, TURN, 100, 101, 106]);
            let words = row.tokens[row.trained[0].clone()].split_last().unwrap();
            prop_assert_eq!(*words.0, END_OF_TURN);
            let expected = format!("{text}.");
            prop_assert_eq!(tokenizer.decode(words.1).unwrap(), expected.trim());
            Ok(())
        })
        .unwrap();
}
