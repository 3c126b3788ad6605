//! Two runs, paired by case.

use std::collections::{BTreeMap, BTreeSet};

use super::verdict::Comparison;
use crate::council::{AgentId, CategoryId};
use crate::error::{Error, Result};
use crate::exam::record::Record;
use crate::exam::run::ExamRun;
use crate::stats::{self, Pair};
use crate::suite::Tier;

/// A case that both runs have answered.
#[derive(Clone, Copy)]
pub(super) struct PairedCase<'a> {
    pub(super) category: &'a CategoryId,
    pub(super) agent: &'a AgentId,
    pub(super) tier: Tier,
    pub(super) pair: Pair,
}

/// The cases that two runs have in common, in the reference's order. Two cases are the same if their ids and questions
/// are. Refuses runs that cannot be compared.
pub(super) fn pairs<'a>(
    candidate: &ExamRun,
    reference: &'a ExamRun,
    overlap: f64,
) -> Result<Vec<PairedCase<'a>>> {
    let same = |what, expected: String, found: String| {
        let same = expected == found;
        same.then_some(()).ok_or(Error::Incomparable { what, expected, found })
    };
    let (c, r) = (&candidate.manifest, &reference.manifest);
    same("scoring version", r.scoring_version.to_string(), c.scoring_version.to_string())?;
    same("exam options", format!("{:?}", r.options), format!("{:?}", c.options))?;

    let of_candidate = scores(candidate)?;
    let of_reference = scores(reference)?;
    let in_common: Vec<PairedCase<'a>> = reference
        .records
        .iter()
        .filter(first_of_case())
        .filter_map(|record| {
            let key = key(record);
            let pair = Pair {
                candidate: *of_candidate.get(&key)?,
                reference: *of_reference.get(&key)?,
                weight: record.weight,
            };
            let Record { category, agent, tier, .. } = record;
            Some(PairedCase { category, agent, tier: *tier, pair })
        })
        .collect();

    let cases = c.suite.cases.max(r.suite.cases).max(of_candidate.len()).max(of_reference.len());
    if in_common.is_empty() || (in_common.len() as f64) < overlap * cases as f64 {
        return Err(Error::Incomparable {
            what: "cases in common",
            expected: format!("at least {:.0} % of {cases}", overlap * 100.0),
            found: in_common.len().to_string(),
        });
    }
    Ok(in_common)
}

type Key<'a> = (&'a str, durable::Digest);

fn key(record: &Record) -> Key<'_> {
    (record.case.as_str(), record.prompt)
}

fn first_of_case<'a>() -> impl FnMut(&&'a Record) -> bool {
    let mut seen = BTreeSet::new();
    move |record| seen.insert(record.case.as_str())
}

/// Every case's score: the mean over its seeds.
fn scores(run: &ExamRun) -> Result<BTreeMap<Key<'_>, f64>> {
    let mut all: BTreeMap<Key<'_>, Vec<f64>> = BTreeMap::new();
    for record in &run.records {
        let score = record.score.value;
        if !((0.0..=1.0).contains(&score) && record.weight.is_finite() && record.weight > 0.0) {
            return Err(Error::Incomparable {
                what: "score and weight",
                expected: format!("a score in [0, 1] and a positive weight for {}", record.case),
                found: format!("{score} and {}", record.weight),
            });
        }
        all.entry(key(record)).or_default().push(score);
    }
    let mean = |scores: Vec<f64>| scores.iter().sum::<f64>() / scores.len() as f64;
    Ok(all.into_iter().map(|(key, scores)| (key, mean(scores))).collect())
}

/// The weighted means of the candidate and of the reference.
pub(super) fn means(pairs: &[Pair]) -> Result<(f64, f64)> {
    let weights: Vec<f64> = pairs.iter().map(|p| p.weight).collect();
    let mean = |score: fn(&Pair) -> f64| {
        stats::weighted_mean(&pairs.iter().map(score).collect::<Vec<_>>(), &weights)
    };
    Ok((mean(|p| p.candidate)?, mean(|p| p.reference)?))
}

/// The pairs by some key, in the key's order.
pub(super) fn grouped<'a, K: Ord>(
    cases: &[PairedCase<'a>],
    key: impl Fn(&PairedCase<'a>) -> K,
) -> BTreeMap<K, Vec<Pair>> {
    let mut groups: BTreeMap<K, Vec<Pair>> = BTreeMap::new();
    for case in cases {
        groups.entry(key(case)).or_default().push(case.pair);
    }
    groups
}

/// Compares each group.
pub(super) fn compare<K>(
    groups: impl IntoIterator<Item = (K, Vec<Pair>)>,
    resamples: usize,
    seed: u64,
) -> Result<Vec<Comparison<K>>> {
    let compare = |(of, pairs): (K, Vec<Pair>)| {
        let (candidate, reference) = means(&pairs)?;
        let bootstrap = stats::paired_bootstrap(&pairs, resamples, seed)?;
        Ok(Comparison { of, candidate, reference, bootstrap })
    };
    groups.into_iter().map(compare).collect()
}
