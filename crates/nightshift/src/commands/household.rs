//! Writes the fictional household's training rows and its exam.
//!
//! ```sh
//! nightshift household --rows 1710 --out raw.jsonl --suite fixtures/suites/household.json
//! ```

use std::path::PathBuf;

use clap::Parser;
use enrich::household::{ExamPlan, Phrasings, write_raw};
use enrich::{GeneratorData, GeneratorFiles, Household};

use crate::Exit;

/// Writes raw training rows and an exam from the facts of a household.
#[derive(Parser)]
pub struct Args {
    /// The household's facts.
    #[arg(long, default_value = "fixtures/household.yaml")]
    facts: PathBuf,
    /// The agents; without it, the built-in council.
    #[arg(long)]
    council: Option<PathBuf>,
    /// How facts are asked about and answered; without it, the built-in phrasings.
    #[arg(long)]
    phrasings: Option<PathBuf>,
    /// How many rows to write.
    #[arg(long, default_value_t = 1710)]
    rows: usize,
    /// The same seed gives the same rows.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// The file for the rows.
    #[arg(long)]
    out: Option<PathBuf>,
    /// The exam's configuration (YAML).
    #[arg(long, default_value = "fixtures/council/exam.yaml")]
    exam: PathBuf,
    /// The file for the exam.
    #[arg(long)]
    suite: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// Whatever stops it.
pub fn run(args: Args) -> anyhow::Result<Exit> {
    let house = Household::load(&args.facts)?;
    let mut files = GeneratorFiles::default();
    (files.agents, files.phrasings) = (args.council, args.phrasings);
    let (data, phrasings) = (GeneratorData::load(&files)?, Phrasings::of(&files)?);
    if let Some(out) = &args.out {
        let rows = house.rows(&data, &phrasings, args.rows, args.seed)?;
        write_raw(out, &rows, args.seed)?;
        errln!("{}: {} rows", out.display(), rows.len());
    }
    if let Some(out) = &args.suite {
        let suite = ExamPlan::load(&args.exam)?.suite(&house, &data, &phrasings)?;
        suite.save(out)?;
        errln!("{}: {} cases", out.display(), suite.cases.len());
    }
    Ok(Exit::Done)
}
