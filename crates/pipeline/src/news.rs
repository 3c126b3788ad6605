//! What is new since the last night: how many rows, and whether anything that its verdict depends on.

use std::collections::BTreeSet;
use std::path::Path;

use chat_format::jsonl;
use durable::Digest;
use eval::{ExamOptions, Policy};
use lora_train::TrainConfig;
use serde::Serialize;

use crate::base_model::BaseModel;
use crate::drift::DriftPlan;
use crate::earlier_nights::EarlierNights;
use crate::error::{Error, Result};
use crate::files::read_if_there;
use crate::preference::Recipes;
use crate::stage::determining;
use crate::stages::convert::CleanRows;
use crate::stages::enrich::Splits;
use crate::stages::fresh_exam::FreshSource;
use crate::summary::{NewRows, Outcome, Summary};

/// The file of a night with the digests of its clean rows, one a line.
const ROWS: &str = "row-digests.txt";

/// What a verdict depends on, besides the champion, the date and the questions of a fresh exam.
#[derive(Serialize)]
pub(crate) struct NightInputs<'a> {
    model: Digest,
    arithmetic: &'a str,
    #[serde(serialize_with = "Splits::trained_with_pairs")]
    splits: &'a Splits,
    #[serde(serialize_with = "determining")]
    supervised: &'a TrainConfig,
    preference: Option<Phase<'a>>,
    exam: ExamInputs<'a>,
}

/// The recipe of the preference phase.
#[derive(Serialize)]
struct Phase<'a>(#[serde(serialize_with = "determining")] &'a TrainConfig);

/// How candidates are examined.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct ExamInputs<'a> {
    pub suite: Digest,
    pub options: &'a ExamOptions,
    pub scoring_version: u32,
    pub policy: &'a Policy,
    pub fresh: &'a FreshSource,
    pub drift: Option<&'a DriftPlan>,
}

impl<'a> NightInputs<'a> {
    pub fn new(
        model: &'a BaseModel,
        splits: &'a Splits,
        recipes: &'a Recipes,
        exam: ExamInputs<'a>,
    ) -> Self {
        Self {
            model: model.sha256,
            arithmetic: &model.arithmetic,
            splits,
            supervised: &recipes.supervised,
            preference: recipes.preference.as_ref().map(Phase),
            exam,
        }
    }

    pub fn digest(&self) -> Result<Digest> {
        let inputs = serde_json::to_string(self).map_err(|e| Error::Record {
            path: "inputs".into(),
            line: None,
            expected: "inputs of a night that serialize to JSON",
            found: e.to_string(),
        })?;
        Ok(durable::digest(format!("{} {inputs}", env!("CARGO_PKG_VERSION"))))
    }
}

/// Counts the rows that the last night did not have, and keeps the digests of all rows of this night for the next one.
/// `earlier` are summaries of finished nights on the same model, newest first; `None` if there is none, or if its rows are
/// not known.
pub(crate) fn new_rows(
    night: &Path,
    clean: &CleanRows,
    earlier: &[Summary],
) -> Result<Option<NewRows>> {
    let mut rows = BTreeSet::new();
    for part in &clean.parts {
        for row in jsonl::Reader::open(part.file.verified(night)?)?.conversations() {
            let row = row?;
            // What is said, not where it stands.
            rows.insert(durable::digest(serde_json::json!([row.messages, row.tools]).to_string()));
        }
    }
    let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
    durable::write(night.join(ROWS), lines)?;
    let Some(last) = earlier.first() else { return Ok(None) };
    let Some(known) = read_if_there(&last.paths.night.join(ROWS))? else { return Ok(None) };
    let known = String::from_utf8_lossy(&known);
    let known: BTreeSet<Digest> = known.lines().filter_map(|line| line.parse().ok()).collect();
    let rows = rows.difference(&known).count() as u64;
    Ok(Some(NewRows { rows, since: last.night.clone() }))
}

/// The summaries of finished nights on the model with this digest, newest first.
pub(crate) fn summaries(earlier: &EarlierNights, base: Digest) -> Vec<Summary> {
    let summaries = earlier.finished().filter_map(Summary::read);
    summaries.filter(|summary| summary.base == Some(base)).collect()
}

/// The earlier nights with the same inputs, newest first. `earlier` are those on the same model.
pub(crate) fn same(earlier: &[Summary], inputs: Digest) -> impl Iterator<Item = &Summary> {
    earlier
        .iter()
        .filter(move |night| night.inputs == Some(inputs) && night.outcome != Outcome::NothingNew)
}
