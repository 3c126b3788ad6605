//! Shows and changes the champions of a home: one for each base model.
//!
//! ```sh
//! nightshift champion status
//! nightshift champion rollback --base gemma-4-31B-it-4bit --reason "it says good morning at night"
//! ```

use clap::{Parser, Subcommand};
use pipeline::registry::{
    Action, BaseRegistry, BaseState, Change, Promotion, Requester, State, unplaced,
};
use pipeline::{Home, NightConfig, Registry};
use serde_json::{Map, Value, json};

use crate::home::HomeArgs;
use crate::{Exit, show_warnings};

/// Shows and changes the champions. Every base model has its own.
#[derive(Parser)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    home: HomeArgs,
    /// The base model: its name, its path, or the beginning of its digest; without it, that of --config or the only one.
    #[arg(long, global = true, value_name = "MODEL")]
    base: Option<String>,
    /// Print one JSON object on stdout.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Show champion, candidate and previous champion of every base model, after a check of their digests.
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
    /// Take the champion back because it fails. The last good champion before it serves again, or else the base model; what
    /// was taken back is never restored by a rollback or a night.
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
    /// Delete old adapters of all base models, but never a champion, a previous champion or a candidate.
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

#[derive(clap::Args)]
struct Reason {
    /// The reason to record.
    #[arg(long, default_value = "by hand")]
    reason: String,
}

/// Runs the command.
///
/// # Errors
/// Whatever stops it.
pub fn run(cli: Args) -> anyhow::Result<Exit> {
    show_warnings();
    act(&cli)?;
    Ok(Exit::Done)
}

fn act(cli: &Args) -> anyhow::Result<()> {
    let config = cli.home.config()?;
    let registry = Registry::new(&Home::open(cli.home.folder()?)?);
    let base = || base(&registry, config.as_ref(), cli.base.as_deref());
    let changed = match &cli.command {
        Command::Status => return status(&registry, chosen(&registry, cli)?.as_ref(), cli.json),
        Command::History => return history(&registry, chosen(&registry, cli)?.as_ref(), cli.json),
        Command::Prune { keep, dry_run } => {
            let (gone, how) = match dry_run {
                true => (registry.prune_dry_run(*keep)?, "dry run: would delete"),
                false => (registry.prune(*keep)?, "deleted"),
            };
            gone.iter().for_each(|adapter| errln!("{how} {adapter}"));
            return status(&registry, None, cli.json);
        }
        Command::Promote { adapter, why, dry_run } => promote(base()?, adapter, why, *dry_run)?,
        Command::Rollback { why, dry_run } => rollback(base()?, why, *dry_run)?,
        Command::Pin(why) => {
            let base = base()?;
            base.pin(&why.reason)?;
            base
        }
        Command::Unpin => {
            let base = base()?;
            base.unpin()?;
            base
        }
    };
    status(&registry, Some(&changed), cli.json)
}

/// The base model that a command changes.
fn base(
    registry: &Registry,
    config: Option<&NightConfig>,
    name: Option<&str>,
) -> anyhow::Result<BaseRegistry> {
    match (name, config) {
        (None, Some(config)) => Ok(registry.of_config(config)?),
        (name, _) => Ok(registry.find(name)?),
    }
}

/// The base model that a command shows; `None` for all.
fn chosen(registry: &Registry, cli: &Args) -> anyhow::Result<Option<BaseRegistry>> {
    Ok(cli.base.as_deref().map(|name| registry.find(Some(name))).transpose()?)
}

fn promote(
    base: BaseRegistry,
    adapter: &str,
    why: &Reason,
    dry_run: bool,
) -> anyhow::Result<BaseRegistry> {
    let adapter = base.resolve(adapter)?;
    let (outcome, dry) = match dry_run {
        true => (base.promote_dry_run(adapter, Requester::Operator)?, "dry run: "),
        false => (base.promote(adapter, Requester::Operator, &why.reason)?, ""),
    };
    errln!("{dry}{}", describe(outcome));
    Ok(base)
}

fn rollback(base: BaseRegistry, why: &Reason, dry_run: bool) -> anyhow::Result<BaseRegistry> {
    if dry_run {
        let back = base.rollback_dry_run()?;
        let back = back.map_or("the base model".to_owned(), |adapter| adapter.to_string());
        errln!("dry run: would make {back} champion");
    } else {
        base.rollback(&why.reason)?;
    }
    Ok(base)
}

fn describe(outcome: Promotion) -> &'static str {
    match outcome {
        Promotion::Done => "promoted",
        Promotion::AlreadyDone => "already champion; nothing changes",
        Promotion::ChampionChanged | Promotion::Pinned | Promotion::FailedBefore => {
            "another champion stays; nothing changes"
        }
    }
}

/// Shows one base model, or all. A damaged adapter is shown as such, and is the command's error.
fn status(registry: &Registry, base: Option<&BaseRegistry>, as_json: bool) -> anyhow::Result<()> {
    let state = registry.state()?;
    let mut damaged = None;
    let shown: Vec<Map<String, Value>> = shown(&state, base)
        .map(|(digest, of_base)| {
            errln!("{} ({digest})", of_base.name());
            let mut object = aliases(registry, of_base, &mut damaged);
            let keys = [("base", json!(digest)), ("name", json!(of_base.name()))];
            object.extend(keys.map(|(key, value)| (key.to_owned(), value)));
            object
        })
        .collect();
    if shown.is_empty() {
        errln!("no night has run here: base models serve without an adapter");
    }
    state.unplaced.iter().for_each(|adapter| errln!("note: {}", unplaced(*adapter)));
    if as_json {
        // Of one base model, the aliases are at the top too.
        let mut object = match &shown[..] {
            [only] => only.clone(),
            [] => aliases(registry, &BaseState::default(), &mut damaged),
            _ => Map::new(),
        };
        object.insert("bases".to_owned(), json!(shown));
        object.insert("unplaced".to_owned(), json!(state.unplaced));
        outln!("{}", Value::Object(object))?;
    }
    damaged.map_or(Ok(()), |error| Err(error.into()))
}

/// The base models to show.
fn shown<'a>(
    state: &'a State,
    base: Option<&'a BaseRegistry>,
) -> impl Iterator<Item = (String, &'a BaseState)> {
    let shown = move |digest| base.is_none_or(|base| base.base() == digest);
    let bases = state.bases.iter().filter(move |(digest, _)| shown(**digest));
    bases.map(|(digest, of_base)| (digest.to_string(), of_base))
}

/// The aliases of a base model, as printed and as JSON. The first error about a damaged adapter is put aside.
fn aliases(
    registry: &Registry,
    state: &BaseState,
    damaged: &mut Option<pipeline::Error>,
) -> Map<String, Value> {
    let mut object = Map::new();
    for (alias, adapter) in
        [("champion", state.champion), ("candidate", state.candidate), ("previous", state.previous)]
    {
        let path = match adapter.map(|adapter| registry.verified(adapter)).transpose() {
            Ok(path) => path,
            Err(error) => {
                errln!("  {alias:<10} {error}");
                damaged.get_or_insert(error);
                object.insert(alias.to_owned(), json!({ "adapter": adapter, "path": null }));
                continue;
            }
        };
        match &path {
            Some(path) => errln!("  {alias:<10} {}", path.display()),
            None if alias == "champion" => errln!("  {alias:<10} none: the base model serves"),
            None => errln!("  {alias:<10} none"),
        }
        object.insert(alias.to_owned(), json!({ "adapter": adapter, "path": path }));
    }
    if let Some(reason) = &state.pinned {
        errln!("  pinned     {reason}");
    }
    for adapter in state.failed() {
        errln!("  failed     {adapter}");
    }
    object.insert("pinned".to_owned(), json!(state.pinned));
    object.insert("failed".to_owned(), json!(state.failed()));
    object
}

fn history(registry: &Registry, base: Option<&BaseRegistry>, as_json: bool) -> anyhow::Result<()> {
    let state = registry.state()?;
    let mut changes: Vec<(String, &Change)> = shown(&state, base)
        .flat_map(|(_, of_base)| of_base.history.iter().map(|change| (of_base.name(), change)))
        .collect();
    changes.sort_by_key(|(_, change)| change.at);
    for (name, change) in &changes {
        let who = change.champion.map_or("the base model".to_owned(), |d| d.to_string());
        let how = match change.action {
            Action::Promote => "promoted",
            Action::Rollback => "rolled back to",
            Action::Withdraw => "withdrawn for",
        };
        let night = change.night.as_deref().unwrap_or("by hand");
        errln!(
            "{}  {name}: {how} {who}\n    {night}: {}",
            change.at.strftime("%F %T UTC"),
            change.reason
        );
    }
    if as_json {
        let changes = changes.iter().map(|(name, change)| {
            let mut object = json!(change);
            object["base"] = json!(name);
            object
        });
        outln!("{}", json!({ "history": changes.collect::<Vec<_>>() }))?;
    }
    Ok(())
}
