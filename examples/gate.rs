//! Decides whether a candidate may replace the champion, and prints every number behind the verdict.
//!
//! ```sh
//! cargo run --release --example gate -- --candidate runs/tonight --champion runs/champion --page compare.html
//! ```
//!
//! Exit codes: 0 promote, 1 refuse, 2 no verdict is possible.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use eval::{CheckResult, Evidence, ExamRun, Gate, Policy, Reference};
use nightshift_examples::{Exit, finish};
use pipeline::report::comparison_page;

/// Decides whether a candidate may replace the champion.
#[derive(Parser)]
struct Cli {
    /// The candidate's run; repeat the option for runs of the same recipe trained with other seeds.
    #[arg(long, required = true)]
    candidate: Vec<PathBuf>,
    /// The champion's run on the same suite.
    #[arg(long, required_unless_present = "base", conflicts_with = "base")]
    champion: Option<PathBuf>,
    /// The base model's run, if there is no champion.
    #[arg(long)]
    base: Option<PathBuf>,
    /// The rules of the gate (YAML); without it, the defaults.
    #[arg(long)]
    policy: Option<PathBuf>,
    /// Results of other checks: a JSON list of {"check", "problems"}.
    #[arg(long)]
    checks: Option<PathBuf>,
    /// Write an HTML page with both runs side by side.
    #[arg(long)]
    page: Option<PathBuf>,
    /// Print the verdict as one JSON object on stdout.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    finish(run(&Cli::parse()))
}

fn run(cli: &Cli) -> anyhow::Result<Exit> {
    let candidates = cli.candidate.iter().map(ExamRun::load).collect::<eval::Result<Vec<_>>>()?;
    let (path, against) = match (&cli.champion, &cli.base) {
        (Some(path), _) => (path, Reference::Champion),
        (None, Some(path)) => (path, Reference::Base),
        (None, None) => anyhow::bail!("expected --champion or --base"),
    };
    let reference = ExamRun::load(path)?;
    let council = &reference.manifest.council;
    let policy = match &cli.policy {
        Some(path) => Policy::load_for(path, council)?,
        None => Policy::of_council(council),
    };
    let evidence = Evidence {
        candidates: candidates.iter().collect(),
        reference: &reference,
        against,
        checks: cli.checks.as_deref().map(read_checks).transpose()?.unwrap_or_default(),
    };
    let verdict = Gate::new(policy)?.decide(&evidence)?;
    if let (Some(path), Some(candidate)) = (&cli.page, candidates.first()) {
        durable::write(path, comparison_page(&reference, candidate, Some(&verdict))?.as_bytes())?;
        eprintln!("{}", path.display());
    }
    if cli.json {
        println!("{}", serde_json::to_string(&verdict)?);
    } else {
        print!("{verdict}");
    }
    Ok(if verdict.promotes() { Exit::Done } else { Exit::No })
}

fn read_checks(path: &Path) -> anyhow::Result<Vec<CheckResult>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}
