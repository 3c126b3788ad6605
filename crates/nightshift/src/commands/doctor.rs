//! Says what is wrong on this machine, and what to do about it.
//!
//! ```sh
//! nightshift doctor --config night.yaml
//! ```
//!
//! Exit codes: 0 nothing that prevents a night, 1 a problem was found.

use clap::Parser;
use comfy_table::presets;
use serde_json::json;

use crate::doctor::{State, examine};
use crate::home::HomeArgs;
use crate::{Exit, table};

/// Says what is wrong on this machine and what to do: device, memory, disk, models, home, schedule.
///
/// Repairs nothing. `config check` and `preflight` look at a night's files.
#[derive(Parser)]
pub struct Args {
    #[command(flatten)]
    home: HomeArgs,
    /// Print one JSON object on stdout, and nothing else.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// A configuration file that cannot be read.
pub fn run(args: Args) -> anyhow::Result<Exit> {
    let folder = args.home.folder()?;
    let findings = examine(&folder);
    let problems = findings.iter().filter(|finding| finding.state == State::Problem).count();
    if args.json {
        outln!("{}", json!({ "ok": problems == 0, "findings": findings }))?;
    } else {
        let mut rows = table(&["", "about", "found"]);
        rows.load_style(presets::NOTHING);
        for finding in &findings {
            let remedy = finding.remedy.iter().map(|remedy| format!("\n-> {remedy}"));
            let found = format!("{}{}", finding.found, remedy.collect::<String>());
            rows.add_row([finding.state.as_str(), finding.about, &found]);
        }
        errln!("{rows}");
    }
    Ok(if problems == 0 { Exit::Done } else { Exit::No })
}
