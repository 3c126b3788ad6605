//! The gate's decision and the numbers behind it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::council::{AgentId, CategoryId};
use crate::stats::Interval;
use crate::suite::Tier;

/// Whether the candidate replaces the champion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// Every rule passes.
    Promote,
    /// At least one rule fails.
    Refuse,
}

/// What the candidate was compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reference {
    /// The model that is served now.
    Champion,
    /// The base model, while there is no champion.
    Base,
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Reference::Champion => "champion",
            Reference::Base => "base",
        })
    }
}

/// On which side of its threshold a value passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// The value must reach the threshold.
    #[default]
    AtLeast,
    /// The value must not exceed the threshold.
    AtMost,
}

/// The result of one rule of the policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RuleVerdict {
    /// The rule, such as `held_out` or `floor.jailbreak`.
    pub rule: String,
    /// On which side of the threshold the value passes.
    #[serde(default)]
    pub limit: Limit,
    /// The last value that passes.
    pub threshold: f64,
    /// The value found.
    pub value: f64,
    /// Whether it passes.
    pub passed: bool,
    /// The result in a sentence.
    pub sentence: String,
}

impl RuleVerdict {
    /// A rule whose value must reach a threshold.
    pub(super) fn at_least(
        rule: impl Into<String>,
        threshold: f64,
        value: f64,
        sentence: String,
    ) -> Self {
        let passed = value >= threshold;
        RuleVerdict { rule: rule.into(), limit: Limit::AtLeast, threshold, value, passed, sentence }
    }

    /// A rule whose value must not exceed a threshold.
    pub(super) fn at_most(
        rule: impl Into<String>,
        threshold: f64,
        value: f64,
        sentence: String,
    ) -> Self {
        let passed = value <= threshold;
        RuleVerdict { rule: rule.into(), limit: Limit::AtMost, threshold, value, passed, sentence }
    }

    /// The threshold with its side, such as `<= 0.005`.
    pub fn needs(&self) -> String {
        let sign = match self.limit {
            Limit::AtLeast => ">=",
            Limit::AtMost => "<=",
        };
        format!("{sign} {}", figure(self.threshold))
    }

    /// The value, rounded.
    pub fn has(&self) -> String {
        figure(self.value)
    }
}

/// A number with three decimals, or with more if it is small: a p-value of 0.0004 must not print as 0.000.
pub fn figure(value: f64) -> String {
    match value.abs() {
        count if count >= 2.0 && count.fract() == 0.0 => format!("{value}"),
        small if small > 0.0 && small < 1e-4 => format!("{value:.1e}"),
        small if small > 0.0 && small < 0.01 => format!("{value:.4}"),
        _ => format!("{value:.3}"),
    }
}

/// The comparison on a group of cases.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Comparison<K> {
    /// The group: an exam, tier, category or agent.
    pub of: K,
    /// The candidate's mean score.
    pub candidate: f64,
    /// The reference's mean score.
    pub reference: f64,
    /// Candidate minus reference.
    pub difference: f64,
    /// The 95 % interval of the difference, by cluster-robust standard errors.
    pub interval: Interval,
    /// The number of cases.
    pub cases: usize,
    /// The number of cases with a higher score than the reference's.
    pub better: usize,
    /// The number of cases with a lower score.
    pub worse: usize,
}

/// The gate's decision and every number behind it; [`Display`](fmt::Display) prints it as a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Verdict {
    /// Whether the candidate replaces the champion.
    pub decision: Decision,
    /// Why, in one sentence.
    pub reason: String,
    /// What the candidate was compared with.
    pub reference: Reference,
    /// The result of every rule.
    pub rules: Vec<RuleVerdict>,
    /// Cases compared, of the standing exam and of the fresh one if it was taken.
    pub cases: usize,
    /// The minimum detectable difference (80 % power) of the exam that decides: the fresh one, or the held-out cases of
    /// the standing one. None with fewer than two clusters.
    pub detectable: Option<f64>,
    /// What the policy promises over a year of nights.
    #[serde(default)]
    pub promise: String,
    /// The standing exam by tier.
    pub tiers: Vec<Comparison<Tier>>,
    /// The same by category.
    pub categories: Vec<Comparison<CategoryId>>,
    /// The same by agent.
    pub agents: Vec<Comparison<AgentId>>,
    /// The fresh exam by category; empty if it was not taken.
    #[serde(default)]
    pub fresh: Vec<Comparison<CategoryId>>,
    /// The scoring version of all runs.
    pub scoring_version: u32,
}

impl Verdict {
    /// Whether the candidate replaces the champion.
    pub fn promotes(&self) -> bool {
        self.decision == Decision::Promote
    }

    /// The refusal of a candidate that was not examined to the end: what it has answered proves nothing. `sentence` says
    /// how far it came, as the one rule, `evidence`, that fails.
    pub fn without_evidence(reference: Reference, scoring_version: u32, sentence: String) -> Self {
        Verdict {
            decision: Decision::Refuse,
            reason: format!("there is not enough evidence: {sentence}"),
            reference,
            rules: vec![RuleVerdict::at_least("evidence", 1.0, 0.0, sentence)],
            cases: 0,
            detectable: None,
            promise: String::new(),
            tiers: Vec::new(),
            categories: Vec::new(),
            agents: Vec::new(),
            fresh: Vec::new(),
            scoring_version,
        }
    }

    /// The rules that fail.
    pub fn failed(&self) -> impl Iterator<Item = &RuleVerdict> {
        self.rules.iter().filter(|rule| !rule.passed)
    }

    /// Whether the candidate passes everything but a fresh exam that it has not taken yet.
    pub fn awaits_fresh_exam(&self) -> bool {
        self.fresh.is_empty()
            && !self.promotes()
            && self.failed().all(|rule| rule.rule == super::FRESH_EXAM)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.promotes() { "PROMOTE" } else { "REFUSE" };
        writeln!(f, "{word}: {}\n", self.reason)?;
        writeln!(f, "{:<7}{:<26}{:>11}{:>9}  ", "", "rule", "needs", "has")?;
        for rule in &self.rules {
            let mark = if rule.passed { "ok" } else { "FAILED" };
            let figures = format!("{:>11}{:>9}", rule.needs(), rule.has());
            writeln!(f, "{mark:<6} {:<26}{figures}  {}", rule.rule, rule.sentence)?;
        }
        self.heading(f, "standing exam")?;
        self.tiers.iter().try_for_each(|row| row.write(f))?;
        self.categories.iter().try_for_each(|row| row.write(f))?;
        self.agents.iter().try_for_each(|row| row.write(f))?;
        if !self.fresh.is_empty() {
            self.heading(f, "fresh exam")?;
            self.fresh.iter().try_for_each(|row| row.write(f))?;
        }
        if let Some(difference) = self.detectable {
            writeln!(f, "\nMinimum detectable difference (80 % power): {difference:+.3}.")?;
        }
        writeln!(f, "{}", self.promise)
    }
}

impl Verdict {
    fn heading(&self, f: &mut fmt::Formatter<'_>, exam: &str) -> fmt::Result {
        writeln!(
            f,
            "\n{exam:<22}{:>10}{:>10}{:>8}{:>18}{:>7}{:>8}{:>7}",
            "candidate", self.reference, "diff", "95 %", "cases", "better", "worse"
        )
    }
}

impl<K: fmt::Display> Comparison<K> {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Comparison { candidate, reference, difference, cases, better, worse, .. } = self;
        let interval = format!("{:+.3} to {:+.3}", self.interval.low, self.interval.high);
        let scores = format!("{candidate:>10.3}{reference:>10.3}{difference:>+8.3}{interval:>18}");
        writeln!(f, "{:<22}{scores}{cases:>7}{better:>8}{worse:>7}", self.of)
    }
}
