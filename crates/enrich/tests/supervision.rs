//! What the whole data set trains, with the real vocabulary and template of Gemma 4: exactly the words of the assistant and
//! the token that ends its turn.

use std::ops::Range;
use std::path::Path;

use chat_format::{
    ChatTokenizer, Message, RenderOptions, Role, Supervision, Thinking, TrainingRow, tool_calls,
};
use enrich::household::Phrasings;
use enrich::{Dataset, EnrichConfig, GeneratorData, Household, Recipe};
use rayon::prelude::*;

const END_OF_TURN: u32 = 106;

fn gemma4() -> Option<ChatTokenizer> {
    let folder = fetch::vocabularies(&mut |_| {});
    let folder =
        folder.inspect_err(|reason| println!("skipped: no vocabularies: {reason}")).ok()?;
    let template = std::fs::read_to_string(folder.join("google-gemma-4-31B-it.jinja")).unwrap();
    let tokenizer = ChatTokenizer::open(folder.join("ggml-vocab-gemma-4.gguf")).unwrap();
    Some(tokenizer.with_template(&template).unwrap())
}

/// The 2,008 rows of the seed's recipe.
fn dataset() -> Dataset {
    let facts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/household.yaml");
    let (data, phrasings) = (GeneratorData::embedded().unwrap(), Phrasings::embedded().unwrap());
    let rows = Household::load(facts).unwrap().rows(&data, &phrasings, 1710, 7).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let clean = folder.path().join("clean.jsonl");
    let mut writer = chat_format::jsonl::Writer::create(&clean).unwrap();
    rows.iter().for_each(|row| writer.write(&row.conversation()).unwrap());
    writer.commit().unwrap();
    let config = EnrichConfig { recipe: Recipe::Seed, ..EnrichConfig::new(vec![clean]) };
    Dataset::build(&config).unwrap()
}

/// What is left of a row when its trained spans are taken out.
fn untrained(row: &TrainingRow) -> Vec<u32> {
    let trained =
        |index: usize| row.trained.iter().any(|span: &Range<usize>| span.contains(&index));
    let indexed = row.tokens.iter().enumerate();
    indexed.filter(|(index, _)| !trained(*index)).map(|(_, id)| *id).collect()
}

/// Whether the text of a span is the call in Gemma 4's notation and nothing else.
fn calls(text: &str, answer: &Message) -> bool {
    let text = text.replace('▁', " ");
    let inner = text.strip_prefix("<|tool_call>").and_then(|text| text.split_once("<tool_call|>"));
    let Some((call, end)) = inner else { return false };
    let found = tool_calls::parse(call).unwrap_or_default();
    let same = |call: &chat_format::ToolCall| {
        (&call.name, &call.arguments)
            == (&answer.tool_calls[0].name, &answer.tool_calls[0].arguments)
    };
    found.len() == 1 && found.iter().all(same) && ["<turn|>", "<|tool_response>"].contains(&end)
}

#[test]
fn spans_are_the_assistants_words_and_the_end_of_turn() {
    let Some(tokenizer) = gemma4() else { return };
    let rows = dataset().rows;
    assert_eq!(rows.len(), 2008);
    let several = rows.iter().filter(|row| row.messages.len() > 3).count();
    assert!(several > 50, "{several} rows of several turns");
    for thinking in [Thinking::Off, Thinking::On] {
        let options = RenderOptions::default().thinking(thinking);
        rows.par_iter().for_each(|chat| {
            let row = tokenizer.training_row(chat, &options, Supervision::AssistantTurns).unwrap();
            let answers: Vec<_> =
                chat.messages.iter().filter(|message| message.role == Role::Assistant).collect();
            assert_eq!(row.trained.len(), answers.len(), "{chat:?}");
            for (span, answer) in row.trained.iter().zip(answers) {
                let tokens = &row.tokens[span.clone()];
                if answer.tool_calls.is_empty() {
                    let mut expected = tokenizer.encode(&answer.content).unwrap();
                    expected.push(END_OF_TURN);
                    assert_eq!(tokens, expected, "{answer:?}");
                } else {
                    let text = tokens.iter().map(|id| tokenizer.token(*id)).collect::<String>();
                    assert!(calls(&text, answer), "{text} and {answer:?}");
                }
            }
            // Nothing of an answer is left outside its span: other answers would leave the same.
            let mut other = chat.clone();
            for message in other.messages.iter_mut().filter(|m| m.role == Role::Assistant) {
                match message.tool_calls.first_mut() {
                    Some(call) => call.arguments = serde_json::json!({"x": 1}),
                    None => message.content = "x".to_owned(),
                }
            }
            let other =
                tokenizer.training_row(&other, &options, Supervision::AssistantTurns).unwrap();
            assert_eq!(untrained(&row), untrained(&other), "{chat:?}");
        });
    }
}
