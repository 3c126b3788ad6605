//! Runs a whole night: trains an adapter on raw chats, examines it, and promotes or refuses it.
//!
//! ```sh
//! cargo run --release --example nightly                      # the demo
//! cargo run --release --example nightly -- --config F --json
//! ```
//!
//! Exit codes: 0 promoted, 1 refused or rolled back, 2 bad input or configuration, 3 a budget ran out (the
//! night stopped, or the result is partial).

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use nightshift_examples::{Exit, fail, log_to, table};
use pipeline::config::ModelChoice;
use pipeline::priority::{SleepInhibitor, lower_priority};
use pipeline::{Event, Night, NightConfig, NightFile, Outcome, StageName, Summary, format};

/// Trains, examines and promotes or refuses one adapter.
#[derive(Parser)]
struct Args {
    /// The configuration file; without it, the demo on SmolLM2-135M.
    #[arg(long)]
    config: Option<PathBuf>,
    /// The home; without it, the one in the file, or `nightshift` in your data folder.
    #[arg(long)]
    home: Option<PathBuf>,
    /// Do nothing if today's night is finished or running; for timers that fire twice.
    #[arg(long)]
    once_a_day: bool,
    /// Print one JSON object on stdout, and nothing else.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match night(&args) {
        Ok(None) => {
            eprintln!("nothing to do: today's night is finished or running");
            Exit::Done.into()
        }
        Ok(Some(summary)) => {
            if !args.json {
                print_summary(&summary);
            } else if let Err(error) = print_json(&summary) {
                return fail(&error, 2);
            }
            match summary.outcome {
                _ if summary.partial => Exit::BudgetSpent.into(),
                Outcome::Promoted => Exit::Done.into(),
                Outcome::Refused | Outcome::RolledBack => Exit::No.into(),
            }
        }
        Err(error) => fail(&error, error.exit_code()),
    }
}

/// `None` when `--once-a-day` leaves nothing to do.
fn night(args: &Args) -> pipeline::Result<Option<Summary>> {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/demo/night.yaml");
    let mut config = match &args.config {
        Some(path) => NightFile::load(path)?.choose(&ModelChoice::from_env())?,
        None => NightConfig::load(demo)?,
    };
    if let Some(home) = &args.home {
        config.home = Some(home.clone());
    }
    let night = match args.once_a_day {
        false => Night::start_or_resume(config)?,
        true => match Night::start_once_a_day(config) {
            Ok(Some(night)) => night,
            Ok(None) | Err(pipeline::Error::Busy { .. }) => return Ok(None),
            Err(error) => return Err(error),
        },
    };
    if !args.json {
        eprintln!("night {} in {}", night.id(), night.dir().display());
    }
    log_to(&night.dir().join("log.jsonl"));
    tracing::info!("{}", lower_priority());
    let awake = SleepInhibitor::start();
    tracing::info!("{}", awake.describe());
    let mut bars = Bars { shown: !args.json, bar: None };
    night.run(&mut |event: Event<'_>| bars.show(event)).map(Some)
}

/// A progress bar for the running stage, if stderr is a terminal.
struct Bars {
    shown: bool,
    bar: Option<ProgressBar>,
}

impl Bars {
    fn show(&mut self, event: Event<'_>) {
        match event {
            Event::StageBegun { stage } => self.bar(stage).tick(),
            Event::Progress { stage, done, total, note } => {
                let bar = self.bar(stage);
                bar.set_length(total.max(1));
                bar.set_position(done);
                bar.set_message(note.to_owned());
            }
            Event::StageFinished { .. } => drop(self.bar.take().map(|bar| bar.finish_and_clear())),
            _ => {}
        }
    }

    fn bar(&mut self, stage: StageName) -> &ProgressBar {
        self.bar.get_or_insert_with(|| {
            // indicatif draws nothing if stderr is not a terminal.
            let target = match self.shown {
                true => ProgressDrawTarget::stderr(),
                false => ProgressDrawTarget::hidden(),
            };
            let style = "{prefix:8} {bar:28} {percent:>3} % {eta:>5}  {msg}";
            let style = ProgressStyle::with_template(style);
            ProgressBar::with_draw_target(Some(1), target)
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
                .with_prefix(stage.as_str())
        })
    }
}

fn print_json(summary: &Summary) -> serde_json::Result<()> {
    println!("{}", serde_json::to_string(summary)?);
    Ok(())
}

fn print_summary(summary: &Summary) {
    let mut stages = table(&["stage", "time", "figures"]);
    for stage in &summary.stages {
        let time = if stage.reused { "reused".to_owned() } else { format::duration(stage.seconds) };
        stages.add_row([stage.stage.as_str(), &time, &stage.figures]);
    }
    eprintln!("\n{stages}\n\n{}", summary.verdict);
    if let Some(sample) = &summary.sample {
        let mut answers = table(&["before", "after"]);
        answers.add_row([&sample.before, &sample.after]);
        eprintln!("{}, asked: {}\n{answers}\n", sample.agent, sample.question);
    }
    if let Some(phase) = &summary.preference {
        phase.lines.iter().for_each(|line| eprintln!("preference: {line}"));
        phase.warning.iter().for_each(|warning| eprintln!("warning: {warning}"));
        eprintln!();
    }
    if summary.partial {
        let (made, planned) = (summary.training.updates, summary.training.planned_updates);
        match made < planned {
            true => eprintln!("partial: time was up after {made} of {planned} updates\n"),
            false => eprintln!("partial: time was up in the preference phase\n"),
        }
    }
    if let Some(standing) = &summary.standing {
        eprintln!("{}: {standing}", summary.outcome);
    }
    eprintln!("report: {}", summary.paths.report.display());
}
