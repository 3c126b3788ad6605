//! The decision whether a candidate may replace the champion.
mod pairs;
mod policy;
mod verdict;

pub use policy::{AgentFloors, Check, Floors, Policy};
pub use verdict::{Comparison, Decision, Reference, RuleVerdict, Verdict};

use pairs::{PairedCase, compare, grouped, means};

use crate::Agent;
use crate::error::{Error, Result};
use crate::exam::run::ExamRun;
use crate::stats::{self, Pair};
use crate::suite::{Category, Tier};

/// Everything a verdict rests on.
#[derive(Clone, Debug)]
pub struct Evidence<'a> {
    /// The runs of the candidate: one for each seed it was trained with, the one to be promoted first.
    pub candidates: Vec<&'a ExamRun>,
    /// The run of the champion, or of the base as long as there is no champion.
    pub reference: &'a ExamRun,
    /// Which of the two the reference is.
    pub against: Reference,
    /// The results of checks made elsewhere.
    pub checks: Vec<CheckResult>,
}

impl<'a> Evidence<'a> {
    /// One candidate run against the champion's.
    pub fn new(candidate: &'a ExamRun, champion: &'a ExamRun) -> Self {
        Evidence {
            candidates: vec![candidate],
            reference: champion,
            against: Reference::Champion,
            checks: Vec::new(),
        }
    }
}

/// The result of a check made elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckResult {
    /// Which check.
    pub check: Check,
    /// What it found, such as the ids of contaminated cases; empty if all is well.
    pub problems: Vec<String>,
}

/// Applies a [`Policy`].
pub struct Gate {
    policy: Policy,
}

impl Gate {
    /// A gate with a policy, which is checked.
    pub fn new(policy: Policy) -> Result<Gate> {
        policy.check()?;
        Ok(Gate { policy })
    }

    /// Weighs the evidence. An error means that no verdict can be given (runs that cannot be compared, scores
    /// that are none); a refusal is a verdict.
    pub fn decide(&self, evidence: &Evidence<'_>) -> Result<Verdict> {
        let policy = &self.policy;
        let runs = evidence
            .candidates
            .iter()
            .map(|candidate| pairs::pairs(candidate, evidence.reference, policy.overlap))
            .collect::<Result<Vec<_>>>()?;
        let Some(first) = runs.first() else {
            return Err(Error::Incomparable {
                what: "candidate runs",
                expected: "at least one".into(),
                found: "none".into(),
            });
        };

        let mut rules = vec![self.seeds(&evidence.candidates)];
        for (i, cases) in runs.iter().enumerate() {
            let judged = Judged { policy, cases, against: evidence.against };
            let mut found = vec![judged.held_out()?];
            found.extend(judged.categories()?);
            found.extend(judged.floors()?);
            found.extend(judged.agents()?);
            if runs.len() > 1 {
                found.iter_mut().for_each(|rule| rule.rule = format!("run{}.{}", i + 1, rule.rule));
            }
            rules.extend(found);
        }
        rules.extend(self.checks(&evidence.checks));

        let table = |cases: &[PairedCase], f: fn(&PairedCase) -> Tier| {
            compare(grouped(cases, f), policy.resamples, policy.seed)
        };
        let held_out = grouped(first, |c| c.tier).remove(&Tier::HeldOut).unwrap_or_default();
        Ok(Verdict {
            decision: decision(&rules),
            reason: reason(&rules, evidence.against),
            reference: evidence.against,
            rules,
            cases: first.len(),
            detectable: stats::minimum_detectable_difference(&held_out, policy.held_out)?,
            tiers: table(first, |c| c.tier)?,
            categories: compare(grouped(first, |c| c.category), policy.resamples, policy.seed)?,
            agents: compare(grouped(first, |c| c.agent), policy.resamples, policy.seed)?,
            scoring_version: evidence.reference.manifest.scoring_version,
        })
    }

    /// Runs of one adapter are one seed, however often they are handed in.
    fn seeds(&self, candidates: &[&ExamRun]) -> RuleVerdict {
        let mut subjects: Vec<_> = candidates
            .iter()
            .map(|run| &run.manifest.subject)
            .map(|s| s.adapter_digest.map(|d| d.to_string()).or_else(|| s.adapter.clone()))
            .collect();
        subjects.sort();
        subjects.dedup();
        let (needs, has) = (self.policy.seeds as f64, subjects.len() as f64);
        at_least("seeds", needs, has, |_| {
            format!("{has} training seed(s) examined; the policy asks for {needs}.")
        })
    }

    fn checks(&self, results: &[CheckResult]) -> Vec<RuleVerdict> {
        let missing = self
            .policy
            .require
            .iter()
            .filter(|check| results.iter().all(|result| result.check != **check));
        let missing = missing.map(|check| {
            let rule = format!("check.{}", check.name());
            at_least(&rule, 1.0, 0.0, |_| format!("The {} check was not made.", check.name()))
        });
        let made = results.iter().map(|result| {
            let clean = if result.problems.is_empty() { 1.0 } else { 0.0 };
            at_least(&format!("check.{}", result.check.name()), 1.0, clean, |passed| {
                let name = result.check.name();
                match result.problems.first() {
                    Some(problem) if !passed => {
                        let more = result.problems.len() - 1;
                        format!("The {name} check found: {problem} (and {more} more).")
                    }
                    _ => format!("The {name} check is clean."),
                }
            })
        });
        missing.chain(made).collect()
    }
}

impl Check {
    fn name(self) -> &'static str {
        match self {
            Check::Contamination => "contamination",
            Check::Adapter => "adapter",
        }
    }
}

/// One candidate run, paired with the reference.
struct Judged<'a> {
    policy: &'a Policy,
    cases: &'a [PairedCase],
    against: Reference,
}

impl Judged<'_> {
    fn held_out(&self) -> Result<RuleVerdict> {
        let held_out = grouped(self.cases, |c| c.tier).remove(&Tier::HeldOut);
        let Some(pairs) = held_out else {
            return Err(Error::Incomparable {
                what: "held-out cases",
                expected: "at least one".into(),
                found: "none".into(),
            });
        };
        let seen = stats::paired_bootstrap(&pairs, self.policy.resamples, self.policy.seed)?;
        Ok(at_least("held_out", self.policy.held_out, seen.better, |_| {
            format!(
                "Better on held-out cases ({:+.3}) with probability {:.3}; {} of {} cases tie.",
                seen.difference, seen.better, seen.ties, seen.cases
            )
        }))
    }

    fn categories(&self) -> Result<Vec<RuleVerdict>> {
        let compared =
            compare(grouped(self.cases, |c| c.category), self.policy.resamples, self.policy.seed)?;
        let judged: Vec<_> = compared
            .into_iter()
            .filter(|row| row.bootstrap.cases >= self.policy.agents.min_cases)
            .collect();
        let not_worse: Vec<f64> = judged.iter().map(|row| 1.0 - row.bootstrap.worse).collect();
        let adjusted = stats::benjamini_hochberg(&not_worse)?;
        let rules = judged.iter().zip(adjusted).map(|(row, value)| {
            at_least(&format!("category.{}", row.of), self.policy.category, value, |passed| {
                let verb = if passed { "Not clearly worse" } else { "Clearly worse" };
                format!("{verb} in {} ({:+.3}).", row.of, row.bootstrap.difference)
            })
        });
        Ok(rules.collect())
    }

    fn floors(&self) -> Result<Vec<RuleVerdict>> {
        let groups = grouped(self.cases, |c: &PairedCase| c.category);
        let floors = &self.policy.floors;
        let listed = |category: &Category| floors.categories.contains(category);
        let mut rules = Vec::new();
        for (category, pairs) in groups.iter().filter(|(category, _)| listed(category)) {
            let (candidate, reference) = means(pairs)?;
            let floor = lower_end(reference, pairs, floors.confidence)?;
            rules.push(at_least(&format!("floor.{category}"), floor, candidate, |_| {
                format!("The {} scores {reference:.3} in {category}.", self.against)
            }));
        }
        Ok(rules)
    }

    fn agents(&self) -> Result<Vec<RuleVerdict>> {
        let AgentFloors { confidence, shrinkage, min_cases } = self.policy.agents;
        let all: Vec<Pair> = self.cases.iter().map(|c| c.pair).collect();
        let (candidate_overall, reference_overall) = means(&all)?;
        let mut rules = Vec::new();
        for (agent, pairs) in grouped::<Agent>(self.cases, |c| c.agent) {
            if pairs.len() < min_cases {
                continue;
            }
            let (candidate, reference) = means(&pairs)?;
            let cases = effective(&pairs);
            let low = lower_end(reference, &pairs, confidence)?;
            let floor = stats::shrink(low, cases, reference_overall, shrinkage);
            let value = stats::shrink(candidate, cases, candidate_overall, shrinkage);
            rules.push(at_least(&format!("agent.{agent}"), floor, value, |_| {
                let against = self.against;
                format!("{agent} scores {candidate:.3}; the {against} {reference:.3}.")
            }));
        }
        Ok(rules)
    }
}

fn effective(pairs: &[Pair]) -> f64 {
    stats::effective_cases(&pairs.iter().map(|p| p.weight).collect::<Vec<_>>())
}

fn lower_end(score: f64, pairs: &[Pair], confidence: f64) -> Result<f64> {
    // A weighted mean of ones can miss 1 by a rounding error.
    Ok(stats::wilson(score.clamp(0.0, 1.0), effective(pairs), confidence)?.low)
}

fn at_least(
    rule: &str,
    threshold: f64,
    value: f64,
    sentence: impl FnOnce(bool) -> String,
) -> RuleVerdict {
    let passed = value >= threshold;
    RuleVerdict { rule: rule.to_owned(), threshold, value, passed, sentence: sentence(passed) }
}

fn decision(rules: &[RuleVerdict]) -> Decision {
    if rules.iter().all(|rule| rule.passed) { Decision::Promote } else { Decision::Refuse }
}

fn reason(rules: &[RuleVerdict], against: Reference) -> String {
    let failed: Vec<&str> =
        rules.iter().filter(|rule| !rule.passed).map(|rule| rule.rule.as_str()).collect();
    if failed.is_empty() {
        format!("the candidate meets all {} rules against the {against}.", rules.len())
    } else {
        format!(
            "the candidate fails {} of {} rules: {}.",
            failed.len(),
            rules.len(),
            failed.join(", ")
        )
    }
}
