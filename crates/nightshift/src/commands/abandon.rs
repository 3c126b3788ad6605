//! Gives up an unfinished night, so that the next start begins a new one.
//!
//! ```sh
//! nightshift abandon --config night.yaml --reason "the rows were yesterday's"
//! ```

use clap::Parser;
use pipeline::UnfinishedNight;
use serde_json::json;

use crate::Exit;
use crate::home::HomeArgs;

/// Gives up the unfinished night of a home: the next start begins a new one instead of resuming it.
///
/// The night's journal records it, and its files stay. A night that runs has to be stopped first (SIGTERM).
#[derive(Parser)]
pub struct Args {
    #[command(flatten)]
    home: HomeArgs,
    /// The reason to record.
    #[arg(long, default_value = "by hand")]
    reason: String,
    /// Print one JSON object on stdout.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// A night that runs, or a home that cannot be read.
pub fn run(args: Args) -> anyhow::Result<Exit> {
    let folder = args.home.folder()?;
    let night = match folder.is_dir() {
        true => UnfinishedNight::abandon(&pipeline::Home::open(&folder)?, &args.reason)?,
        false => None,
    };
    match &night {
        Some(night) => errln!("night {} is given up; the next start begins a new one", night.id),
        None => errln!("{}: no unfinished night", folder.display()),
    }
    if args.json {
        outln!("{}", json!({ "abandoned": night.map(|night| night.id) }))?;
    }
    Ok(Exit::Done)
}
