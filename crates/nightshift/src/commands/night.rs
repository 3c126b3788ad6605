//! Runs a whole night: trains an adapter on raw chats, examines it, and promotes or refuses it.
//!
//! ```sh
//! nightshift night                      # the demo
//! nightshift night --config F --json
//! ```
//!
//! Exit codes: 0 promoted, 1 refused or rolled back, 2 bad input or configuration, 3 a budget ran out (the
//! night stopped, or the result is partial), 5 nothing new since the last night.

use std::path::PathBuf;

use clap::Parser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pipeline::priority::{SleepInhibitor, lower_priority};
use pipeline::{Event, Night, NightFile, Outcome, StageName, Summary, format};

use crate::progress::PlainProgress;
use crate::{Exit, given_or_demo, log_to, signals, table};

/// Trains, examines and promotes or refuses one adapter.
#[derive(Parser)]
pub struct Args {
    /// The night's file; without it, `night.yaml` in the working folder, or else the demo's on SmolLM2-135M.
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

/// Runs the command.
///
/// # Errors
/// Whatever stops the night; see [`pipeline::Error::exit_code`].
pub fn run(args: Args) -> anyhow::Result<Exit> {
    let Some(summary) = night(&args)? else {
        errln!("nothing to do: today's night is finished or running");
        return Ok(Exit::Done);
    };
    match args.json {
        true => outln!("{}", serde_json::to_string(&summary)?)?,
        false => print_summary(&summary),
    }
    Ok(match summary.outcome {
        Outcome::NothingNew => Exit::NothingNew,
        _ if summary.partial => Exit::BudgetSpent,
        Outcome::Promoted => Exit::Done,
        Outcome::Refused | Outcome::RolledBack => Exit::No,
    })
}

/// `None` when `--once-a-day` leaves nothing to do.
fn night(args: &Args) -> anyhow::Result<Option<Summary>> {
    let (path, choice) = given_or_demo(args.config.as_deref())?;
    let config = NightFile::load(path)?.choose_tonight(&choice, args.home.clone())?;
    let night = match args.once_a_day {
        false => Night::start_or_resume(config)?,
        true => match Night::start_once_a_day(config) {
            Ok(Some(night)) => night,
            Ok(None) | Err(pipeline::Error::Busy { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        },
    };
    if !args.json {
        errln!("night {} in {}", night.id(), night.dir().display());
    }
    log_to(&night.dir().join("log.jsonl"));
    tracing::info!("{}", lower_priority());
    let awake = SleepInhibitor::start();
    tracing::info!("{}", awake.describe());
    let mut bars = Bars { shown: !args.json, bar: None, lines: PlainProgress::unless(args.json) };
    let night = night.interrupted_by(signals::interrupt()?);
    Ok(Some(night.run(&mut |event: Event<'_>| bars.show(event))?))
}

/// A progress bar for the running stage on a terminal, plain lines elsewhere.
struct Bars {
    shown: bool,
    bar: Option<ProgressBar>,
    lines: PlainProgress,
}

impl Bars {
    fn show(&mut self, event: Event<'_>) {
        match event {
            Event::StageBegun { stage } => {
                self.bar(stage).tick();
                self.lines.line(&format!("{stage}: begun"));
            }
            Event::StageSkipped { stage, figures } => {
                self.lines.line(&format!("{stage}: reused, {figures}"));
            }
            Event::Progress { stage, done, total, note } => {
                let bar = self.bar(stage);
                bar.set_length(total.max(1));
                bar.set_position(done);
                bar.set_message(note.to_owned());
                let bar = bar.clone();
                self.lines.tick(&bar);
            }
            Event::StageFinished { stage, seconds, figures } => {
                if let Some(bar) = self.bar.take() {
                    bar.finish_and_clear();
                }
                self.lines.line(&format!("{stage}: {}, {figures}", format::duration(seconds)));
            }
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

fn print_summary(summary: &Summary) {
    if summary.outcome == Outcome::NothingNew {
        return errln!("{}", summary.line());
    }
    let mut stages = table(&["stage", "time", "figures"]);
    for stage in &summary.stages {
        let time = if stage.reused { "reused".to_owned() } else { format::duration(stage.seconds) };
        stages.add_row([stage.stage.as_str(), &time, &stage.figures]);
    }
    errln!("\n{stages}\n\n{}", summary.verdict);
    if let Some(new) = &summary.new_rows {
        errln!("new rows: {} that night {} did not have\n", format::count(new.rows), new.since);
    }
    if let Some(note) = &summary.note {
        errln!("{note}\n");
    }
    if let Some(sample) = &summary.sample {
        let mut answers = table(&["before", "after"]);
        answers.add_row([&sample.before, &sample.after]);
        errln!("{}, asked: {}\n{answers}\n", sample.agent, sample.question);
    }
    if let Some(phase) = &summary.preference {
        phase.lines.iter().for_each(|line| errln!("preference: {line}"));
        phase.warning.iter().for_each(|warning| errln!("warning: {warning}"));
        errln!("");
    }
    if let Some(done) = &summary.done {
        errln!("partial: time was up after {done}\n");
    }
    if let Some(standing) = &summary.standing {
        errln!("{}: {standing}", summary.outcome);
    }
    errln!("report: {}", summary.paths.report.display());
}
