//! Converts an adapter to the format of mlx-lm, PEFT or llama.cpp.
//!
//! ```sh
//! nightshift export --model DIR --adapter DIR --format peft --out DIR
//! nightshift export --model DIR --adapter DIR --format gguf --out adapter.gguf
//! ```

use std::path::PathBuf;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use models::{Adapter, Model, WeightResidency, export_gguf, export_peft};
use serde_json::{Map, json};

use crate::{Exit, show_warnings};

/// Converts an adapter of mlx-lm or PEFT to the format of mlx-lm, PEFT or llama.cpp.
#[derive(Parser)]
pub struct Args {
    /// The model: a folder, or a `.gguf` file.
    #[arg(long)]
    model: PathBuf,
    /// The adapter's folder.
    #[arg(long)]
    adapter: PathBuf,
    /// The format.
    #[arg(long, value_enum)]
    format: Format,
    /// The folder (mlx, peft) or file (gguf) to write.
    #[arg(long)]
    out: PathBuf,
    /// `base_model_name_or_path` in PEFT's configuration; the path of the model if absent.
    #[arg(long)]
    base: Option<String>,
    /// Print one JSON object to stdout.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// `adapter_config.json` and `adapters.safetensors`, as training writes them.
    Mlx,
    /// `adapter_config.json` and `adapter_model.safetensors`.
    Peft,
    /// A GGUF file for llama.cpp's `--lora`.
    Gguf,
}

/// Runs the command.
///
/// # Errors
/// Whatever stops it.
pub fn run(args: Args) -> anyhow::Result<Exit> {
    show_warnings();
    // Streamed, because only the shapes are needed.
    let model = Model::open_with(&args.model, WeightResidency::Streamed)?;
    let adapter = Adapter::load(&args.adapter, &model)?;
    match args.format {
        Format::Mlx => {
            let out = &args.out;
            std::fs::create_dir_all(out)
                .with_context(|| format!("cannot write {}", out.display()))?;
            adapter.save(out, &model, &Map::new())?;
        }
        Format::Peft => {
            let path = args.model.display().to_string();
            export_peft(&adapter, &model, &args.out, args.base.as_ref().unwrap_or(&path))?;
        }
        Format::Gguf => export_gguf(&adapter, &model, &args.out)?,
    }
    errln!("{}", args.out.display());
    if args.json {
        outln!("{}", json!({ "out": args.out }))?;
    }
    Ok(Exit::Done)
}
