//! Builds a data set from clean rows: train, valid and test splits with a report and a manifest.
//!
//! ```sh
//! nightshift enrich --config fixtures/configs/enrich.yaml --out data
//! ```

use std::path::PathBuf;

use clap::Parser;
use enrich::{Dataset, EnrichConfig};

use crate::Exit;

/// The number of rows left out that are printed.
const LISTED: usize = 20;

/// Adds refusals, identity and routing examples and benign twins, removes duplicates and leaks, splits.
#[derive(Parser)]
pub struct Args {
    /// The configuration (YAML).
    #[arg(long)]
    config: PathBuf,
    /// The folder for the data set.
    #[arg(long)]
    out: PathBuf,
    /// Print the report as one JSON object on standard output.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// Whatever stops it.
pub fn run(args: Args) -> anyhow::Result<Exit> {
    let config = EnrichConfig::load(&args.config)?;
    let set = Dataset::build(&config)?;
    let manifest = set.write(&args.out, &config)?;
    let report = &set.report;
    for (kind, rows) in &report.mix.by_kind {
        errln!("{kind:>10} {rows:>6} {:>6.1} %", report.mix.share(kind) * 100.0);
    }
    for (what, counts) in [("agents", &report.mix.by_agent), ("markup", &report.mix.by_family)] {
        let counts: Vec<_> = counts.iter().map(|(name, rows)| format!("{name} {rows}")).collect();
        errln!("{what:>10} {}", counts.join(", "));
    }
    for prompt in &report.system_prompts {
        let counts = prompt.patterns.iter().map(|(name, count)| format!("{name} {count}"));
        let counts = counts.collect::<Vec<_>>().join(", ");
        errln!("{} {}: {} words, {counts}", prompt.vendor, prompt.model, prompt.words);
    }
    for left_out in report.left_out.iter().take(LISTED) {
        errln!("left out: {left_out}");
    }
    if report.left_out.len() > LISTED {
        errln!("left out: {} rows in all, see left-out.jsonl", report.left_out.len());
    }
    for persona in &report.personas {
        errln!("persona of {persona}");
    }
    for warning in &report.mix.warnings {
        errln!("warning: {warning}");
    }
    let files =
        manifest.outputs.iter().map(|out| format!("{} {}", out.file.display(), out.entries));
    errln!("{}: {}", args.out.display(), files.collect::<Vec<_>>().join(", "));
    if args.json {
        let all = serde_json::json!({ "report": report, "manifest": manifest });
        outln!("{all}")?;
    }
    Ok(Exit::Done)
}
