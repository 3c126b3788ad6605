//! Shows which tokens of a training row are trained.
//!
//! ```sh
//! cargo run --release --example inspect -- model.gguf clean.jsonl --row 3
//! ```

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use chat_format::inspect::{Style, render};
use chat_format::{ChatTokenizer, RenderOptions, Supervision, Thinking, clean, jsonl};
use clap::{Parser, ValueEnum};
use nightshift_examples::finish;

/// Renders one row as it will be trained, its trained tokens in colour.
#[derive(Parser)]
struct Args {
    /// A model's folder, or one .gguf file.
    model: PathBuf,
    /// Rows, raw or clean.
    data: PathBuf,
    /// Which row, from 1.
    #[arg(long, default_value_t = 1)]
    row: usize,
    /// Which turns are trained.
    #[arg(long, value_enum, default_value = "assistant")]
    supervise: Supervise,
    /// Render for a model that thinks first.
    #[arg(long)]
    thinking: bool,
    /// One token a line, with its id.
    #[arg(long, conflicts_with = "html")]
    ids: bool,
    /// Write a page instead.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print the tokens as one JSON object on standard output.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Supervise {
    /// Every token.
    All,
    /// Every assistant turn.
    Assistant,
    /// The last assistant turn.
    Last,
}

fn main() -> ExitCode {
    finish(run(Args::parse()))
}

fn run(args: Args) -> anyhow::Result<()> {
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
    let row = tokenizer.training_row(&chat, &options, supervision)?;
    let tokens = tokenizer.view(&row)?;

    if args.json {
        let spans: Vec<_> = row.trained.iter().map(|span| [span.start, span.end]).collect();
        let texts: Vec<_> = tokens.iter().map(|token| &token.text).collect();
        println!("{}", serde_json::json!({"tokens": row.tokens, "texts": texts, "trained": spans}));
    } else if let Some(page) = &args.html {
        durable::write(page, render(&tokens, Style::Html))?;
    } else if args.ids {
        print!("{}", render(&tokens, Style::List));
    } else {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        println!("{}", render(&tokens, if colour { Style::Terminal } else { Style::Plain }));
    }
    eprintln!("{} tokens, {} trained", row.tokens.len(), row.trained_tokens());
    Ok(())
}
