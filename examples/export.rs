//! Writes an adapter as other programs read it.
//!
//! ```sh
//! cargo run --release --example export -- --model DIR --adapter DIR --format peft --out DIR
//! cargo run --release --example export -- --model DIR --adapter DIR --format gguf --out adapter.gguf
//! ```

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use models::{Adapter, Model, WeightResidency, export_gguf, export_peft};
use nightshift_examples::finish;
use serde_json::json;

/// An adapter in another program's format.
#[derive(Parser)]
struct Args {
    /// The model: a folder, or a `.gguf` file.
    #[arg(long)]
    model: PathBuf,
    /// The adapter's folder.
    #[arg(long)]
    adapter: PathBuf,
    /// The format.
    #[arg(long, value_enum)]
    format: Format,
    /// The folder (peft) or file (gguf) to write.
    #[arg(long)]
    out: PathBuf,
    /// What PEFT's configuration calls the model; without this, the model's path.
    #[arg(long)]
    base: Option<String>,
    /// One JSON object on stdout.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// `adapter_config.json` and `adapter_model.safetensors`.
    Peft,
    /// One GGUF file beside the model's own, as llama.cpp loads it.
    Gguf,
}

fn main() -> ExitCode {
    finish(run(&Args::parse()))
}

fn run(args: &Args) -> anyhow::Result<()> {
    // Only the shapes are needed.
    let model = Model::open_with(&args.model, WeightResidency::Streamed)?;
    let adapter = Adapter::load(&args.adapter, &model)?;
    match args.format {
        Format::Peft => {
            let path = args.model.display().to_string();
            export_peft(&adapter, &model, &args.out, args.base.as_ref().unwrap_or(&path))?;
        }
        Format::Gguf => export_gguf(&adapter, &model, &args.out)?,
    }
    eprintln!("{}", args.out.display());
    if args.json {
        println!("{}", json!({ "out": args.out }));
    }
    Ok(())
}
