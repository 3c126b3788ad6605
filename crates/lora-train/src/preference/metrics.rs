//! What an update or a validation says about its pairs.

use serde::{Deserialize, Serialize};

use super::{Answer, Objective};

/// Means over pairs.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PreferenceMetrics {
    /// Pairs.
    pub pairs: u64,
    /// Share of pairs whose chosen answer has the higher reward.
    pub accuracy: f64,
    /// Reward of the chosen answer minus that of the rejected one.
    pub margin: f64,
    /// Log-probability of the chosen answer: the sum over its tokens.
    pub chosen_logp: f64,
    /// Log-probability of the rejected answer.
    pub rejected_logp: f64,
    /// Negative log-likelihood per token of the chosen answers.
    pub nll: f64,
    /// Log-probability of the chosen answer minus that of the reference model; absent for a loss without
    /// a reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen_change: Option<f64>,
    /// The estimate of the divergence from the reference model that KTO compares with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<f64>,
}

impl PreferenceMetrics {
    /// The mean of several, weighted by their pairs; `None` without a pair.
    pub fn mean(all: &[Self]) -> Option<Self> {
        let pairs: u64 = all.iter().map(|metrics| metrics.pairs).sum();
        let sum = |of: &dyn Fn(&Self) -> Option<f64>| -> Option<f64> {
            all.iter().map(|metrics| Some(of(metrics)? * metrics.pairs as f64)).sum()
        };
        let optional = |of: &dyn Fn(&Self) -> Option<f64>| Some(sum(of)? / pairs as f64);
        let mean = |of: fn(&Self) -> f64| optional(&|metrics| Some(of(metrics)));
        (pairs > 0).then_some(())?;
        Some(Self {
            pairs,
            accuracy: mean(|metrics| metrics.accuracy)?,
            margin: mean(|metrics| metrics.margin)?,
            chosen_logp: mean(|metrics| metrics.chosen_logp)?,
            rejected_logp: mean(|metrics| metrics.rejected_logp)?,
            nll: mean(|metrics| metrics.nll)?,
            chosen_change: optional(&|metrics| metrics.chosen_change),
            baseline: optional(&|metrics| metrics.baseline),
        })
    }

    /// The fall of the chosen answers' log-probability that is worth a warning: `exp(-1)` is about a
    /// third of their probability under the reference model.
    pub const NOTABLE_FALL: f64 = -1.0;

    /// Whether training has made the chosen answers notably less likely than the reference model does.
    /// A preference loss falls even then, if the rejected answers' likelihood falls more.
    pub fn chosen_falls(&self) -> bool {
        self.chosen_change.is_some_and(|change| change < Self::NOTABLE_FALL)
    }
}

impl Objective {
    /// The mean loss over `pairs` of a chosen and a rejected answer, and what else is known of them.
    pub fn summary(&self, pairs: &[[Answer; 2]]) -> (f64, PreferenceMetrics) {
        let count = pairs.len().max(1) as f64;
        let mean = |of: &dyn Fn(Answer, Answer) -> f64| {
            pairs.iter().map(|&[chosen, rejected]| of(chosen, rejected)).sum::<f64>() / count
        };
        let margin = |chosen, rejected| self.reward(chosen) - self.reward(rejected);
        let tokens: usize = pairs.iter().map(|[chosen, _]| chosen.tokens).sum();
        let nll = -pairs.iter().map(|[chosen, _]| chosen.sum).sum::<f64>() / tokens.max(1) as f64;
        let loss = mean(&|chosen, rejected| self.pair(chosen, rejected).loss) + self.nll() * nll;
        let metrics = PreferenceMetrics {
            pairs: pairs.len() as u64,
            accuracy: mean(&|a, b| f64::from(u8::from(margin(a, b) > 0.0))),
            margin: mean(&margin),
            chosen_logp: mean(&|chosen, _| chosen.sum),
            rejected_logp: mean(&|_, rejected| rejected.sum),
            nll,
            chosen_change: self
                .needs_reference()
                .then(|| mean(&|chosen, _| chosen.sum - chosen.reference)),
            baseline: self.baseline(),
        };
        (loss, metrics)
    }
}

#[cfg(test)]
mod tests {
    use super::PreferenceMetrics;

    #[test]
    fn a_mean_is_weighted_by_pairs() {
        let of = |pairs, accuracy, chosen_change| PreferenceMetrics {
            pairs,
            accuracy,
            chosen_change,
            ..PreferenceMetrics::default()
        };
        let mean = PreferenceMetrics::mean(&[of(3, 1.0, Some(-2.0)), of(1, 0.0, Some(2.0))]);
        assert_eq!(mean, Some(of(4, 0.75, Some(-1.0))));
        assert_eq!(PreferenceMetrics::mean(&[of(2, 0.5, None)]), Some(of(2, 0.5, None)));
        assert_eq!(PreferenceMetrics::mean(&[]), None);
        assert_eq!(PreferenceMetrics::mean(&[of(0, 0.0, None)]), None);
    }
}
