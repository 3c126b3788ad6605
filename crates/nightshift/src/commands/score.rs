//! The loss and perplexity of a model on the rows of a file.
//!
//! ```sh
//! nightshift score --model MODEL --data rows.jsonl --mask-prompt
//! ```

use std::path::PathBuf;
use std::time::Instant;

use chat_format::{ChatTokenizer, Supervision};
use clap::Parser;
use lora_train::{Columns, read_rows};
use models::{Score, ScoreRow, score};
use serde_json::json;

use crate::{Exit, ModelArgs, show_warnings};

/// Measures the token-weighted mean loss of rows with `messages`, `prompt` and `completion`, or `text`.
#[derive(Parser)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// The rows, one JSON object per line.
    #[arg(long)]
    data: PathBuf,
    /// Score only the assistant turns.
    #[arg(long)]
    mask_prompt: bool,
    /// Print one JSON object to stdout.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// Whatever stops it.
pub fn run(args: Args) -> anyhow::Result<Exit> {
    show_warnings();
    let (model, adapter) = args.model.open()?;
    let tokenizer = ChatTokenizer::open(&args.model.model)?;
    let supervision = match args.mask_prompt {
        true => Supervision::AssistantTurns,
        false => Supervision::All,
    };
    let rows = read_rows(&args.data, &tokenizer, &Columns::default(), supervision)?;
    let rows: Vec<ScoreRow> =
        rows.iter().map(|row| ScoreRow { tokens: &row.tokens, scored: &row.trained }).collect();
    let start = Instant::now();
    let total: Score = score(&model, &adapter, &rows)?.into_iter().sum();
    let seconds = start.elapsed().as_secs_f64();
    anyhow::ensure!(
        total.tokens > 0,
        "{}: expected a token to score, found none in {} rows",
        args.data.display(),
        rows.len()
    );
    let (loss, perplexity) = (total.loss(), total.loss().exp());
    if args.json {
        let tokens = total.tokens;
        outln!(
            "{}",
            json!({ "loss": loss, "perplexity": perplexity, "tokens": tokens, "rows": rows.len(), "seconds": seconds })
        )?;
    } else {
        errln!("{} rows in {seconds:.1} s", rows.len());
        outln!("loss {loss:.4}, perplexity {perplexity:.3}, {} tokens", total.tokens)?;
    }
    Ok(Exit::Done)
}
