//! Checks everything that tonight's night needs, and rehearses it in a scratch folder.
//!
//! ```sh
//! nightshift preflight --config night.yaml
//! SANCTUM_TRAIN_MODEL=demo nightshift preflight --config fixtures/sanctum.yaml
//! ```
//!
//! Exit codes: 0 all checks that the night needs ran, and none failed; 1 a check failed; 2 bad input; 4 none
//! failed, but some did not run.

use std::path::{Path, PathBuf};

use clap::Parser;
use comfy_table::{Attribute, Cell, Color, presets};
use indicatif::ProgressBar;
use pipeline::notify::{self, Message};
use pipeline::preflight::{CheckStatus, PreflightCheck, PreflightReport};
use pipeline::schedule::{Manager, ScheduleStatus};
use pipeline::{NightFile, Preflight, format};

use crate::commands::schedule;
use crate::progress::PlainProgress;
use crate::{Exit, given_or_demo, table};

/// Checks everything that a night needs.
#[derive(Parser)]
pub struct Args {
    /// The night's file; without it, `night.yaml` in the working folder, or else the demo's.
    #[arg(long)]
    config: Option<PathBuf>,
    /// The home; without it, the one in the file.
    #[arg(long)]
    home: Option<PathBuf>,
    /// Send the configured notifications if a check fails or does not run; for timers.
    #[arg(long)]
    notify: bool,
    /// Print one JSON object on stdout, and nothing else.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// Whatever stops it.
pub fn run(args: Args) -> anyhow::Result<Exit> {
    let (config, choice) = given_or_demo(args.config.as_deref())?;
    let file = NightFile::load(&config)?;
    let to = file.choose(&choice)?.notify;
    let spinner = if args.json { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
    let mut lines = PlainProgress::unless(args.json);
    let report = Preflight::new(file, choice)
        .in_home(args.home.clone())
        .with_schedule(schedule_status(&config))
        .run(&mut |at| {
            spinner.set_message(at.to_owned());
            spinner.tick();
            lines.tick(&spinner);
        })?;
    spinner.finish_and_clear();
    if args.notify && !report.ok {
        for problem in notify::send(&Message::of_preflight(&report), &to) {
            errln!("warning: notification failed: {problem}");
        }
    }
    match args.json {
        true => outln!("{}", serde_json::to_string(&report)?)?,
        false => print_table(&report),
    }
    Ok(match (report.failed, report.not_run) {
        (0, 0) => Exit::Done,
        (0, _) => Exit::NotRun,
        _ => Exit::No,
    })
}

/// The state of the schedule that `schedule install` would create.
fn schedule_status(config: &Path) -> pipeline::Result<ScheduleStatus> {
    let schedule = schedule::planned(config, None)?;
    let mut manager = Manager::current();
    let folder = manager.system().folder().unwrap_or_default();
    ScheduleStatus::read(&schedule, &mut manager, &folder)
}

fn print_table(report: &PreflightReport) {
    let mut rows = table(&["", "check", "found"]);
    // Without lines between rows, as there are many.
    rows.load_style(presets::NOTHING);
    let mut suite = None;
    for check in &report.checks {
        if suite.replace(check.group) != Some(check.group) {
            let title = Cell::new(format!("\n{}", check.group)).add_attribute(Attribute::Bold);
            rows.add_row([Cell::new(""), title, Cell::new("")]);
        }
        rows.add_row([mark(check), Cell::new(&check.check), Cell::new(&check.detail)]);
    }
    if std::env::var_os("NO_COLOR").is_some_and(|set| !set.is_empty()) {
        rows.force_no_tty();
    }
    let took = format::duration(report.seconds);
    errln!("{rows}\n\n{}\n{took}", report.line);
}

fn mark(check: &PreflightCheck) -> Cell {
    let color = match check.status {
        CheckStatus::Passed => Color::Green,
        CheckStatus::Warning => Color::Yellow,
        CheckStatus::Failed => Color::Red,
        CheckStatus::NotRun => Color::Magenta,
        CheckStatus::NotNeeded => Color::Grey,
    };
    Cell::new(check.status).fg(color)
}
