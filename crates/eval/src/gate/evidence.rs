//! What a verdict is based on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::pairs::{PairedCase, Sitting};
use super::policy::Check;
use super::verdict::Reference;
use crate::council::{CategoryId, Council};
use crate::error::{Error, Result};
use crate::exam::ExamRun;
use crate::forgetting::Drift;

/// The runs and checks that a verdict is based on.
#[derive(Clone, Debug)]
pub struct Evidence<'a> {
    /// The exam that is the same every night.
    pub standing: Sitting<'a>,
    /// The exam that was made for this night.
    pub fresh: FreshExam<Sitting<'a>>,
    /// The best scores that a served model of this base has reached on the standing exam.
    pub best: Option<&'a BestScores>,
    /// How far the models have moved from the base, if it was measured.
    pub drifts: Option<Drifts>,
    /// The results of checks made outside this crate.
    pub checks: Vec<CheckResult>,
}

/// What is known of the fresh exam.
#[derive(Clone, Debug, PartialEq)]
pub enum FreshExam<T> {
    /// It was taken.
    Taken(T),
    /// It was not taken, for this reason. Nothing is promoted without it.
    Pending(String),
    /// There is no source of fresh exams. The standing exam decides alone, at a level that is the product of both exams'.
    Unavailable,
}

/// Mean scores by category on one exam.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BestScores {
    /// The highest mean score of each category.
    pub categories: BTreeMap<CategoryId, f64>,
}

/// How far a candidate and the champion have moved from the base model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drifts {
    /// The candidate.
    pub candidate: Drift,
    /// The champion, if there is one.
    pub champion: Option<Drift>,
}

/// The result of a check made outside this crate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckResult {
    /// Which check.
    pub check: Check,
    /// What it found, such as the ids of contaminated cases; empty if nothing is wrong.
    pub problems: Vec<String>,
}

/// The same as [`Evidence`], paired by case: what the rules see. Simulations start here.
#[derive(Clone, Debug)]
pub struct PairedEvidence<'a> {
    /// The agents and categories of the exams.
    pub council: &'a Council,
    /// Whom the candidate is compared with.
    pub against: Reference,
    /// The standing exam.
    pub standing: Vec<PairedCase<'a>>,
    /// The fresh exam.
    pub fresh: FreshExam<Vec<PairedCase<'a>>>,
    /// See [`Evidence::best`].
    pub best: Option<&'a BestScores>,
    /// See [`Evidence::drifts`].
    pub drifts: Option<Drifts>,
    /// See [`Evidence::checks`].
    pub checks: &'a [CheckResult],
    /// The scoring version of all runs.
    pub scoring_version: u32,
}

impl<'a> Evidence<'a> {
    /// A candidate's run against a champion's, on a standing exam only.
    pub fn new(candidate: &'a ExamRun, champion: &'a ExamRun) -> Self {
        Evidence {
            standing: Sitting { candidate, champion: Some(champion), base: None },
            fresh: FreshExam::Unavailable,
            best: None,
            drifts: None,
            checks: Vec::new(),
        }
    }

    /// Pairs the runs by case.
    ///
    /// # Errors
    /// If runs cannot be compared; see [`Gate::decide`](super::Gate::decide).
    pub fn paired(&self, overlap: f64) -> Result<PairedEvidence<'_>> {
        let reference = &self.standing.reference()?.manifest;
        let fresh = match &self.fresh {
            FreshExam::Taken(sitting) => {
                let version = sitting.reference()?.manifest.scoring_version;
                if version != reference.scoring_version {
                    return Err(Error::Incomparable {
                        what: "scoring version of the fresh exam",
                        expected: reference.scoring_version.to_string(),
                        found: version.to_string(),
                    });
                }
                FreshExam::Taken(sitting.paired(overlap)?)
            }
            FreshExam::Pending(why) => FreshExam::Pending(why.clone()),
            FreshExam::Unavailable => FreshExam::Unavailable,
        };
        Ok(PairedEvidence {
            council: &reference.council,
            against: match self.standing.champion {
                Some(_) => Reference::Champion,
                None => Reference::Base,
            },
            standing: self.standing.paired(overlap)?,
            fresh,
            best: self.best,
            drifts: self.drifts,
            checks: &self.checks,
            scoring_version: reference.scoring_version,
        })
    }
}

impl BestScores {
    /// The mean scores of a run.
    ///
    /// # Errors
    /// If the run has no answers.
    pub fn of_run(run: &ExamRun) -> Result<BestScores> {
        let categories = run.summary()?.categories;
        let scores = categories.into_iter().map(|(category, mean)| (category, mean.score));
        Ok(BestScores { categories: scores.collect() })
    }

    /// Keeps the higher of both scores in every category.
    pub fn raise(&mut self, other: &BestScores) {
        for (category, score) in &other.categories {
            let best = self.categories.entry(category.clone()).or_insert(*score);
            *best = best.max(*score);
        }
    }
}
