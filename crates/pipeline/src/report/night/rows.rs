//! What became of the raw rows, as the report tells it.

use std::collections::BTreeMap;

use super::page::Place;
use crate::accounting::RowAccount;
use crate::format;
use crate::stages::convert::CleanRows;
use crate::stages::enrich::Splits;
use crate::summary::NewRows;

/// Where the rows are: each place with its number of rows, and the file that lists them. All rows that were read are first.
pub(super) fn places(rows: &RowAccount) -> Vec<Place> {
    const REFUSED: &str = "convert/refused.jsonl";
    const MERGED: &str = "convert/merged.jsonl";
    const LEFT_OUT: &str = "enrich/left-out.jsonl";
    const NOT_TRAINED: &str = "train/left-out.jsonl";
    let place = |what, rows: u64, file: Option<&'static str>| Place {
        what,
        rows: format::count(rows),
        file,
    };
    let always = [
        place("read", rows.read, None),
        place("trained", rows.trained, Some("enrich/train.jsonl")),
        place("held out for validation", rows.validation, Some("enrich/valid.jsonl")),
        place("held out for tests", rows.test, Some("enrich/test.jsonl")),
    ];
    let if_any = [
        ("could not be read", rows.refused, REFUSED),
        ("merged into longer rows", rows.merged, MERGED),
        ("equal to earlier rows", rows.duplicates, LEFT_OUT),
        ("too similar to earlier rows", rows.near_duplicates, LEFT_OUT),
        ("too similar to exam questions", rows.leaks, LEFT_OUT),
        ("cannot be trained", rows.not_trained, NOT_TRAINED),
        ("trained in part: cut at max_seq_length", rows.cut, NOT_TRAINED),
        ("generated rows, used", rows.made, "enrich/report.json"),
        ("generated rows, left out", rows.made_left_out, LEFT_OUT),
    ];
    let if_any = if_any.into_iter().filter(|(_, rows, _)| *rows > 0);
    let if_any = if_any.map(|(what, rows, file)| place(what, rows, Some(file)));
    always.into_iter().chain(if_any).collect()
}

/// What was decided about the rows and changed in them.
pub(super) fn notes(
    clean: &CleanRows,
    splits: &Splits,
    new_rows: Option<&NewRows>,
) -> Vec<(&'static str, String)> {
    let files = clean.files.iter().map(|file| {
        let mut text = format!("{}: {} rows", file.name, format::count(file.read));
        for (count, what) in [(file.refused, "refused"), (file.merged, "merged")] {
            if count > 0 {
                text += &format!(", {} {what}", format::count(count));
            }
        }
        text
    });
    let new_rows = new_rows.map(|NewRows { rows, since, .. }| {
        format!("{} that night {since} did not have", format::count(*rows))
    });
    let all = [
        ("What is done to the rows", vec![splits.decision.clone()]),
        ("New rows", new_rows.into_iter().collect()),
        ("Files of rows", files.collect()),
        ("Files not read", clean.skipped.clone()),
        ("Personal data replaced", counts(&clean.scrubbed)),
        ("Keys left out", counts(&clean.ignored)),
        ("Personas of generated rows", splits.personas.clone()),
    ];
    let all = all.into_iter().filter(|(_, lines)| !lines.is_empty());
    all.map(|(what, lines)| (what, lines.join("\n"))).collect()
}

/// Names with their numbers.
fn counts(counts: &BTreeMap<String, u64>) -> Vec<String> {
    counts.iter().map(|(key, count)| format!("{key} {}", format::count(*count))).collect()
}
