//! Differences of paired scores.

use serde::{Deserialize, Serialize};

use super::{Interval, in_unit, normal_quantile, refuse, wilson};
use crate::error::Result;

/// How many cases each of two runs passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairedCounts {
    /// Cases that both pass.
    pub both: usize,
    /// Cases that only the first passes.
    pub first_only: usize,
    /// Cases that only the second passes.
    pub second_only: usize,
    /// Cases that neither passes.
    pub neither: usize,
}

impl PairedCounts {
    /// Counts pairs of (first passes, second passes).
    pub fn of(pairs: impl IntoIterator<Item = (bool, bool)>) -> PairedCounts {
        let mut counts = PairedCounts::default();
        for pair in pairs {
            *match pair {
                (true, true) => &mut counts.both,
                (true, false) => &mut counts.first_only,
                (false, true) => &mut counts.second_only,
                (false, false) => &mut counts.neither,
            } += 1;
        }
        counts
    }

    /// All cases.
    pub fn cases(&self) -> usize {
        self.both + self.first_only + self.second_only + self.neither
    }

    /// The cases that the first passes, and those that the second passes.
    pub fn passed(&self) -> (usize, usize) {
        (self.both + self.first_only, self.both + self.second_only)
    }
}

/// The exact McNemar test, one-sided: the probability of `first_only` or more heads in as many throws of a fair coin as
/// there are discordant pairs. Small values speak for the first. Exact in floating point up to about 1,000 of them.
pub fn mcnemar_exact(counts: PairedCounts) -> f64 {
    let discordant = (counts.first_only + counts.second_only) as f64;
    // Terms of the binomial distribution, by the ratio of neighbours; logarithms keep the first from underflowing.
    let mut term = -discordant * std::f64::consts::LN_2;
    let mut p = 0.0;
    for heads in 0..=counts.first_only + counts.second_only {
        if heads >= counts.first_only {
            p += term.exp();
        }
        let heads = heads as f64;
        term += (discordant - heads).ln() - (heads + 1.0).ln();
    }
    p.min(1.0)
}

/// The confidence interval of the difference of two paired proportions, first minus second (Newcombe 1998, Statistics in
/// Medicine 17:2635, method 10): Wilson's intervals of both, combined with a correction for their correlation. Both of
/// its ends hold with `(1 + confidence) / 2`: use 0.90 for a bound of 95 %.
///
/// # Errors
/// If there is no case, or the confidence is not between 0 and 1.
pub fn newcombe_paired(counts: PairedCounts, confidence: f64) -> Result<Interval> {
    if counts.cases() == 0 {
        return Err(refuse("cases", "at least one", "0".into()));
    }
    let cases = counts.cases() as f64;
    let (first, second) = counts.passed();
    let (p1, p2) = (first as f64 / cases, second as f64 / cases);
    let (one, two) = (wilson(p1, cases, confidence)?, wilson(p2, cases, confidence)?);
    let phi = correlation(counts);
    let half = |a: f64, b: f64| (a * a - 2.0 * phi * a * b + b * b).max(0.0).sqrt();
    let difference = p1 - p2;
    Ok(Interval {
        low: difference - half(p1 - one.low, two.high - p2),
        high: difference + half(one.high - p1, p2 - two.low),
    })
}

/// The phi coefficient with Newcombe's continuity correction; 0 if a run passes all cases or none.
fn correlation(counts: PairedCounts) -> f64 {
    let PairedCounts { both, first_only, second_only, neither } = counts;
    let [e, f, g, h] = [both, first_only, second_only, neither].map(|count| count as f64);
    let margins = (e + f) * (g + h) * (e + g) * (f + h);
    if margins == 0.0 {
        return 0.0;
    }
    let product = e * h - f * g;
    let corrected =
        if product > 0.0 { (product - (e + f + g + h) / 2.0).max(0.0) } else { product };
    corrected / margins.sqrt()
}

/// A weighted mean of differences and its standard error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clustered {
    /// The weighted mean.
    pub mean: f64,
    /// The standard error of the mean; none with fewer than two clusters.
    pub standard_error: Option<f64>,
}

/// The weighted mean of differences `(cluster, difference, weight)` and its cluster-robust standard error,
/// `sqrt(G/(G-1) sum_c (sum_{i in c} w_i (d_i - mean))^2) / sum_i w_i` with `G` clusters (Miller 2024, arXiv 2411.00640).
/// Clusters are numbered from 0; numbers may be left out.
///
/// # Errors
/// If there is no difference, or one of them or a weight is not finite.
pub fn clustered_difference(differences: &[(usize, f64, f64)]) -> Result<Clustered> {
    let total: f64 = differences.iter().map(|(_, _, weight)| weight).sum();
    let mean = differences.iter().map(|(_, d, weight)| d * weight).sum::<f64>() / total;
    if differences.is_empty() || !mean.is_finite() {
        return Err(refuse("differences", "finite numbers, at least one", mean.to_string()));
    }
    let last = differences.iter().map(|(cluster, ..)| *cluster).max().unwrap_or(0);
    let mut residuals: Vec<Option<f64>> = vec![None; last + 1];
    for (cluster, difference, weight) in differences {
        if let Some(residual) = residuals.get_mut(*cluster) {
            *residual.get_or_insert(0.0) += weight * (difference - mean);
        }
    }
    let clusters = residuals.iter().flatten().count() as f64;
    let squares: f64 = residuals.iter().flatten().map(|residual| residual * residual).sum();
    let standard_error =
        (clusters > 1.0).then(|| (clusters / (clusters - 1.0) * squares).sqrt() / total);
    Ok(Clustered { mean, standard_error })
}

impl Clustered {
    /// The interval that holds the mean with this confidence (normal approximation); the mean itself without a standard
    /// error.
    ///
    /// # Errors
    /// If the confidence is not between 0 and 1.
    pub fn interval(&self, confidence: f64) -> Result<Interval> {
        let z = normal_quantile(0.5 + in_unit("confidence", confidence)? / 2.0);
        let half = z * self.standard_error.unwrap_or(0.0);
        Ok(Interval { low: self.mean - half, high: self.mean + half })
    }

    /// The minimum detectable difference of a one-sided test at level `alpha` with 80 % power:
    /// `(z(1 - alpha) + z(0.8)) * standard error`.
    ///
    /// # Errors
    /// If alpha is not between 0 and 1.
    pub fn detectable(&self, alpha: f64) -> Result<Option<f64>> {
        let z = normal_quantile(1.0 - in_unit("alpha", alpha)?) + normal_quantile(0.8);
        Ok(self.standard_error.map(|error| z * error))
    }
}
