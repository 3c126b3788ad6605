//! Writes a checkpoint of random weights, to measure time and memory for a model of that size.
//!
//! ```sh
//! nightshift synthesize --config fixtures/configs/llama-8b.json --bits 4 --out /tmp/llama-8b
//! ```

use std::path::PathBuf;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use models::{Storage, Synthesized, synthesize};
use serde_json::json;

use crate::Exit;
use crate::progress::PlainProgress;

/// Writes a checkpoint of random weights for a `config.json` of a supported family.
#[derive(Parser)]
pub struct Args {
    /// The `config.json` of the model.
    #[arg(long)]
    config: PathBuf,
    /// The folder for the checkpoint.
    #[arg(long)]
    out: PathBuf,
    /// Bits per weight: 2, 3, 4, 5, 6 or 8; bf16 if absent.
    #[arg(long)]
    bits: Option<usize>,
    /// The number of weights that share a scale: 32, 64 or 128.
    #[arg(long, default_value_t = 64, requires = "bits")]
    group_size: usize,
    /// The seed of the weights.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print one JSON object to stdout.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// Whatever stops it.
pub fn run(args: Args) -> anyhow::Result<Exit> {
    let group_size = args.group_size;
    let storage = args.bits.map_or(Storage::Bf16, |bits| Storage::Packed { bits, group_size });
    let style = ProgressStyle::with_template("{bar:30} {bytes} of {total_bytes}, {eta} to go")?;
    let bar = ProgressBar::new(0).with_style(style);
    let mut lines = PlainProgress::unless(args.json);
    let made = synthesize(&args.config, &args.out, storage, args.seed, &mut |done, all| {
        bar.set_length(all);
        bar.set_position(done);
        lines.tick(&bar);
    });
    bar.finish_and_clear();
    let Synthesized { weights, bytes } = made?;
    errln!("{}: {weights} weights, {bytes} bytes", args.out.display());
    if args.json {
        outln!("{}", json!({ "weights": weights, "bytes": bytes, "out": args.out }))?;
    }
    Ok(Exit::Done)
}
