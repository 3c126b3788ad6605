//! What a night's file says, and whether all that it names is there.
//!
//! ```sh
//! cargo run --release --example config -- check --config night.yaml
//! SANCTUM_TRAIN_MODEL=qwen cargo run --release --example config -- print --config night.yaml
//! ```

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use nightshift_examples::finish;
use pipeline::{Choice, NightFile};
use serde_json::json;

/// Looks at a night's configuration.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
    /// The night's file.
    #[arg(long, global = true, default_value = "night.yaml")]
    config: PathBuf,
    /// Print one JSON object on stdout.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Reads every file that the night would read before it trains.
    Check,
    /// Prints every effective value and where it comes from.
    Print,
}

fn main() -> ExitCode {
    finish(run(&Args::parse()))
}

fn run(args: &Args) -> anyhow::Result<()> {
    let file = NightFile::load(&args.config)?;
    let choice = Choice::from_env();
    match args.command {
        Command::Check => {
            file.choose(&choice)?.check()?;
            match args.json {
                true => println!("{}", json!({ "config": args.config, "ok": true })),
                false => eprintln!("{}: all there", args.config.display()),
            }
        }
        Command::Print => {
            let settings = file.settings(&choice)?;
            if args.json {
                println!("{}", json!({ "config": args.config, "settings": settings }));
            } else {
                for setting in settings {
                    println!("{:<8} {:<20} {}", setting.key, setting.origin, setting.value);
                }
            }
        }
    }
    Ok(())
}
