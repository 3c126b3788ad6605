//! Checks and prints the configuration of a night.
//!
//! ```sh
//! nightshift config check --config night.yaml
//! SANCTUM_TRAIN_MODEL=qwen nightshift config print --config night.yaml
//! ```

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use pipeline::NightFile;
use pipeline::config::ModelChoice;
use serde_json::json;

use crate::Exit;

/// Checks and prints the configuration of a night.
#[derive(Parser)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    /// The configuration file.
    #[arg(long, global = true, default_value = "night.yaml")]
    config: PathBuf,
    /// Print one JSON object on stdout.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Read every file that the night reads before training.
    Check,
    /// Print all effective values and where they come from.
    Print,
}

/// Runs the command.
///
/// # Errors
/// Whatever stops it.
pub fn run(args: Args) -> anyhow::Result<Exit> {
    let file = NightFile::load(&args.config)?;
    let choice = ModelChoice::from_env();
    match args.command {
        Command::Check => {
            file.choose(&choice)?.check()?;
            match args.json {
                true => outln!("{}", json!({ "config": args.config, "ok": true }))?,
                false => errln!("{}: valid, all files found", args.config.display()),
            }
        }
        Command::Print => {
            let settings = file.settings(&choice)?;
            if args.json {
                outln!("{}", json!({ "config": args.config, "settings": settings }))?;
            } else {
                for setting in settings {
                    outln!("{:<20} {:<20} {}", setting.key, setting.origin, setting.value)?;
                }
            }
        }
    }
    Ok(Exit::Done)
}
