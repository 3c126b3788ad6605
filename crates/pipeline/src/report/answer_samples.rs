//! Chooses the answers shown before and after training.
//!
//! Only of cases that are not held out: whoever writes training rows reads the report, and a held-out question that they
//! have seen measures nothing any more.

use std::collections::HashSet;

use eval::{ExamRun, Record, Tier};
use serde::{Deserialize, Serialize};

/// A case with the answers of the base model and the candidate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AnswerSample {
    /// The case's id.
    pub case: String,
    /// Its category.
    pub category: String,
    /// The agent asked.
    pub agent: String,
    /// The last question of the case.
    pub question: String,
    /// The base model's answer.
    pub before: String,
    /// The candidate's answer.
    pub after: String,
    /// The base model's score.
    pub score_before: f64,
    /// The candidate's score.
    pub score_after: f64,
}

/// Of the cases that are not held out, those with the largest gains, one per category and at most `gains` of them, followed by the
/// case with the largest loss, if there is one.
pub(crate) fn pick(base: &ExamRun, candidate: &ExamRun, gains: usize) -> Vec<AnswerSample> {
    let visible = base.records.iter().filter(|record| record.tier != Tier::HeldOut);
    let mut pairs: Vec<(&Record, &Record)> = visible
        .filter_map(|before| {
            let after = |after: &&Record| after.case == before.case && after.seed == before.seed;
            Some((before, candidate.records.iter().find(after)?))
        })
        .collect();
    let gain = |(before, after): &(&Record, &Record)| after.score.value - before.score.value;
    // Short answers first among equal gains: the difference is easier to see.
    let length = |(before, after): &(&Record, &Record)| before.answer.len() + after.answer.len();
    pairs.sort_by(|a, b| gain(b).total_cmp(&gain(a)).then(length(a).cmp(&length(b))));
    let mut seen = HashSet::new();
    let best = pairs.iter().filter(|pair| gain(pair) > 0.0 && seen.insert(&pair.0.category));
    let worst = pairs.last().filter(|pair| gain(pair) < 0.0);
    best.take(gains).chain(worst).map(|(before, after)| sample(before, after)).collect()
}

fn sample(before: &Record, after: &Record) -> AnswerSample {
    AnswerSample {
        case: before.case.clone(),
        category: before.category.to_string(),
        agent: before.agent.to_string(),
        question: before.question.clone(),
        before: before.answer.trim().to_owned(),
        after: after.answer.trim().to_owned(),
        score_before: before.score.value,
        score_after: after.score.value,
    }
}
