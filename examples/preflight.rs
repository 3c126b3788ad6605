//! Would tonight's night run? The seed's 21 checks and ours, and a small night in a scratch folder.
//!
//! ```sh
//! cargo run --release --example preflight -- --config night.yaml
//! SANCTUM_TRAIN_MODEL=demo cargo run --release --example preflight -- --config fixtures/sanctum.yaml
//! ```
//!
//! Exit codes: 0 no check failed, 1 one did, 2 bad input.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use comfy_table::{Attribute, Cell, Color, presets};
use indicatif::ProgressBar;
use nightshift_examples::{Exit, finish, table};
use pipeline::schedule::{Manager, Schedule};
use pipeline::{
    Checked, Choice, Message, NightFile, Preflight, PreflightReport, Status, Timers, words,
};

/// Looks at everything that a night will need.
#[derive(Parser)]
struct Args {
    /// The night's file; without it, the demo's.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Where everything goes; without it, what the file says.
    #[arg(long)]
    home: Option<PathBuf>,
    /// Tell whom the file says, if a check fails: for timers.
    #[arg(long)]
    notify: bool,
    /// Print one JSON object on stdout, and nothing else.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    finish(run(&Args::parse()))
}

fn run(args: &Args) -> anyhow::Result<Exit> {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/demo/night.yaml");
    let config = args.config.clone().unwrap_or(demo);
    let (file, choice) = (NightFile::load(&config)?, Choice::from_env());
    let notify = file.choose(&choice)?.notify;
    let spinner = if args.json { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
    let report = Preflight::new(file, choice)
        .in_home(args.home.clone())
        .with_timers(timers(&config))
        .run(&mut |at| {
            spinner.set_message(at.to_owned());
            spinner.tick();
        })?;
    spinner.finish_and_clear();
    if args.notify && !report.ok {
        let body = serde_json::json!({ "preflight": report });
        notify.send(&Message::new(report.line.clone(), body));
    }
    match args.json {
        true => println!("{}", serde_json::to_string(&report)?),
        false => tell(&report),
    }
    Ok(if report.ok { Exit::Done } else { Exit::No })
}

/// What the system holds of the schedule that `schedule install` would make.
fn timers(config: &Path) -> pipeline::Result<Timers> {
    let whole = |path: PathBuf| path.canonicalize().unwrap_or(path);
    let program = whole(std::env::current_exe().unwrap_or_default().with_file_name("nightly"));
    let config = whole(config.to_owned());
    let mut manager = Manager::this();
    let folder = manager.system().folder().unwrap_or_default();
    Timers::read(&Schedule::new(program, config)?, &mut manager, &folder)
}

fn tell(report: &PreflightReport) {
    let mut rows = table(&["", "check", "found"]);
    // So many lines read better without one between each two.
    rows.load_style(presets::NOTHING);
    let mut suite = None;
    for check in &report.checks {
        if suite.replace(check.suite) != Some(check.suite) {
            let title = Cell::new(format!("\n{}", check.suite)).add_attribute(Attribute::Bold);
            rows.add_row([Cell::new(""), title, Cell::new("")]);
        }
        rows.add_row([mark(check), Cell::new(check.check), Cell::new(&check.detail)]);
    }
    if std::env::var_os("NO_COLOR").is_some_and(|set| !set.is_empty()) {
        rows.force_no_tty();
    }
    let took = words::duration(report.seconds);
    eprintln!("{rows}\n\n{}\n{took}", report.line);
}

fn mark(check: &Checked) -> Cell {
    let color = match check.status {
        Status::Passed => Color::Green,
        Status::Warning => Color::Yellow,
        Status::Failed => Color::Red,
        Status::Skipped => Color::Grey,
    };
    Cell::new(check.status).fg(color)
}
