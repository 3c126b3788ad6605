//! Runs an exam with a model: answers, scores and a summary.
//!
//! ```sh
//! nightshift evaluate --model model.gguf --suite fixtures/suites/household.json --out runs/base
//! ```
//!
//! After a kill or a spent budget the same command resumes the exam.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use eval::{
    Budget, Exam, ExamOptions, ExamRun, Imported, ModelAnswerer, Outcome, Sampling, Subject, Suite,
};
use indicatif::{ProgressBar, ProgressStyle};

use crate::progress::PlainProgress;
use crate::{Exit, ModelArgs, show_warnings};

/// Runs an exam with a model.
#[derive(Parser)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// The exam: a suite file (.json), a promptfoo configuration (.yaml) or prompts with expected answers (.jsonl).
    #[arg(long)]
    suite: PathBuf,
    /// Use only the cases with this tag, such as `core` in the household suite.
    #[arg(long, conflicts_with = "smoke")]
    tag: Option<String>,
    /// The output folder of this run.
    #[arg(long)]
    out: PathBuf,
    /// Use only three cases of each category.
    #[arg(long)]
    smoke: bool,
    /// Length limit of an answer in tokens.
    #[arg(long, default_value_t = Sampling::default().max_tokens)]
    max_tokens: usize,
    /// Sampling temperature; 0 for greedy decoding.
    #[arg(long, default_value_t = 0.0)]
    temperature: f32,
    /// Sampling seeds; every case is asked once for each.
    #[arg(long, value_delimiter = ',', default_value = "0")]
    seeds: Vec<u64>,
    /// Cases in a batch.
    #[arg(long, default_value_t = ExamOptions::default().batch)]
    batch: usize,
    /// Stop after this many tokens of answers (exit code 3).
    #[arg(long)]
    token_budget: Option<usize>,
    /// Stop after this many seconds (exit code 3).
    #[arg(long)]
    time_budget: Option<u64>,
    /// Print the scores as one JSON object on stdout.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// Whatever stops it.
pub fn run(cli: Args) -> anyhow::Result<Exit> {
    show_warnings();
    let Imported { suite: whole, left_out, .. } = Suite::open(&cli.suite)?;
    for left in &left_out {
        errln!("left out: {}: {left}", cli.suite.display());
    }
    if !left_out.is_empty() {
        errln!(
            "{}: {} cases, {} parts left out",
            cli.suite.display(),
            whole.cases.len(),
            left_out.len()
        );
    }
    let suite = match &cli.tag {
        Some(tag) => whole.tagged(tag)?,
        None if cli.smoke => whole.smoke(3),
        None => whole,
    };
    let (model, adapter) = cli.model.open()?;
    let tokenizer = chat_format::ChatTokenizer::open(&cli.model.model)?;
    let subject = Subject::of_files(&cli.model.model, cli.model.adapter.as_deref())?;
    let mut answerer = ModelAnswerer::new(&model, &adapter, &tokenizer, subject)?;

    let (max_tokens, temperature) = (cli.max_tokens, cli.temperature);
    let sampling = Sampling { max_tokens, temperature, ..Sampling::default() };
    let options = ExamOptions { sampling, batch: cli.batch, seeds: cli.seeds.clone() };
    let time = cli.time_budget.map(Duration::from_secs);
    let exam = Exam::new(&suite, options).with_budget(Budget { tokens: cli.token_budget, time });
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} answers, {eta} to go")?;
    let bar = ProgressBar::new(0).with_style(style);
    let mut lines = PlainProgress::unless(cli.json);
    let outcome = exam.sit(&mut answerer, &cli.out, &mut |progress| {
        bar.set_length(progress.total as u64);
        bar.set_position(progress.done as u64);
        lines.tick(&bar);
    })?;
    bar.finish_and_clear();

    let (run, code) = match outcome {
        Outcome::Complete(run) => (run, Exit::Done),
        Outcome::Partial { run, spent } => {
            errln!("{spent}; the same command resumes from here");
            (run, Exit::BudgetSpent)
        }
    };
    if !run.records.is_empty() {
        report(&cli, &run)?;
    }
    Ok(code)
}

fn report(cli: &Args, run: &ExamRun) -> anyhow::Result<()> {
    let summary = run.summary()?;
    durable::write_json(cli.out.join("summary.json"), &summary)?;
    if cli.json {
        outln!("{}", serde_json::to_string(&summary)?)?;
    } else {
        out!("{summary}")?;
        errln!("{}", cli.out.display());
    }
    Ok(())
}
