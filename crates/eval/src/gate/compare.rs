//! The tables of a verdict: candidate and reference, group by group.

use std::collections::BTreeMap;

use super::evidence::{FreshExam, PairedEvidence};
use super::pairs::PairedCase;
use super::policy::Policy;
use super::verdict::{Comparison, Decision, Reference, RuleVerdict, Verdict};
use crate::council::{AgentId, CategoryId, Council};
use crate::error::Result;
use crate::stats::{self, Clustered, clustered_difference};
use crate::suite::Tier;

type Group<'a, K> = (K, Vec<&'a PairedCase<'a>>);

pub(super) fn verdict(
    policy: &Policy,
    evidence: &PairedEvidence<'_>,
    rules: Vec<RuleVerdict>,
) -> Result<Verdict> {
    let (council, standing) = (evidence.council, &evidence.standing);
    let fresh: &[PairedCase<'_>] = match &evidence.fresh {
        FreshExam::Taken(cases) => cases,
        _ => &[],
    };
    let held_out = standing.iter().filter(|case| case.tier == Tier::HeldOut);
    let (deciding, alpha): (Vec<_>, f64) = match evidence.fresh {
        FreshExam::Taken(_) => (fresh.iter().collect(), policy.fresh.alpha),
        FreshExam::Pending(_) => (held_out.collect(), 1.0 - policy.held_out),
        FreshExam::Unavailable => (held_out.collect(), policy.alone()),
    };
    let promotes = rules.iter().all(|rule| rule.passed);
    Ok(Verdict {
        decision: if promotes { Decision::Promote } else { Decision::Refuse },
        reason: reason(&rules, evidence.against),
        reference: evidence.against,
        rules,
        cases: standing.len() + fresh.len(),
        detectable: clustered(&deciding)?.detectable(alpha)?,
        promise: policy.promise(evidence.fresh != FreshExam::Unavailable),
        tiers: compared(grouped(standing, |case| case.tier))?,
        categories: compared(by_category(council, standing))?,
        agents: compared(by_agent(council, standing))?,
        fresh: compared(by_category(council, fresh))?,
        scoring_version: evidence.scoring_version,
    })
}

fn reason(rules: &[RuleVerdict], against: Reference) -> String {
    let failed: Vec<&str> =
        rules.iter().filter(|rule| !rule.passed).map(|rule| rule.rule.as_str()).collect();
    if failed.is_empty() {
        format!("the candidate meets all {} rules against the {against}.", rules.len())
    } else {
        let list = failed.join(", ");
        format!("the candidate fails {} of {} rules: {list}.", failed.len(), rules.len())
    }
}

fn grouped<'a, K: Ord>(
    cases: impl IntoIterator<Item = &'a PairedCase<'a>>,
    key: impl Fn(&'a PairedCase<'a>) -> K,
) -> Vec<Group<'a, K>> {
    let mut groups: BTreeMap<K, Vec<&PairedCase<'_>>> = BTreeMap::new();
    for case in cases {
        groups.entry(key(case)).or_default().push(case);
    }
    groups.into_iter().collect()
}

/// The cases by category, in the council's order.
pub(super) fn by_category<'a>(
    council: &Council,
    cases: impl IntoIterator<Item = &'a PairedCase<'a>>,
) -> Vec<Group<'a, CategoryId>> {
    let groups = grouped(cases, |case| council.category_key(case.category));
    groups.into_iter().map(|((_, id), cases)| (id.clone(), cases)).collect()
}

/// The cases by agent, in the council's order.
pub(super) fn by_agent<'a>(
    council: &Council,
    cases: impl IntoIterator<Item = &'a PairedCase<'a>>,
) -> Vec<Group<'a, AgentId>> {
    let groups = grouped(cases, |case| council.agent_key(case.agent));
    groups.into_iter().map(|((_, id), cases)| (id.clone(), cases)).collect()
}

/// The weighted means of the candidate and of the reference.
pub(super) fn means(cases: &[&PairedCase<'_>]) -> Result<(f64, f64)> {
    let weights: Vec<f64> = cases.iter().map(|case| case.weight).collect();
    let candidate: Vec<f64> = cases.iter().map(|case| case.candidate.score).collect();
    let reference: Vec<f64> =
        cases.iter().map(|case| case.candidate.score - case.difference()).collect();
    Ok((stats::weighted_mean(&candidate, &weights)?, stats::weighted_mean(&reference, &weights)?))
}

/// The effective number of cases, given their weights.
pub(super) fn effective(cases: &[&PairedCase<'_>]) -> f64 {
    stats::effective_cases(&cases.iter().map(|case| case.weight).collect::<Vec<_>>())
}

fn clustered(cases: &[&PairedCase<'_>]) -> Result<Clustered> {
    let differences: Vec<_> =
        cases.iter().map(|case| (case.cluster, case.difference(), case.weight)).collect();
    clustered_difference(&differences)
}

fn compared<'a, K>(groups: Vec<Group<'a, K>>) -> Result<Vec<Comparison<K>>> {
    let compare = |(of, cases): Group<'a, K>| {
        let (candidate, reference) = means(&cases)?;
        let count = |side: f64| cases.iter().filter(|case| side * case.difference() > 1e-9).count();
        Ok(Comparison {
            of,
            candidate,
            reference,
            difference: candidate - reference,
            interval: clustered(&cases)?.interval(0.95)?,
            cases: cases.len(),
            better: count(1.0),
            worse: count(-1.0),
        })
    };
    groups.into_iter().map(compare).collect()
}
