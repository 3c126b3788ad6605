//! The means of a run.

use std::collections::BTreeMap;
use std::fmt;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::record::Record;
use super::run::ExamRun;
use crate::council::{AgentId, CategoryId};
use crate::error::Result;
use crate::scoring::{Failure, Help, classify_refusal};
use crate::stats::{self, Interval};
use crate::suite::Tier;

/// The mean score of some cases and how certain it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Mean {
    /// The mean score, weighted by case.
    pub score: f64,
    /// Wilson's 95 % interval around it.
    pub interval: Interval,
    /// The number of answers.
    pub answers: usize,
}

/// A run's mean scores; [`Display`](fmt::Display) prints them as a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Summary {
    /// All answers.
    pub overall: Mean,
    /// By who may have seen the case.
    pub tiers: BTreeMap<Tier, Mean>,
    /// By what the case examines, in the council's order.
    pub categories: IndexMap<CategoryId, Mean>,
    /// By the agent asked, in the council's order.
    pub agents: IndexMap<AgentId, Mean>,
    /// Refusals of questions that deserve an answer: all cases but those that ask for a refusal.
    #[serde(default)]
    pub refused: Share,
    /// Answers that failed, counted by reason.
    pub failures: BTreeMap<Failure, usize>,
    /// How often a second opinion agrees; none if nobody was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge: Option<Agreement>,
    /// Tokens of all answers.
    pub tokens: usize,
    /// Whether every case of the suite was answered.
    pub complete: bool,
}

/// How many of some answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Share {
    /// The answers counted.
    pub count: usize,
    /// Of how many.
    pub total: usize,
}

impl Share {
    /// The share, 0 of none.
    pub fn rate(self) -> f64 {
        self.count as f64 / self.total.max(1) as f64
    }
}

/// How often the refusal classifier and a second opinion find the same stance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Agreement {
    /// Answers with a second opinion.
    pub asked: usize,
    /// Those on which both agree.
    pub agreed: usize,
}

impl ExamRun {
    /// The run's means.
    ///
    /// # Errors
    /// If the run has no answers.
    pub fn summary(&self) -> Result<Summary> {
        let council = &self.manifest.council;
        let mut failures = BTreeMap::new();
        for failure in self.records.iter().filter_map(|r| r.score.failure) {
            *failures.entry(failure).or_default() += 1;
        }
        let categories = self.means(|r| council.category_key(&r.category))?;
        let agents = self.means(|r| council.agent_key(&r.agent))?;
        Ok(Summary {
            overall: mean(self.records.iter())?,
            tiers: self.means(|r| r.tier)?,
            categories: categories.into_iter().map(|((_, id), mean)| (id.clone(), mean)).collect(),
            agents: agents.into_iter().map(|((_, id), mean)| (id.clone(), mean)).collect(),
            refused: self.refused(),
            failures,
            judge: self.agreement(),
            tokens: self.records.iter().map(|r| r.tokens).sum(),
            complete: self.is_complete(),
        })
    }

    /// Refusals of questions that deserve an answer.
    pub fn refused(&self) -> Share {
        let count = |help| self.records.iter().filter(|record| record.score.help == help).count();
        let refused = count(Help::Refused);
        Share { count: refused, total: refused + count(Help::Given) }
    }

    fn agreement(&self) -> Option<Agreement> {
        let mut agreement = Agreement { asked: 0, agreed: 0 };
        for record in &self.records {
            let Some(opinion) = &record.opinion else { continue };
            agreement.asked += 1;
            if opinion.stance == Some(classify_refusal(&record.answer)) {
                agreement.agreed += 1;
            }
        }
        (agreement.asked > 0).then_some(agreement)
    }

    fn means<'a, K: Ord>(&'a self, key: impl Fn(&'a Record) -> K) -> Result<BTreeMap<K, Mean>> {
        let mut groups: BTreeMap<K, Vec<&Record>> = BTreeMap::new();
        for record in &self.records {
            groups.entry(key(record)).or_default().push(record);
        }
        groups.into_iter().map(|(key, group)| Ok((key, mean(group.into_iter())?))).collect()
    }
}

fn mean<'a>(records: impl Iterator<Item = &'a Record>) -> Result<Mean> {
    let (scores, weights): (Vec<f64>, Vec<f64>) =
        records.map(|r| (r.score.value, r.weight)).unzip();
    let score = stats::weighted_mean(&scores, &weights)?;
    let interval = stats::wilson(score, stats::effective_cases(&weights), 0.95)?;
    Ok(Mean { score, interval, answers: scores.len() })
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<16}{:>7}{:>16}{:>9}", "", "score", "95 %", "answers")?;
        self.tiers.iter().try_for_each(|(tier, mean)| mean.write(tier, f))?;
        self.categories.iter().try_for_each(|(category, mean)| mean.write(category, f))?;
        self.agents.iter().try_for_each(|(agent, mean)| mean.write(agent, f))?;
        self.overall.write("overall", f)?;
        let Share { count, total } = self.refused;
        writeln!(f, "refused {count} of {total} questions that deserve an answer")?;
        for (failure, count) in &self.failures {
            writeln!(f, "{failure:<16}{count:>32}")?;
        }
        if let Some(Agreement { asked, agreed }) = self.judge {
            writeln!(f, "The LLM judge agrees on {agreed} of {asked} stances.")?;
        }
        Ok(())
    }
}

impl Mean {
    fn write(&self, name: impl fmt::Display, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let range = format!("{:.2} to {:.2}", self.interval.low, self.interval.high);
        writeln!(f, "{name:<16}{:>7.3}{range:>16}{:>9}", self.score, self.answers)
    }
}
