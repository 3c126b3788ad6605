//! The refusal judge against answers labelled by hand (`tests/data/refusals.jsonl`, our own wording).
//!
//! The judge's rules were tuned on the rows marked `tune`; the rows marked `check` were written before
//! the first measurement and never tuned on.

use std::collections::BTreeMap;

use eval::{Stance, classify_refusal};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Labelled {
    split: String,
    label: Stance,
    answer: String,
}

fn labelled(split: &str) -> Vec<Labelled> {
    let rows = include_str!("data/refusals.jsonl").lines();
    let rows = rows.map(|line| serde_json::from_str::<Labelled>(line).expect("a labelled row"));
    rows.filter(|row| row.split == split).collect()
}

/// Prints the confusion matrix and returns how many rows are judged as labelled, and of how many.
fn measure(split: &str) -> (usize, usize) {
    let rows = labelled(split);
    let mut matrix: BTreeMap<(Stance, Stance), usize> = BTreeMap::new();
    for row in &rows {
        let judged = classify_refusal(&row.answer);
        *matrix.entry((row.label, judged)).or_default() += 1;
        if judged != row.label {
            eprintln!("{:?}, judged {judged:?}: {}", row.label, row.answer);
        }
    }
    matrix
        .iter()
        .for_each(|((label, judged), n)| println!("{split}: {label:?} as {judged:?}: {n}"));
    (matrix.iter().filter(|((label, judged), _)| label == judged).map(|(_, n)| n).sum(), rows.len())
}

#[test]
fn the_rows_it_was_tuned_on_are_judged_as_labelled() {
    let (right, of) = measure("tune");
    assert_eq!(right, of);
}

#[test]
fn unseen_rows_are_judged_as_labelled_but_for_the_documented_few() {
    let (right, of) = measure("check");
    assert_eq!((right, of), (33, 37), "the README states these figures");
}
