//! Data files in each of the formats, as rows of tokens.

#[path = "../../pipeline/tests/support/mod.rs"]
mod support;

use chat_format::{ChatTokenizer, Supervision, TrainingRow};
use lora_train::{Columns, Data, Result, TrainConfig, read_rows};
use support::Tiny;

/// The text of a row and of its trained tokens.
fn read(tiny: &Tiny, line: &str, supervision: Supervision) -> Result<(String, String)> {
    read_with(tiny, line, &Columns::default(), supervision)
}

fn read_with(
    tiny: &Tiny,
    line: &str,
    columns: &Columns,
    supervision: Supervision,
) -> Result<(String, String)> {
    tiny.write("rows.jsonl", &format!("\n{line}\n"));
    let tokenizer = ChatTokenizer::open(tiny.path("model")).unwrap();
    let rows = read_rows(tiny.path("rows.jsonl"), &tokenizer, columns, supervision)?;
    let [TrainingRow { tokens, trained }] = rows.as_slice() else { panic!("one row") };
    let text = |tokens: &[u32]| -> String {
        let spelled = tokens.iter().map(|&token| match u8::try_from(token) {
            Ok(byte) => char::from(byte).to_string(),
            Err(_) => format!("[{token}]"),
        });
        spelled.collect()
    };
    let answers: Vec<u32> = trained.iter().flat_map(|span| tokens[span.clone()].to_vec()).collect();
    Ok((text(tokens), text(&answers)))
}

const CHAT: &str = r#"{"messages":[{"role":"user","content":"a?"},{"role":"assistant","content":"b"},{"role":"user","content":"c?"},{"role":"assistant","content":"d"}],"agent":"yoda"}"#;

#[test]
fn conversations_questions_and_texts_are_rows() {
    let tiny = Tiny::new();
    let (row, answers) = read(&tiny, CHAT, Supervision::AssistantTurns).unwrap();
    assert_eq!(
        row,
        "[256]user\na?[257]\n[256]assistant\nb[257]\n[256]user\nc?[257]\n[256]assistant\nd[257]\n"
    );
    assert_eq!(answers, "b[257]d[257]");
    assert_eq!(read(&tiny, CHAT, Supervision::All).unwrap().1, row["[256]".len()..]);

    let question = r#"{"prompt":"a?","completion":"b"}"#;
    let (row, answers) = read(&tiny, question, Supervision::AssistantTurns).unwrap();
    assert_eq!(row, "[256]user\na?[257]\n[256]assistant\nb[257]\n");
    assert_eq!(answers, "b[257]");

    let (row, trained) = read(&tiny, r#"{"text":"abc"}"#, Supervision::All).unwrap();
    assert_eq!((row.as_str(), trained.as_str()), ("abc[257]", "bc[257]"), "EOS is appended");
}

#[test]
fn fields_may_have_other_names() {
    let tiny = Tiny::new();
    let config = TrainConfig::from_yaml(
        "chat_feature: turns\nprompt_feature: q\ncompletion_feature: a\ntext_feature: body",
        "night.yaml",
    )
    .unwrap();
    for (line, answers) in [
        (CHAT.replace("messages", "turns"), "b[257]d[257]"),
        (r#"{"q":"a?","a":"b"}"#.to_owned(), "b[257]"),
    ] {
        let columns = Columns::from(&config);
        let row = read_with(&tiny, &line, &columns, Supervision::AssistantTurns).unwrap();
        assert_eq!(row.1, answers, "{line}");
    }
}

#[test]
fn invalid_rows_are_refused_with_their_line() {
    let tiny = Tiny::new();
    for (line, supervision, words) in [
        ("{", Supervision::All, "rows.jsonl:2:1: expected JSON"),
        ("7", Supervision::All, "rows.jsonl:2: expected `messages`"),
        (
            r#"{"agent":"yoda"}"#,
            Supervision::All,
            "rows.jsonl:2: expected `messages`, `prompt` and `completion`, or `text`, found none of them",
        ),
        (r#"{"text":7}"#, Supervision::All, "rows.jsonl:2: `text`: expected a string, found 7"),
        (
            r#"{"text":"abc"}"#,
            Supervision::AssistantTurns,
            "rows.jsonl:2: `text`: expected a row with a prompt, for `mask_prompt`, found plain text",
        ),
        (
            r#"{"messages":[{"role":"wizard","content":"hm"}]}"#,
            Supervision::All,
            "rows.jsonl:2: `messages[0].role`",
        ),
        (r#"{"prompt":"a","completion":null}"#, Supervision::All, "`completion`"),
    ] {
        let message = read(&tiny, line, supervision).unwrap_err().to_string();
        assert!(message.contains(words), "{line}: {message}");
    }
}

#[test]
fn a_folder_has_a_training_split_and_maybe_a_validation_split() {
    let tiny = Tiny::new();
    let tokenizer = ChatTokenizer::open(tiny.path("model")).unwrap();
    let mut config = TrainConfig::default();
    config.data = Some(tiny.path("data"));
    std::fs::create_dir(tiny.path("data")).unwrap();

    let missing = Data::open(&config, &tokenizer).unwrap_err().to_string();
    assert!(missing.contains("train.jsonl"), "{missing}");
    tiny.write("data/train.jsonl", &format!("{CHAT}\n{CHAT}\n"));
    let data = Data::open(&config, &tokenizer).unwrap();
    assert_eq!((data.train.rows().len(), data.valid.is_some()), (2, false));
    tiny.write("data/valid.jsonl", CHAT);
    assert!(Data::open(&config, &tokenizer).unwrap().valid.is_some());
    tiny.write("data/valid.jsonl", "\n");
    let message = Data::open(&config, &tokenizer).unwrap_err().to_string();
    assert!(message.ends_with("valid.jsonl: expected at least one row, found none"), "{message}");
    tiny.write("data/valid.jsonl", CHAT);

    config.mask_prompt = true;
    let answers = Data::open(&config, &tokenizer).unwrap().train;
    assert_eq!(answers.trained_tokens(), 2 * 4);
    config.max_seq_length = 4;
    let message = Data::open(&config, &tokenizer).unwrap_err().to_string();
    assert!(message.contains("none of 2 rows has a token to train on within 4"), "{message}");

    config.data = None;
    let message = Data::open(&config, &tokenizer).unwrap_err().to_string();
    assert_eq!(message, "configuration: `data`: expected a folder with train.jsonl, found nothing");
}
