//! Forgetting: what a candidate has lost of what its base model could do.
//!
//! Two measures. Of the everyday questions (the council's [retained](crate::Category::retained) categories), how many that the
//! base answers right the candidate answers wrong, and the reverse. And how far the candidate's predictions have moved from
//! the base's, token by token, on the base's own answers to neutral prompts ([`Drift`]). The second needs few prompts to be
//! exact, but a model may move without becoming worse; the first counts what people notice, but with an error of some percent.

use std::collections::BTreeMap;

use durable::Digest;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::council::Council;
use crate::error::{Error, Result};
use crate::exam::ExamRun;
use crate::stats::{self, PairedCounts};

/// The rules about forgetting, a part of a [`Policy`](crate::Policy).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ForgettingPolicy {
    /// The largest loss on balance (questions lost minus questions gained), as a share of the questions that the base model
    /// answers right. Default 0.03.
    pub loss: f64,
    /// The one-sided confidence of the bound that is compared with `loss`. Default 0.5, the loss that was found itself: with
    /// 0.95, a loss of at most 3 % takes more than 100 questions that the base answers right and none of them lost.
    pub confidence: f64,
    /// The highest mean KL divergence per token from the base, in nats, that any model may have. Default 0.25.
    pub kl: f64,
    /// How much higher than the champion's the candidate's divergence may be. Default 0.05.
    pub kl_step: f64,
}

impl Default for ForgettingPolicy {
    fn default() -> Self {
        ForgettingPolicy { loss: 0.03, confidence: 0.5, kl: 0.25, kl_step: 0.05 }
    }
}

impl ForgettingPolicy {
    /// Refuses figures out of their range, NaN included.
    ///
    /// # Errors
    /// The first figure that is out of its range.
    pub fn check(&self) -> Result<()> {
        let refuse = |field, expected: &str, found: f64| {
            Err(Error::Policy { field, problem: format!("expected {expected}, found {found}") })
        };
        let Self { loss, confidence, kl, kl_step } = *self;
        if !(0.0..1.0).contains(&loss) {
            return refuse("forgetting.loss", "a share from 0 to less than 1", loss);
        }
        if !(0.5..1.0).contains(&confidence) {
            return refuse("forgetting.confidence", "from 0.5 to less than 1", confidence);
        }
        for (field, value) in [("forgetting.kl", kl), ("forgetting.kl_step", kl_step)] {
            if !(value.is_finite() && value >= 0.0) {
                return refuse(field, "a number of at least 0", value);
            }
        }
        Ok(())
    }

    /// The highest divergence that passes: `kl_step` above the champion's, and never above `kl`.
    pub(crate) fn kl_ceiling(&self, champion: Option<&Drift>) -> f64 {
        champion.map_or(self.kl, |champion| self.kl.min(champion.kl + self.kl_step))
    }
}

/// How far a model's predictions have moved from the base's on the base's own answers to neutral prompts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drift {
    /// Answers compared.
    pub answers: usize,
    /// Tokens of these answers.
    pub tokens: usize,
    /// The mean of `KL(base || model)` per token, in nats.
    pub kl: f64,
    /// The model's perplexity of the answers, divided by the base's.
    pub perplexity_ratio: f64,
}

impl Drift {
    /// The figures in words, beside the champion's.
    pub(crate) fn sentence(&self, champion: Option<&Drift>) -> String {
        let Drift { answers, tokens, kl, perplexity_ratio } = self;
        let champion =
            champion.map_or(String::new(), |it| format!("; the champion's is {:.3}", it.kl));
        format!(
            "On the base's own answers to {answers} neutral prompts ({tokens} tokens) the candidate's mean KL divergence is \
             {kl:.3} nats a token, its perplexity {perplexity_ratio:.2} times the base's{champion}."
        )
    }
}

/// The everyday questions that the base answers right, and what a model makes of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// Questions asked.
    pub asked: usize,
    /// Of these, answered right by the base.
    pub known: usize,
    /// Of the known, answered right by the model.
    pub kept: usize,
    /// Of those that the base does not know, answered right by the model.
    pub gained: usize,
}

impl Known {
    /// Compares two runs on the questions of the base's retained categories that both were asked. A question is answered
    /// right if its answers score 1 with every seed.
    pub fn of(base: &ExamRun, model: &ExamRun) -> Known {
        let council = &base.manifest.council;
        let model = answered_right(model, council);
        let pairs = answered_right(base, council).into_iter();
        Known::of_pairs(pairs.filter_map(|(question, was)| Some((was, *model.get(&question)?))))
    }

    /// Counts pairs: whether the base's answer is right, whether the model's is.
    pub(crate) fn of_pairs(pairs: impl Iterator<Item = (bool, bool)>) -> Known {
        let counts = PairedCounts::of(pairs);
        Known {
            asked: counts.cases(),
            known: counts.passed().0,
            kept: counts.both,
            gained: counts.second_only,
        }
    }

    /// The counts in words, beside the champion's.
    pub(crate) fn sentence(&self, champion: Option<Known>) -> Result<String> {
        let Known { asked, known, kept, gained } = *self;
        let champion = champion.map_or(String::new(), |it| format!("; the champion {}", it.kept));
        Ok(format!(
            "Of {known} everyday questions that the base answers right (of {asked}) the candidate still answers {kept} \
             ({:.1} %){champion}; it gains {gained}. It has lost {:.1} % on balance (95 % sure: at most {:.1} %).",
            100.0 * kept as f64 / known as f64,
            100.0 * (self.lost() as f64 - gained as f64) / known as f64,
            100.0 * self.loss_bound(0.95)?,
        ))
    }

    /// Known questions that the model answers wrong.
    pub fn lost(&self) -> usize {
        self.known - self.kept
    }

    /// Lost minus gained questions, as a share of the known ones: its upper bound with this one-sided confidence.
    ///
    /// Wald's interval of a paired difference with 0.5 added to each cell (Agresti and Min 2005, Statistics in Medicine
    /// 24:729), scaled by the share of known questions.
    ///
    /// # Errors
    /// If no question is known, or the confidence is not between 0 and 1.
    pub fn loss_bound(&self, confidence: f64) -> Result<f64> {
        if self.known == 0 {
            return Err(Error::Statistic {
                what: "known questions",
                expected: "at least one",
                found: "0".into(),
            });
        }
        let (lost, gained) = (self.lost() as f64, self.gained as f64);
        let z = stats::normal_quantile(stats::in_unit("confidence", confidence)?);
        let cases = self.asked as f64 + 2.0;
        let (b, c) = (lost + 0.5, gained + 0.5);
        let spread = (b + c - (b - c) * (b - c) / cases).max(0.0).sqrt();
        // More than all cannot be lost.
        Ok(((lost - gained + z * spread) / self.known as f64).min(1.0))
    }
}

/// Whether each question of the council's retained categories is answered right with every seed.
fn answered_right<'r>(run: &'r ExamRun, council: &Council) -> BTreeMap<(&'r str, Digest), bool> {
    let mut right = BTreeMap::new();
    for record in run.records.iter().filter(|record| council.retains(&record.category)) {
        let all = right.entry((record.case.as_str(), record.prompt)).or_insert(true);
        *all &= record.score.value > 1.0 - 1e-9;
    }
    right
}
