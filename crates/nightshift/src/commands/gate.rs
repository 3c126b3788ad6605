//! Decides whether a candidate may replace the champion, and prints every number behind the verdict.
//!
//! ```sh
//! nightshift gate --candidate runs/tonight --champion runs/champion --page compare.html
//! ```
//!
//! Runs of a fresh exam, on cases that nobody has seen, are given by `--fresh-candidate` and the like. Without them the
//! standing exam decides alone, at a stricter level.
//!
//! Exit codes: 0 promote, 1 refuse, 2 no verdict is possible.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Parser;
use eval::{CheckResult, Evidence, ExamRun, FreshExam, Gate, Policy, Sitting};
use pipeline::report::comparison_page;

use crate::Exit;

/// Decides whether a candidate may replace the champion.
#[derive(Parser)]
pub struct Args {
    /// The candidate's run.
    #[arg(long)]
    candidate: PathBuf,
    /// The champion's run on the same suite.
    #[arg(long, required_unless_present = "base")]
    champion: Option<PathBuf>,
    /// The base model's run. Without a champion the candidate is compared with it.
    #[arg(long)]
    base: Option<PathBuf>,
    /// The candidate's run on a fresh exam.
    #[arg(long)]
    fresh_candidate: Option<PathBuf>,
    /// The champion's run on the fresh exam.
    #[arg(long, requires = "fresh_candidate")]
    fresh_champion: Option<PathBuf>,
    /// The base model's run on the fresh exam.
    #[arg(long, requires = "fresh_candidate")]
    fresh_base: Option<PathBuf>,
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

/// Runs the command.
///
/// # Errors
/// Whatever stops it.
pub fn run(cli: Args) -> anyhow::Result<Exit> {
    let standing = Runs::load(&cli.candidate, cli.champion.as_deref(), cli.base.as_deref())?;
    let fresh = match &cli.fresh_candidate {
        Some(path) => {
            Some(Runs::load(path, cli.fresh_champion.as_deref(), cli.fresh_base.as_deref())?)
        }
        None => None,
    };
    let Some(reference) = standing.champion.as_ref().or(standing.base.as_ref()) else {
        anyhow::bail!("expected --champion or --base");
    };
    let council = &reference.manifest.council;
    let policy = match &cli.policy {
        Some(path) => Policy::load_for(path, council)?,
        None => Policy::of_council(council),
    };
    let evidence = Evidence {
        standing: standing.sitting(),
        fresh: fresh
            .as_ref()
            .map_or(FreshExam::Unavailable, |runs| FreshExam::Taken(runs.sitting())),
        best: None,
        drifts: None,
        checks: cli.checks.as_deref().map(read_checks).transpose()?.unwrap_or_default(),
    };
    let verdict = Gate::new(policy)?.decide(&evidence)?;
    if let Some(path) = &cli.page {
        let page = comparison_page(reference, &standing.candidate, Some(&verdict))?;
        durable::write(path, page.as_bytes())?;
        errln!("{}", path.display());
    }
    if cli.json {
        outln!("{}", serde_json::to_string(&verdict)?)?;
    } else {
        out!("{verdict}")?;
    }
    Ok(if verdict.promotes() { Exit::Done } else { Exit::No })
}

/// The runs of one exam.
struct Runs {
    candidate: ExamRun,
    champion: Option<ExamRun>,
    base: Option<ExamRun>,
}

impl Runs {
    fn load(candidate: &Path, champion: Option<&Path>, base: Option<&Path>) -> eval::Result<Runs> {
        Ok(Runs {
            candidate: ExamRun::load(candidate)?,
            champion: champion.map(ExamRun::load).transpose()?,
            base: base.map(ExamRun::load).transpose()?,
        })
    }

    fn sitting(&self) -> Sitting<'_> {
        Sitting {
            candidate: &self.candidate,
            champion: self.champion.as_ref(),
            base: self.base.as_ref(),
        }
    }
}

fn read_checks(path: &Path) -> anyhow::Result<Vec<CheckResult>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}
