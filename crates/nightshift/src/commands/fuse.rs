//! Merges an adapter into the weights of its model, and measures the rounding error of the logits.
//!
//! ```sh
//! nightshift fuse --model DIR --adapter DIR --out DIR
//! ```

use std::path::PathBuf;

use chat_format::ChatTokenizer;
use clap::Parser;
use models::{Adapter, FusedWeights, LogitError, Model, fuse};
use serde_json::json;

use crate::{Exit, show_warnings};

/// Merges an adapter into a model.
#[derive(Parser)]
pub struct Args {
    /// The model: a folder with config.json and safetensors.
    #[arg(long)]
    model: PathBuf,
    /// The adapter's folder.
    #[arg(long)]
    adapter: PathBuf,
    /// The folder for the merged model, which must not exist yet.
    #[arg(long)]
    out: PathBuf,
    /// Dequantize the weights that change instead of quantizing them again.
    #[arg(long)]
    dense: bool,
    /// The text for comparing the logits.
    #[arg(
        long,
        default_value = "The house was quiet. Somebody asked what the council would do next."
    )]
    text: String,
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
    let tokens = ChatTokenizer::open(&args.model)?.encode(&args.text)?;
    let weights = if args.dense { FusedWeights::Dense } else { FusedWeights::AsBefore };
    fuse(&args.model, &args.adapter, &args.out, weights)?;

    let model = Model::open(&args.model)?;
    let adapter = Adapter::load(&args.adapter, &model)?;
    let fused = Model::open(&args.out)?;
    let LogitError { largest, share_of_effect } =
        LogitError::measure(&fused, &model, &adapter, &tokens)?;
    errln!(
        "{}: logits differ by at most {largest:.4}, and by {:.1} % of what the adapter changes",
        args.out.display(),
        100.0 * share_of_effect,
    );
    if args.json {
        outln!(
            "{}",
            json!({ "out": args.out, "largest": largest, "share_of_effect": share_of_effect })
        )?;
    }
    Ok(Exit::Done)
}
