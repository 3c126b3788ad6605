//! Writes the logits of a sequence of token ids, for comparison with other implementations.
//!
//! ```sh
//! nightshift logits --model MODEL --tokens 504,3575,282 --out logits.safetensors
//! ```

use std::path::PathBuf;

use clap::Parser;
use safetensors::tensor::{Dtype, TensorView};

use crate::{Exit, ModelArgs, show_warnings};

/// Writes `logits`, f32 [tokens, vocabulary], to a safetensors file.
#[derive(Parser)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Token ids, separated by commas.
    #[arg(long, value_delimiter = ',', required = true)]
    tokens: Vec<u32>,
    /// The file to write.
    #[arg(long)]
    out: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// Whatever stops it.
pub fn run(args: Args) -> anyhow::Result<Exit> {
    show_warnings();
    let (model, adapter) = args.model.open()?;
    let logits = model.logits(&args.tokens, &adapter)?;
    let shape = vec![args.tokens.len(), model.config().vocab_size];
    let bytes: Vec<u8> =
        logits.try_as_slice::<f32>()?.iter().flat_map(|x| x.to_le_bytes()).collect();
    let view = TensorView::new(Dtype::F32, shape, &bytes)?;
    durable::write(&args.out, safetensors::serialize([("logits", view)], None)?)?;
    errln!("{}: {} x {}", args.out.display(), args.tokens.len(), model.config().vocab_size);
    Ok(Exit::Done)
}
