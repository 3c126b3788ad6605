//! Checks and prints the configuration of a night.
//!
//! ```sh
//! cargo run --release --example config -- check --config night.yaml
//! SANCTUM_TRAIN_MODEL=qwen cargo run --release --example config -- print --config night.yaml
//! ```

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use nightshift_examples::finish;
use pipeline::NightFile;
use pipeline::config::ModelChoice;
use serde_json::json;

/// Checks and prints the configuration of a night.
#[derive(Parser)]
struct Args {
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

fn main() -> ExitCode {
    finish(run(&Args::parse()))
}

fn run(args: &Args) -> anyhow::Result<()> {
    let file = NightFile::load(&args.config)?;
    let choice = ModelChoice::from_env();
    match args.command {
        Command::Check => {
            file.choose(&choice)?.check()?;
            match args.json {
                true => println!("{}", json!({ "config": args.config, "ok": true })),
                false => eprintln!("{}: valid, all files found", args.config.display()),
            }
        }
        Command::Print => {
            let settings = file.settings(&choice)?;
            if args.json {
                println!("{}", json!({ "config": args.config, "settings": settings }));
            } else {
                for setting in settings {
                    println!("{:<20} {:<20} {}", setting.key, setting.origin, setting.value);
                }
            }
        }
    }
    Ok(())
}
