//! The decision whether a candidate may replace the champion.

mod pairs;
mod policy;
mod verdict;

pub use policy::{AgentFloors, Check, Floors, Policy};
pub use verdict::{Comparison, Decision, Reference, RuleVerdict, Verdict};

use pairs::{PairedCase, compare, grouped, means};

use crate::council::{AgentId, CategoryId, Council};
use crate::error::{Error, Result};
use crate::exam::ExamRun;
use crate::stats::{self, Pair};
use crate::suite::Tier;

/// What a verdict is based on.
#[derive(Clone, Debug)]
pub struct Evidence<'a> {
    /// The candidate's runs, one per training seed; the first is the one to be promoted.
    pub candidates: Vec<&'a ExamRun>,
    /// The run of the champion, or of the base model while there is no champion.
    pub reference: &'a ExamRun,
    /// Which of the two the reference is.
    pub against: Reference,
    /// The results of checks made outside this crate.
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

/// The result of a check made outside this crate.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckResult {
    /// Which check.
    pub check: Check,
    /// What it found, such as the ids of contaminated cases; empty if nothing is wrong.
    pub problems: Vec<String>,
}

/// Applies a [`Policy`].
pub struct Gate {
    policy: Policy,
}

impl Gate {
    /// A gate with a [checked](Policy::check) policy.
    ///
    /// # Errors
    /// If a figure of the policy is out of its range.
    pub fn new(policy: Policy) -> Result<Gate> {
        policy.check()?;
        Ok(Gate { policy })
    }

    /// Decides by the evidence. A refusal is a verdict, not an error.
    ///
    /// # Errors
    /// If no verdict is possible: the runs cannot be compared, a score is not a number between 0 and 1, or the policy has
    /// a floor for a category that the reference's council does not have.
    pub fn decide(&self, evidence: &Evidence<'_>) -> Result<Verdict> {
        let policy = &self.policy;
        let council = &evidence.reference.manifest.council;
        policy.check_categories(council)?;
        let runs = evidence
            .candidates
            .iter()
            .map(|candidate| PairedRun::new(policy, candidate, evidence))
            .collect::<Result<Vec<_>>>()?;

        let mut rules = vec![self.seeds(&evidence.candidates)];
        for (i, run) in runs.iter().enumerate() {
            let mut found = vec![run.held_out()?];
            found.extend(run.categories()?);
            found.extend(run.floors()?);
            found.extend(run.agents()?);
            if runs.len() > 1 {
                found.iter_mut().for_each(|rule| rule.rule = format!("run{}.{}", i + 1, rule.rule));
            }
            rules.extend(found);
        }
        rules.extend(self.checks(&evidence.checks));

        let Some(first) = runs.into_iter().next() else {
            return Err(none_of("candidate runs"));
        };
        let cases = &first.cases;
        let held_out = grouped(cases, |c| c.tier).remove(&Tier::HeldOut).unwrap_or_default();
        Ok(Verdict {
            decision: decision(&rules),
            reason: reason(&rules, evidence.against),
            reference: evidence.against,
            rules,
            cases: cases.len(),
            detectable: stats::minimum_detectable_difference(&held_out, policy.held_out)?,
            agents: compare(by_agent(cases, council), policy.resamples, policy.seed)?,
            tiers: first.tiers,
            categories: first.categories,
            scoring_version: evidence.reference.manifest.scoring_version,
        })
    }

    /// Counts the candidate's training seeds; several runs of one adapter count once.
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
struct PairedRun<'a> {
    policy: &'a Policy,
    council: &'a Council,
    against: Reference,
    cases: Vec<PairedCase<'a>>,
    tiers: Vec<Comparison<Tier>>,
    categories: Vec<Comparison<CategoryId>>,
}

impl<'a> PairedRun<'a> {
    fn new(policy: &'a Policy, candidate: &ExamRun, evidence: &Evidence<'a>) -> Result<Self> {
        let Evidence { reference, against, .. } = *evidence;
        let council = &reference.manifest.council;
        let cases = pairs::pairs(candidate, reference, policy.overlap)?;
        let (resamples, seed) = (policy.resamples, policy.seed);
        let tiers = compare(grouped(&cases, |c| c.tier), resamples, seed)?;
        let categories = compare(by_category(&cases, council), resamples, seed)?;
        Ok(PairedRun { policy, council, against, cases, tiers, categories })
    }

    fn held_out(&self) -> Result<RuleVerdict> {
        let held_out = self.tiers.iter().find(|row| row.of == Tier::HeldOut);
        let seen = held_out.ok_or_else(|| none_of("held-out cases"))?.bootstrap;
        Ok(at_least("held_out", self.policy.held_out, seen.better, |_| {
            format!(
                "Better on held-out cases ({:+.3}) with probability {:.3}; {} of {} cases tie.",
                seen.difference, seen.better, seen.ties, seen.cases
            )
        }))
    }

    fn categories(&self) -> Result<Vec<RuleVerdict>> {
        let enough = |row: &&Comparison<_>| row.bootstrap.cases >= self.policy.agents.min_cases;
        let judged: Vec<_> = self.categories.iter().filter(enough).collect();
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
        let floors = &self.policy.floors;
        let mut rules = Vec::new();
        for (category, pairs) in by_category(&self.cases, self.council) {
            if !floors.categories.contains(&category) {
                continue;
            }
            let (candidate, reference) = means(&pairs)?;
            let floor = lower_end(reference, &pairs, floors.confidence)?;
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
        for (agent, pairs) in by_agent(&self.cases, self.council) {
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

/// The pairs by category, in the council's order.
fn by_category(cases: &[PairedCase<'_>], council: &Council) -> Vec<(CategoryId, Vec<Pair>)> {
    let groups = grouped(cases, |case| council.category_key(case.category));
    groups.into_iter().map(|((_, id), pairs)| (id.clone(), pairs)).collect()
}

/// The pairs by agent, in the council's order.
fn by_agent(cases: &[PairedCase<'_>], council: &Council) -> Vec<(AgentId, Vec<Pair>)> {
    let groups = grouped(cases, |case| council.agent_key(case.agent));
    groups.into_iter().map(|((_, id), pairs)| (id.clone(), pairs)).collect()
}

fn effective(pairs: &[Pair]) -> f64 {
    stats::effective_cases(&pairs.iter().map(|p| p.weight).collect::<Vec<_>>())
}

fn lower_end(score: f64, pairs: &[Pair], confidence: f64) -> Result<f64> {
    // A weighted mean of scores that are all 1 can exceed 1 by a rounding error.
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

fn none_of(what: &'static str) -> Error {
    Error::Incomparable { what, expected: "at least one".into(), found: "none".into() }
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
