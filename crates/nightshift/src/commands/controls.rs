//! Negative controls: the demo's night with training rows that are corrupted on purpose. The gate has to refuse every one; if it
//! does not, nothing that it says can be believed.
//!
//! ```sh
//! nightshift controls --out controls
//! ```
//!
//! Each has a home of its own, in which no champion but the base model reigns. The base model's answers are kept from one to the
//! next.
//!
//! Exit codes: 0 all refused for the right reason, 1 one was promoted or refused without that reason.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Parser;
use enrich::Control;
use pipeline::config::Enrichment;
use pipeline::{Event, Home, Night, NightConfig, Summary};

use crate::{Exit, given_or_demo, show_warnings};

/// Runs a night for each kind of corrupted rows, of which the gate has to refuse every one.
#[derive(Parser)]
pub struct Args {
    /// The night's configuration; without it, the demo's. Its `enrich` has to be a file.
    #[arg(long)]
    config: Option<PathBuf>,
    /// The folder for the homes of these nights.
    #[arg(long)]
    out: PathBuf,
    /// Run only this control, such as `stuffing`.
    #[arg(long)]
    only: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// Whatever stops it.
pub fn run(args: Args) -> anyhow::Result<Exit> {
    show_warnings();
    let (path, _) = given_or_demo(args.config.as_deref())?;
    let config = NightConfig::load(path)?;
    let names = Control::ALL.map(Control::name).join(", ");
    let chosen = |control: &Control| args.only.as_ref().is_none_or(|only| only == control.name());
    let controls: Vec<_> = Control::ALL.into_iter().filter(chosen).collect();
    anyhow::ensure!(!controls.is_empty(), "--only: expected one of {names}");
    let mut all_right = true;
    let mut last: Option<PathBuf> = None;
    for control in controls {
        let home = args.out.join(control.name()).join("home");
        if let Some(last) = &last {
            Home::open(&home)?.take_answers(&Home::open(last)?)?;
        }
        let night = corrupted(&config, control, &args.out)?;
        last = Some(home);
        let verdict = &night.verdict;
        let failed: Vec<_> = verdict.failed().map(|rule| rule.rule.as_str()).collect();
        let reason = reason(control);
        let right = !verdict.promotes() && failed.contains(&reason);
        all_right &= right;
        let decision = if verdict.promotes() { "PROMOTED" } else { "refused" };
        let wrong = if right { String::new() } else { format!("; expected {reason}") };
        outln!("{:<18} {decision:<9} {}{wrong}", control.name(), failed.join(", "))?;
    }
    Ok(if all_right { Exit::Done } else { Exit::No })
}

/// The rule that has to refuse a control, whatever others do too.
fn reason(control: Control) -> &'static str {
    match control {
        Control::RefusalsOnly => "over_refusal_rate",
        Control::ExamQuestions => "check.contamination",
        // What these teach does not answer a question that was not trained.
        _ => "held_out",
    }
}

/// Runs a night with a control in its recipe.
fn corrupted(config: &NightConfig, control: Control, out: &Path) -> anyhow::Result<Summary> {
    let folder = out.join(control.name());
    let Some(Enrichment::File(path)) = &config.enrich else {
        anyhow::bail!("enrich: expected the file of a recipe, to which the control is added");
    };
    let recipe = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    fs::create_dir_all(&folder)?;
    let path = folder.join("enrich.yaml");
    durable::write(&path, format!("{recipe}\ncontrol: {}\n", control.name()))?;
    let mut config = config.clone();
    config.enrich = Some(Enrichment::File(path));
    config.home = Some(folder.join("home"));
    Ok(Night::start_or_resume(config)?.run(&mut |_: Event<'_>| ())?)
}
