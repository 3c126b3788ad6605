//! Which answers are worth showing.

use std::collections::HashSet;

use eval::{ExamRun, Record};
use serde::{Deserialize, Serialize};

/// One case, before and after.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The case's id.
    pub case: String,
    /// Its category.
    pub category: String,
    /// The agent asked.
    pub agent: String,
    /// The last thing that was asked.
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

/// The cases that gained most, one per category, at most `gains` of them, and then the one that
/// lost most, if any did: a page that only shows what went well is no report.
pub(crate) fn pick(base: &ExamRun, candidate: &ExamRun, gains: usize) -> Vec<Sample> {
    let mut pairs: Vec<(&Record, &Record)> = (base.records.iter())
        .filter_map(|before| {
            let after = |after: &&Record| after.case == before.case && after.seed == before.seed;
            Some((before, candidate.records.iter().find(after)?))
        })
        .collect();
    let gain = |(before, after): &(&Record, &Record)| after.score.value - before.score.value;
    // Of equal gains the short answers first: they show the difference at a glance.
    let length = |(before, after): &(&Record, &Record)| before.answer.len() + after.answer.len();
    pairs.sort_by(|a, b| gain(b).total_cmp(&gain(a)).then(length(a).cmp(&length(b))));
    let mut seen = HashSet::new();
    let best = pairs.iter().filter(|pair| gain(pair) > 0.0 && seen.insert(&pair.0.category));
    let worst = pairs.last().filter(|pair| gain(pair) < 0.0);
    best.take(gains).chain(worst).map(|(before, after)| sample(before, after)).collect()
}

fn sample(before: &Record, after: &Record) -> Sample {
    Sample {
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
