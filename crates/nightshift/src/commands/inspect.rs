//! Shows which tokens of a row are trained.
//!
//! ```sh
//! nightshift inspect model.gguf clean.jsonl --row 3
//! ```

use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::Context;
use chat_format::inspect::{Style, render};
use chat_format::{ChatTokenizer, RenderOptions, Supervision, Thinking, clean, jsonl};
use clap::{Parser, ValueEnum};

use crate::Exit;

/// Renders a row with the model's chat template, with its trained tokens in colour.
#[derive(Parser)]
pub struct Args {
    /// A model folder or a .gguf file.
    model: PathBuf,
    /// Rows, raw or cleaned.
    data: PathBuf,
    /// The row to show, counted from 1.
    #[arg(long, default_value_t = 1)]
    row: usize,
    /// The trained tokens.
    #[arg(long, value_enum, default_value = "assistant")]
    supervise: Supervise,
    /// Render with thinking enabled.
    #[arg(long)]
    thinking: bool,
    /// Print one token per line, with its id.
    #[arg(long, conflicts_with = "html")]
    ids: bool,
    /// Write an HTML page to this file.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print one JSON object to stdout.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Supervise {
    /// All tokens.
    All,
    /// All assistant turns.
    Assistant,
    /// The last assistant turn.
    Last,
}

/// Runs the command.
///
/// # Errors
/// Whatever stops it.
pub fn run(args: Args) -> anyhow::Result<Exit> {
    let tokenizer = ChatTokenizer::open(&args.model)?;
    let raw = jsonl::Reader::open(&args.data)?
        .nth(args.row.saturating_sub(1))
        .with_context(|| format!("{}: expected a row {}", args.data.display(), args.row))??;
    let place = format!("{}:{}", args.data.display(), raw.line);
    let (chat, _) = clean::row(raw.value, clean::Options::default()).context(place)?;

    let thinking = if args.thinking { Thinking::On } else { Thinking::Off };
    let options = RenderOptions::default().thinking(thinking);
    let supervision = match args.supervise {
        Supervise::All => Supervision::All,
        Supervise::Assistant => Supervision::AssistantTurns,
        Supervise::Last => Supervision::LastTurn,
    };
    let rows = tokenizer.training_rows(&chat, &options, supervision)?;
    if rows.len() > 1 {
        errln!("{} rows: turns that are served in another context are trained apart", rows.len());
    }
    let mut page = String::new();
    for row in &rows {
        let tokens = tokenizer.view(row)?;
        if args.json {
            let spans: Vec<_> = row.trained.iter().map(|span| [span.start, span.end]).collect();
            let texts: Vec<_> = tokens.iter().map(|token| &token.text).collect();
            let row = serde_json::json!({"tokens": row.tokens, "texts": texts, "trained": spans});
            outln!("{row}")?;
        } else if args.html.is_some() {
            page.push_str(&render(&tokens, Style::Html));
        } else if args.ids {
            out!("{}", render(&tokens, Style::List))?;
        } else {
            let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            outln!("{}", render(&tokens, if colour { Style::Terminal } else { Style::Plain }))?;
        }
        errln!("{} tokens, {} trained", row.tokens.len(), row.trained_tokens());
    }
    if let Some(file) = &args.html {
        durable::write(file, page)?;
    }
    Ok(Exit::Done)
}
