//! The real vocabulary and template of Gemma 4.
#![cfg(feature = "tokenizers")]

mod common;

use chat_format::{ChatTokenizer, Conversation, Message, RenderOptions, Supervision, Thinking};
use common::{GEMMA4, one_turn, two_turns};
use serde_json::json;

const TURN: u32 = 105;
const END_OF_TURN: u32 = 106;

fn options(thinking: Thinking) -> RenderOptions {
    RenderOptions::default().thinking(thinking)
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

#[test]
fn a_turn_that_asks_to_be_trained_is_trained_once() {
    let Some(tokenizer) = &*GEMMA4 else { return };
    let mut chat = two_turns();
    chat.messages.extend([Message::user("And later?"), Message::assistant("Nothing.")]);
    chat.messages[2].train = Some(true);
    let options = options(Thinking::Off);
    let rows = tokenizer.training_rows(&chat, &options, Supervision::AssistantTurns).unwrap();
    let spans = rows.iter().flat_map(|row| row.trained.iter().map(move |span| (row, span)));
    let spans = spans.map(|(row, span)| tokenizer.decode(&row.tokens[span.clone()]).unwrap());
    let spans: Vec<String> = spans.map(|words| words.trim().to_owned()).collect();
    assert_eq!(spans, ["Running scan...", "All quiet.", "Nothing."]);
}

#[test]
fn turns_are_trained_in_the_context_in_which_they_are_asked_for() {
    let Some(tokenizer) = &*GEMMA4 else { return };
    let chat = two_turns();
    for (thinking, count) in [(Thinking::Off, 2), (Thinking::On, 1)] {
        let options = options(thinking);
        let rows = tokenizer.training_rows(&chat, &options, Supervision::AssistantTurns).unwrap();
        assert_eq!(rows.len(), count, "{thinking:?}");
        let spans = rows.iter().flat_map(|row| row.trained.iter().map(move |span| (row, span)));
        let turns = [2, 4];
        assert_eq!(spans.clone().count(), turns.len());
        for ((row, span), turn) in spans.zip(turns) {
            let prompt = tokenizer.prompt_tokens(&chat.messages[..turn], &options).unwrap();
            assert_eq!(row.tokens[..span.start], prompt, "{thinking:?} {turn}");
        }
    }
}
