//! Who serves: shows and changes the champion of a home.
//!
//! ```sh
//! cargo run --release --example champion -- status
//! cargo run --release --example champion -- rollback --reason "it says good morning at night"
//! ```

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use nightshift_examples::{Exit, fail};
use pipeline::{Action, Home, Mandate, Promotion, Registry, Result};
use serde_json::json;

/// Shows and changes which adapter serves.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// The home; without it, `nightshift` in your data folder.
    #[arg(long, global = true)]
    home: Option<PathBuf>,
    /// Print one JSON object on stdout.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Champion, candidate and previous, each checked against its digest.
    Status,
    /// Make an adapter the champion.
    Promote {
        /// An alias, a digest, or the beginning of one.
        #[arg(default_value = "candidate")]
        adapter: String,
        #[command(flatten)]
        why: Why,
        /// Only tell what would happen.
        #[arg(long)]
        dry_run: bool,
    },
    /// Bring the champion's predecessor back.
    Rollback {
        #[command(flatten)]
        why: Why,
        /// Only tell what would happen.
        #[arg(long)]
        dry_run: bool,
    },
    /// Keep the champion, whatever nights find.
    Pin(Why),
    /// Let the best serve again.
    Unpin,
    /// Delete old adapters; never the champion, its predecessor or the candidate.
    Prune {
        /// How many of the youngest stay.
        #[arg(long, default_value_t = 14)]
        keep: usize,
        /// Only tell what would happen.
        #[arg(long)]
        dry_run: bool,
    },
    /// Every change of champion, oldest first.
    History,
}

#[derive(Args)]
struct Why {
    /// What goes on file as the reason.
    #[arg(long, default_value = "by hand")]
    reason: String,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => Exit::Done.into(),
        Err(error) => fail(&error, error.exit_code()),
    }
}

fn run(cli: &Cli) -> Result<()> {
    let home = cli.home.clone().or_else(Home::default_path).unwrap_or_else(|| "nightshift".into());
    let registry = Registry::new(&Home::open(home)?);
    match &cli.command {
        Command::Status => {}
        Command::Promote { adapter, dry_run: true, .. } => {
            let outcome = registry.try_promote(registry.resolve(adapter)?, Mandate::Hand)?;
            eprintln!("dry run: {}", told(outcome));
        }
        Command::Promote { adapter, why, .. } => {
            let outcome =
                registry.promote(registry.resolve(adapter)?, Mandate::Hand, &why.reason)?;
            eprintln!("{}", told(outcome));
        }
        Command::Rollback { dry_run: true, .. } => {
            let back = registry.try_rollback()?;
            let back = back.map_or("the base model".to_owned(), |adapter| adapter.to_string());
            eprintln!("dry run: would bring back {back}");
        }
        Command::Rollback { why, .. } => drop(registry.rollback(&why.reason)?),
        Command::Pin(why) => drop(registry.pin(&why.reason)?),
        Command::Unpin => drop(registry.unpin()?),
        Command::Prune { keep, dry_run } => {
            let (gone, how) = match dry_run {
                true => (registry.try_prune(*keep)?, "dry run: would delete"),
                false => (registry.prune(*keep)?, "deleted"),
            };
            gone.iter().for_each(|adapter| eprintln!("{how} {adapter}"));
        }
        Command::History => return history(&registry, cli.json),
    }
    status(&registry, cli.json)
}

fn told(outcome: Promotion) -> &'static str {
    match outcome {
        Promotion::Done => "promoted",
        Promotion::AlreadyDone => "it serves already; nothing changes",
        Promotion::Overtaken | Promotion::Pinned => "another champion stays; nothing changes",
    }
}

fn status(registry: &Registry, as_json: bool) -> Result<()> {
    let state = registry.state()?;
    let aliases = [
        ("champion", state.champion),
        ("candidate", state.candidate),
        ("previous", state.previous),
    ];
    let mut object = serde_json::Map::new();
    for (alias, adapter) in aliases {
        let path = adapter.map(|adapter| registry.verified(adapter)).transpose()?;
        object.insert(alias.to_owned(), json!({ "adapter": adapter, "path": path }));
        match path {
            Some(path) => eprintln!("{alias:<10} {}", path.display()),
            None => eprintln!("{alias:<10} none: the base model"),
        }
    }
    if let Some(reason) = &state.pinned {
        eprintln!("pinned     {reason}");
    }
    object.insert("pinned".to_owned(), json!(state.pinned));
    if as_json {
        println!("{}", serde_json::Value::Object(object));
    }
    Ok(())
}

fn history(registry: &Registry, as_json: bool) -> Result<()> {
    let history = registry.state()?.history;
    for change in &history {
        let who = change.champion.map_or("the base model".to_owned(), |d| d.to_string());
        let how = match change.action {
            Action::Promote => "promoted",
            Action::Rollback => "rolled back to",
        };
        let night = change.night.as_deref().unwrap_or("by hand");
        eprintln!(
            "{}  {how} {who}\n    {night}: {}",
            change.at.strftime("%F %T UTC"),
            change.reason
        );
    }
    if as_json {
        println!("{}", json!({ "history": history }));
    }
    Ok(())
}
