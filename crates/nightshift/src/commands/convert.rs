//! Cleans chat data: any supported shape and markup in, clean messages out.
//!
//! ```sh
//! nightshift convert raw.jsonl clean.jsonl
//! nightshift convert logs exports/chats.json.gz clean.jsonl --refused refused.jsonl
//! ```

use std::path::PathBuf;

use chat_format::clean::{
    Converter, Inputs, Options, Origin, Reasoning, Report, Scrub, Strictness,
};
use clap::{Parser, ValueEnum};
use comfy_table::{Table, presets::UTF8_HORIZONTAL_ONLY};

use crate::Exit;

/// Converts chat rows of any supported shape and markup to clean messages (JSON Lines).
#[derive(Parser)]
pub struct Args {
    /// The raw rows: files and folders, converted in this order; the files of a folder by name.
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<PathBuf>,
    /// The file for the clean rows. It appears once it is complete.
    output: PathBuf,
    /// Refuse the whole file if one row cannot be cleaned.
    #[arg(long)]
    strict: bool,
    /// Write the rows that are left out to this file, with file, line, field, reason and their original text.
    #[arg(long, value_name = "FILE")]
    refused: Option<PathBuf>,
    /// Merge a row into a longer one that begins with the same messages, as in logs written with every turn. Rows must
    /// have the same values under these keys (say, `agent`). Takes memory: 18 bytes a message and 56 bytes a row.
    #[arg(long, value_name = "KEYS", num_args = 0..=1, require_equals = true, default_missing_value = "", value_delimiter = ',')]
    merge_grown: Option<Vec<String>>,
    /// What happens to the assistant's reasoning.
    #[arg(long, value_enum, default_value = "drop")]
    reasoning: ReasoningArg,
    /// Record the family of its markup in each row, under `markup`; `enrich` counts by it.
    #[arg(long)]
    keep_origin: bool,
    /// Replace e-mail addresses, telephone numbers, IBANs, cards, IP and MAC addresses, keys and tokens by placeholders.
    #[arg(long)]
    scrub: bool,
    /// Print the report as one JSON object on standard output.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum ReasoningArg {
    /// Remove it.
    Drop,
    /// Keep it as `reasoning_content`.
    Keep,
    /// Keep it in the content, between `<think>` tags.
    Inline,
}

/// Runs the command.
///
/// # Errors
/// Whatever stops it.
pub fn run(args: Args) -> anyhow::Result<Exit> {
    let reasoning = match args.reasoning {
        ReasoningArg::Drop => Reasoning::Drop,
        ReasoningArg::Keep => Reasoning::Keep,
        ReasoningArg::Inline => Reasoning::Inline,
    };
    let strictness = if args.strict { Strictness::Refuse } else { Strictness::LeaveOut };
    let origin = if args.keep_origin { Origin::Keep } else { Origin::Forget };
    let scrub = if args.scrub { Scrub::all() } else { Scrub::NONE };
    let options = Options::default().reasoning(reasoning).origin(origin).scrub(scrub);
    let mut converter = Converter::new(options).strictness(strictness);
    if let Some(path) = args.refused {
        converter = converter.refused(path);
    }
    if let Some(same) = args.merge_grown {
        converter = converter.merge_grown(same.into_iter().filter(|key| !key.is_empty()));
    }
    let report = converter.convert_all(Inputs::find(&args.inputs)?, &args.output)?;
    if args.json {
        outln!("{}", serde_json::to_string(&report)?)?;
    }
    errln!("{}", table(&report));
    list(&report);
    anyhow::ensure!(report.written > 0, "{}: no row could be read", names(&args.inputs));
    Ok(Exit::Done)
}

/// Lists the files, if there are several, and what was left out.
fn list(report: &Report) {
    if report.files.len() > 1 {
        for file in &report.files {
            let rows = format!("{} of {} rows written", file.written, file.rows);
            errln!("{}: {rows}", file.file.display());
        }
    }
    for skipped in &report.skipped {
        errln!("skipped: {} ({})", skipped.path.display(), skipped.reason);
    }
    for merge in &report.merges {
        errln!("merged: {merge}");
    }
    let unlisted = report.merged.saturating_sub(report.merges.len() as u64);
    if unlisted > 0 {
        errln!("merged: {unlisted} more rows");
    }
    for refusal in &report.refusals {
        errln!("left out: {refusal}");
    }
    let unlisted = report.refused.saturating_sub(report.refusals.len() as u64);
    if unlisted > 0 {
        errln!("left out: {unlisted} more rows; --refused FILE lists all");
    }
}

fn names(inputs: &[PathBuf]) -> String {
    let names: Vec<String> = inputs.iter().map(|path| path.display().to_string()).collect();
    names.join(", ")
}

fn table(report: &Report) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY);
    let mut add = |what: &str, count: u64| {
        table.add_row([what.to_owned(), count.to_string()]);
    };
    add("rows read", report.rows);
    add("rows written", report.written);
    if report.merged > 0 {
        add("rows merged into longer ones", report.merged);
    }
    let share = 100.0 * report.refused_share();
    add(&format!("rows left out ({share:.1} %)"), report.refused);
    let notes = &report.notes;
    for (shape, count) in &notes.shapes {
        add(&format!("kept as {shape}"), *count);
    }
    for (family, count) in &notes.families {
        add(&format!("conversations in {family} markup"), *count);
    }
    for (token, count) in &notes.removed {
        add(&format!("{token} taken out"), *count);
    }
    for (token, count) in &notes.spelled {
        add(&format!("{token} kept as text"), *count);
    }
    for (key, count) in &notes.ignored {
        add(&format!("{key} left out"), *count);
    }
    for (placeholder, count) in &notes.scrubbed {
        add(&format!("{placeholder} in place of personal data"), *count);
    }
    add("reasoning blocks", notes.reasoning);
    add("  never closed", notes.unclosed_reasoning);
    add("  never opened (kept in the answer)", notes.unopened_reasoning);
    add("turns never closed", notes.unclosed_turns);
    add("empty system turns left out", notes.empty_system_turns);
    table
}
