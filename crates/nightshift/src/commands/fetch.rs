//! Fetches a model from the Hugging Face hub and prints where it is.
//!
//! ```sh
//! nightshift fetch mlx-community/gemma-4-31b-it-4bit
//! nightshift fetch OWNER/NAME --file model.Q4_1.gguf
//! ```

use clap::Parser;
use fetch::{HubModel, Network, Progress};
use indicatif::{ProgressBar, ProgressStyle};

use crate::progress::PlainProgress;
use crate::{Exit, show_warnings};

/// Downloads a model from the Hugging Face hub into the cache that the hub's own tools use.
///
/// Reads HF_HUB_CACHE, HF_HOME, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE. An interrupted download is
/// resumed. If the hub cannot be asked, a complete copy in the cache is used, with a warning. The path of
/// the folder (or the file) is printed on stdout, for `--model`.
#[derive(Parser)]
pub struct Args {
    /// The model, as OWNER/NAME.
    model: String,
    /// A branch, a tag or a commit.
    #[arg(long, default_value = "main")]
    revision: String,
    /// One file instead of the model's folder, a .gguf for instance; of a split one, the first part.
    #[arg(long)]
    file: Option<String>,
    /// Use the cache only.
    #[arg(long)]
    offline: bool,
}

/// Runs the command.
///
/// # Errors
/// Whatever stops it.
pub fn run(args: Args) -> anyhow::Result<Exit> {
    show_warnings();
    let network = if args.offline { Network::Offline } else { Network::from_env() };
    let model = HubModel::new(&args.model, &args.revision, network)?;
    let style =
        ProgressStyle::with_template("{msg} {bar:24} {bytes} of {total_bytes}, {eta} to go")?;
    let bar = ProgressBar::new(0).with_style(style);
    let mut lines = PlainProgress::unless(false);
    let mut tell = |name: &str, Progress { bytes, total }: Progress| {
        bar.set_message(name.to_owned());
        bar.set_length(total);
        bar.set_position(bytes);
        lines.tick(&bar);
    };
    let path = match &args.file {
        Some(file) => model.file(file, &mut tell),
        None => model.folder(&mut tell),
    };
    bar.finish_and_clear();
    outln!("{}", path?.display())?;
    Ok(Exit::Done)
}
