//! The statistics behind a verdict.
//!
//! Two runs answer the same cases, so all comparisons are *paired*: they use each case's difference rather than the two
//! means. Functions return an error for empty samples, NaN and lengths that differ.
//!
//! ```
//! use eval::stats::{Pair, paired_bootstrap};
//!
//! let pairs: Vec<Pair> = [(1.0, 0.0), (1.0, 1.0), (0.5, 0.0), (1.0, 0.0), (0.0, 0.0)]
//!     .map(|(candidate, reference)| Pair { candidate, reference, weight: 1.0 })
//!     .to_vec();
//! let seen = paired_bootstrap(&pairs, 20_000, 42)?;
//! assert_eq!(seen.difference, 0.5);
//! assert!(seen.better > 0.97 && seen.worse == 0.0);
//! # Ok::<(), eval::Error>(())
//! ```

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

use crate::error::{Error, Result};

/// One case's two scores and its weight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// The candidate's score.
    pub candidate: f64,
    /// The reference's score.
    pub reference: f64,
    /// The case's weight in every mean; positive.
    pub weight: f64,
}

/// A closed interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// The result of a paired bootstrap.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Bootstrap {
    /// The number of cases.
    pub cases: usize,
    /// The number of cases with equal scores.
    pub ties: usize,
    /// The candidate's weighted mean minus the reference's.
    pub difference: f64,
    /// The share of resamples in which the candidate's mean is higher; equal means do not count.
    pub better: f64,
    /// The share of resamples in which the candidate's mean is lower.
    pub worse: f64,
    /// The middle 95 % of the resampled differences.
    pub interval: Interval,
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

/// Paired bootstrap (Efron 1979): resamples the cases with replacement `resamples` times and counts how often the
/// candidate's weighted mean is above or below the reference's. The same seed gives the same counts on every machine.
pub fn paired_bootstrap(pairs: &[Pair], resamples: usize, seed: u64) -> Result<Bootstrap> {
    if resamples == 0 {
        return Err(refuse("resamples", "at least one", "0".into()));
    }
    let weights: Vec<f64> = pairs.iter().map(|p| p.weight).collect();
    let differences: Vec<f64> = pairs.iter().map(|p| p.candidate - p.reference).collect();
    let difference = weighted_mean(&differences, &weights)?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut means: Vec<f64> =
        (0..resamples).map(|_| resampled_mean(&differences, &weights, &mut rng)).collect();
    // Differences that cancel rarely sum to an exact zero in floating point.
    let tiny = 1e-12;
    let share = |count: usize| count as f64 / resamples as f64;
    let better = share(means.iter().filter(|m| **m > tiny).count());
    let worse = share(means.iter().filter(|m| **m < -tiny).count());
    means.sort_by(f64::total_cmp);
    let interval = Interval { low: quantile(&means, 0.025), high: quantile(&means, 0.975) };
    let ties = differences.iter().filter(|d| d.abs() <= tiny).count();
    Ok(Bootstrap { cases: pairs.len(), ties, difference, better, worse, interval })
}

fn resampled_mean(values: &[f64], weights: &[f64], rng: &mut ChaCha8Rng) -> f64 {
    let (mut sum, mut total) = (0.0, 0.0);
    for _ in values {
        // The high half of a 32-bit draw times n is uniform to within n / 2^32. Unlike a library's range sampler, it
        // cannot change between versions.
        let drawn = (u64::from(rng.next_u32()) * values.len() as u64) >> 32;
        let drawn = drawn as usize;
        if let (Some(value), Some(weight)) = (values.get(drawn), weights.get(drawn)) {
            sum += value * weight;
            total += weight;
        }
    }
    sum / total
}

/// The quantile of sorted values, with linear interpolation.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * sorted.len().saturating_sub(1) as f64;
    let at = |i: usize| sorted.get(i).copied().unwrap_or(f64::NAN);
    let (below, above) = (at(place.floor() as usize), at(place.ceil() as usize));
    below + (above - below) * place.fract()
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

/// The minimum detectable difference at `confidence` (one-sided) with 80 % power:
/// `(z(confidence) + z(power)) * standard error of the mean difference`. None for fewer than two pairs.
pub fn minimum_detectable_difference(pairs: &[Pair], confidence: f64) -> Result<Option<f64>> {
    const POWER: f64 = 0.8;
    if pairs.len() < 2 {
        return Ok(None);
    }
    let differences: Vec<f64> = pairs.iter().map(|p| p.candidate - p.reference).collect();
    let weights: Vec<f64> = pairs.iter().map(|p| p.weight).collect();
    let mean = weighted_mean(&differences, &weights)?;
    let squares: Vec<f64> = differences.iter().map(|d| (d - mean) * (d - mean)).collect();
    let cases = effective_cases(&weights);
    let variance = weighted_mean(&squares, &weights)? * cases / (cases - 1.0);
    let z = normal_quantile(in_unit("confidence", confidence)?) + normal_quantile(POWER);
    Ok(Some(z * (variance / cases).sqrt()))
}

fn in_unit(what: &'static str, share: f64) -> Result<f64> {
    let inside = share > 0.0 && share < 1.0;
    inside.then_some(share).ok_or_else(|| refuse(what, "a number in (0, 1)", share.to_string()))
}

fn normal_quantile(p: f64) -> f64 {
    Normal::standard().inverse_cdf(p)
}

fn refuse(what: &'static str, expected: &'static str, found: String) -> Error {
    Error::Statistic { what, expected, found }
}
