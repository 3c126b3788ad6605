//! The gate's decision and the numbers behind it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::council::{AgentId, CategoryId};
use crate::stats::Bootstrap;
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

/// The result of one rule of the policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RuleVerdict {
    /// The rule, such as `held_out` or `floor.jailbreak`.
    pub rule: String,
    /// The smallest value that passes.
    pub threshold: f64,
    /// The value found.
    pub value: f64,
    /// Whether it passes.
    pub passed: bool,
    /// The result in a sentence.
    pub sentence: String,
}

/// The comparison on a group of cases.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Comparison<K> {
    /// The group: a tier, category or agent.
    pub of: K,
    /// The candidate's mean score.
    pub candidate: f64,
    /// The reference's mean score.
    pub reference: f64,
    /// The paired bootstrap over the group.
    pub bootstrap: Bootstrap,
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
    /// Cases compared.
    pub cases: usize,
    /// The minimum detectable held-out difference (80 % power); none with fewer than two held-out cases.
    pub detectable: Option<f64>,
    /// The first candidate run against the reference, by tier.
    pub tiers: Vec<Comparison<Tier>>,
    /// The same by category.
    pub categories: Vec<Comparison<CategoryId>>,
    /// The same by agent.
    pub agents: Vec<Comparison<AgentId>>,
    /// The scoring version of all runs.
    pub scoring_version: u32,
}

impl Verdict {
    /// Whether the candidate replaces the champion.
    pub fn promotes(&self) -> bool {
        self.decision == Decision::Promote
    }

    /// The rules that fail.
    pub fn failed(&self) -> impl Iterator<Item = &RuleVerdict> {
        self.rules.iter().filter(|rule| !rule.passed)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.promotes() { "PROMOTE" } else { "REFUSE" };
        writeln!(f, "{word}: {}\n", self.reason)?;
        writeln!(f, "{:<6}{:<22}{:>9}{:>9}  ", "", "rule", "needs", "has")?;
        for rule in &self.rules {
            let mark = if rule.passed { "ok" } else { "FAILED" };
            let figures = format!("{:>9.3}{:>9.3}", rule.threshold, rule.value);
            writeln!(f, "{mark:<6} {:<21}{figures}  {}", rule.rule, rule.sentence)?;
        }
        writeln!(
            f,
            "\n{:<22}{:>10}{:>10}{:>8}{:>11}{:>6}{:>6}",
            "scores", "candidate", self.reference, "diff", "P(better)", "cases", "ties"
        )?;
        self.tiers.iter().try_for_each(|row| row.write(f))?;
        self.categories.iter().try_for_each(|row| row.write(f))?;
        self.agents.iter().try_for_each(|row| row.write(f))?;
        if let Some(difference) = self.detectable {
            writeln!(
                f,
                "\nMinimum detectable held-out difference (80 % power): {difference:+.3}."
            )?;
        }
        Ok(())
    }
}

impl<K: fmt::Display> Comparison<K> {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Bootstrap { cases, ties, difference, better, .. } = self.bootstrap;
        let scores = format!("{:>10.3}{:>10.3}{difference:>+8.3}", self.candidate, self.reference);
        writeln!(f, "{:<22}{scores}{better:>11.3}{cases:>6}{ties:>6}", self.of)
    }
}
