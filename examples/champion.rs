//! Shows and changes the champion of a home.
//!
//! ```sh
//! cargo run --release --example champion -- status
//! cargo run --release --example champion -- rollback --reason "it says good morning at night"
//! ```

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use nightshift_examples::{Exit, fail};
use pipeline::registry::{Action, Promotion, Requester};
use pipeline::{Home, Registry, Result};
use serde_json::json;

/// Shows and changes the champion.
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
    /// Show champion, candidate and previous champion after a check of their digests.
    Status,
    /// Make an adapter the champion.
    Promote {
        /// An alias (`candidate`, `previous`), a digest, or a prefix of one.
        #[arg(default_value = "candidate")]
        adapter: String,
        #[command(flatten)]
        why: Reason,
        /// Only print what would happen.
        #[arg(long)]
        dry_run: bool,
    },
    /// Make the previous champion champion again.
    Rollback {
        #[command(flatten)]
        why: Reason,
        /// Only print what would happen.
        #[arg(long)]
        dry_run: bool,
    },
    /// Prevent promotions until `unpin`.
    Pin(Reason),
    /// Allow promotions again.
    Unpin,
    /// Delete old adapters, but never the champion, the previous champion or the candidate.
    Prune {
        /// Number of the newest adapters to keep.
        #[arg(long, default_value_t = 14)]
        keep: usize,
        /// Only print what would happen.
        #[arg(long)]
        dry_run: bool,
    },
    /// Show all changes of champion, oldest first.
    History,
}

#[derive(Args)]
struct Reason {
    /// The reason to record.
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
            let outcome =
                registry.promote_dry_run(registry.resolve(adapter)?, Requester::Operator)?;
            eprintln!("dry run: {}", describe(outcome));
        }
        Command::Promote { adapter, why, .. } => {
            let outcome =
                registry.promote(registry.resolve(adapter)?, Requester::Operator, &why.reason)?;
            eprintln!("{}", describe(outcome));
        }
        Command::Rollback { dry_run: true, .. } => {
            let back = registry.rollback_dry_run()?;
            let back = back.map_or("the base model".to_owned(), |adapter| adapter.to_string());
            eprintln!("dry run: would make {back} champion");
        }
        Command::Rollback { why, .. } => drop(registry.rollback(&why.reason)?),
        Command::Pin(why) => drop(registry.pin(&why.reason)?),
        Command::Unpin => drop(registry.unpin()?),
        Command::Prune { keep, dry_run } => {
            let (gone, how) = match dry_run {
                true => (registry.prune_dry_run(*keep)?, "dry run: would delete"),
                false => (registry.prune(*keep)?, "deleted"),
            };
            gone.iter().for_each(|adapter| eprintln!("{how} {adapter}"));
        }
        Command::History => return history(&registry, cli.json),
    }
    status(&registry, cli.json)
}

fn describe(outcome: Promotion) -> &'static str {
    match outcome {
        Promotion::Done => "promoted",
        Promotion::AlreadyDone => "already champion; nothing changes",
        Promotion::ChampionChanged | Promotion::Pinned => "another champion stays; nothing changes",
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
