//! Writes the tokens of a data file, so that all peers train on the same tokens.
//!
//! `cargo run --release -p nightshift-benches --example peer-rows -- MODEL rows.jsonl COUNT`

use std::io::Write;

use chat_format::{ChatTokenizer, Supervision};
use lora_train::{Columns, read_rows};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, data, count] = arguments.as_slice() else {
        return Err("expected MODEL DATA COUNT".into());
    };
    let tokenizer = ChatTokenizer::open(model)?;
    let rows = read_rows(data, &tokenizer, &Columns::default(), Supervision::AssistantTurns)?;
    let mut output = std::io::stdout().lock();
    for row in rows.iter().take(count.parse()?) {
        let trained: Vec<[usize; 2]> =
            row.trained.iter().map(|span| [span.start, span.end]).collect();
        serde_json::to_writer(
            &mut output,
            &serde_json::json!({ "tokens": row.tokens, "trained": trained }),
        )?;
        writeln!(output)?;
    }
    Ok(())
}
