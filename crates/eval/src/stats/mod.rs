//! The statistics behind a verdict.
//!
//! Two runs answer the same cases, so all comparisons are *paired*: they use each case's difference rather than the two
//! means. Functions return an error for empty samples, NaN and lengths that differ.
//!
//! ```
//! use eval::stats::{Draws, sign_flip};
//!
//! // The score differences of six clusters of cases; one of them ties.
//! let test = sign_flip(&[1.0, 0.0, 0.5, 1.0, 2.0, -0.5], Draws::default())?;
//! // 3 of the 32 ways to sign the five others sum to 4 or more.
//! assert_eq!((test.p, test.clusters, test.exact), (3.0 / 32.0, 5, true));
//! # Ok::<(), eval::Error>(())
//! ```

mod paired;
mod sign_flip;

pub use paired::{Clustered, PairedCounts, clustered_difference, mcnemar_exact, newcombe_paired};
pub use sign_flip::{Draws, SignFlip, sign_flip};

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

use crate::error::{Error, Result};

/// A closed interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// The weighted mean; every weight must be positive.
pub fn weighted_mean(values: &[f64], weights: &[f64]) -> Result<f64> {
    if values.is_empty() || values.len() != weights.len() {
        let found = format!("{} values, {} weights", values.len(), weights.len());
        return Err(refuse("values", "as many weights as values, at least one", found));
    }
    if let Some(value) = values.iter().find(|v| !v.is_finite()) {
        return Err(refuse("values", "finite numbers", value.to_string()));
    }
    if let Some(weight) = weights.iter().find(|w| !(w.is_finite() && **w > 0.0)) {
        return Err(refuse("weights", "positive finite numbers", weight.to_string()));
    }
    let sum: f64 = values.iter().zip(weights).map(|(v, w)| v * w).sum();
    Ok(sum / weights.iter().sum::<f64>())
}

/// Wilson's score interval of a proportion (Wilson 1927).
///
/// `rate` may be a mean of scores in [0, 1]: their variance is at most that of a binary score with the same mean, so the
/// interval is then conservative. `cases` may be a number of [effective cases](effective_cases).
pub fn wilson(rate: f64, cases: f64, confidence: f64) -> Result<Interval> {
    if !(0.0..=1.0).contains(&rate) {
        return Err(refuse("rate", "a number in [0, 1]", rate.to_string()));
    }
    if !(cases.is_finite() && cases > 0.0) {
        return Err(refuse("cases", "a positive number", cases.to_string()));
    }
    let z = normal_quantile(0.5 + in_unit("confidence", confidence)? / 2.0);
    let z2 = z * z;
    let centre = rate + z2 / (2.0 * cases);
    let half = z * (rate * (1.0 - rate) / cases + z2 / (4.0 * cases * cases)).sqrt();
    let scale = 1.0 + z2 / cases;
    let end = |x: f64| (x / scale).clamp(0.0, 1.0);
    // At rates 0 and 1 the end is exact; with a rounding error, a score of 0 could fail a floor of 0.
    let low = if rate == 0.0 { 0.0 } else { end(centre - half) };
    let high = if rate == 1.0 { 1.0 } else { end(centre + half) };
    Ok(Interval { low, high })
}

/// P-values adjusted for their number (Benjamini and Hochberg 1995): rejecting those at or below a level keeps the expected
/// share of false rejections at or below that level.
pub fn benjamini_hochberg(p_values: &[f64]) -> Result<Vec<f64>> {
    if let Some(p) = p_values.iter().find(|p| !(0.0..=1.0).contains(*p)) {
        return Err(refuse("p_values", "numbers in [0, 1]", p.to_string()));
    }
    let mut order: Vec<(usize, f64)> = p_values.iter().copied().enumerate().collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut adjusted = vec![0.0; p_values.len()];
    let mut least = 1.0_f64;
    for (down, (i, p)) in order.into_iter().enumerate() {
        let rank = p_values.len() - down;
        least = least.min(p * p_values.len() as f64 / rank as f64);
        if let Some(slot) = adjusted.get_mut(i) {
            *slot = least;
        }
    }
    Ok(adjusted)
}

/// Shrinks a mean towards a prior, as if `strength` further cases had scored the prior.
pub fn shrink(mean: f64, cases: f64, prior: f64, strength: f64) -> f64 {
    (mean * cases + prior * strength) / (cases + strength)
}

/// The effective sample size of weighted cases (Kish): `(sum w)^2 / sum w^2`.
pub fn effective_cases(weights: &[f64]) -> f64 {
    let sum: f64 = weights.iter().sum();
    let squares: f64 = weights.iter().map(|w| w * w).sum();
    if squares > 0.0 { sum * sum / squares } else { 0.0 }
}

pub(crate) fn in_unit(what: &'static str, share: f64) -> Result<f64> {
    let inside = share > 0.0 && share < 1.0;
    inside.then_some(share).ok_or_else(|| refuse(what, "a number in (0, 1)", share.to_string()))
}

/// The quantile of the standard normal distribution.
pub(crate) fn normal_quantile(p: f64) -> f64 {
    Normal::standard().inverse_cdf(p)
}

pub(crate) fn refuse(what: &'static str, expected: &'static str, found: String) -> Error {
    Error::Statistic { what, expected, found }
}
