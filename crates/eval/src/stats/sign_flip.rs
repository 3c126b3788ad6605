//! The sign-flip test of paired differences (Fisher 1935).

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use super::refuse;
use crate::error::Result;

/// The result of a sign-flip test.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct SignFlip {
    /// One-sided p-value: the share of all signings whose sum is at least as large as the one observed.
    pub p: f64,
    /// The number of clusters whose sum is not zero. With `n` of them `p` is at least `2^-n`.
    pub clusters: usize,
    /// Whether every signing was counted. If not, `p` is estimated from draws and includes the observed signing, so that a
    /// test at level `p` stays valid.
    pub exact: bool,
}

/// How signings are drawn if they are too many to be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draws {
    /// The number of draws.
    pub count: usize,
    /// Their seed. The same seed gives the same p-value on every machine.
    pub seed: u64,
}

impl Default for Draws {
    fn default() -> Self {
        Draws { count: 100_000, seed: 42 }
    }
}

/// Sums that differ by less are equal: differences that cancel rarely give an exact zero in floating point.
const TINY: f64 = 1e-9;
/// The largest number of non-zero clusters whose signings are enumerated.
const ENUMERATED: usize = 20;
/// The largest sum of steps for which signings are counted on a grid; the work is this times the number of clusters.
const LONGEST_GRID: u64 = 100_000;
/// Denominators of the grids that are tried. Scores are means of a few rules, so that a small one nearly always fits.
const DENOMINATORS: [u32; 18] =
    [1, 2, 3, 4, 5, 6, 8, 10, 12, 20, 24, 30, 36, 60, 72, 120, 360, 840];

/// Tests whether differences are positive on average, given the sum of each cluster of dependent ones: under the null
/// hypothesis the sign of every cluster is a fair coin.
///
/// If the sums lie on a grid, all signings are counted by dynamic programming, whatever the number of clusters (the shift
/// algorithm: Pagano and Tritchler 1983, Streitberg and Röhmel 1986). Otherwise up to 20 non-zero clusters are enumerated,
/// and more are sampled. With one case a cluster and scores of 0 and 1 it is the exact
/// [McNemar test](super::mcnemar_exact).
///
/// # Errors
/// If a sum is not finite, or draws are needed and `draws.count` is 0.
pub fn sign_flip(sums: &[f64], draws: Draws) -> Result<SignFlip> {
    if let Some(sum) = sums.iter().find(|sum| !sum.is_finite()) {
        return Err(refuse("cluster sums", "finite numbers", sum.to_string()));
    }
    let sums: Vec<f64> = sums.iter().copied().filter(|sum| sum.abs() > TINY).collect();
    let clusters = sums.len();
    let counted = on_grid(&sums).map(|steps| counted(&steps));
    let enumerated = || (clusters <= ENUMERATED).then(|| enumerated(&sums));
    if let Some(p) = counted.or_else(enumerated) {
        return Ok(SignFlip { p, clusters, exact: true });
    }
    if draws.count == 0 {
        return Err(refuse("draws", "at least one", "0".into()));
    }
    Ok(SignFlip { p: sampled(&sums, draws), clusters, exact: false })
}

/// The sums as multiples of the coarsest grid that has them all; none if no short grid does.
fn on_grid(sums: &[f64]) -> Option<Vec<i64>> {
    DENOMINATORS.iter().find_map(|&denominator| {
        let scaled = sums.iter().map(|sum| sum * f64::from(denominator));
        let steps = scaled.map(|sum| {
            let step = sum.round();
            ((sum - step).abs() < 1e-6).then_some(step as i64)
        });
        let steps: Vec<i64> = steps.collect::<Option<_>>()?;
        let length: u64 = steps.iter().map(|step| step.unsigned_abs()).sum();
        (length <= LONGEST_GRID).then_some(steps)
    })
}

/// The share of signings that sum to the observed sum or more, from the distribution of the positive part.
fn counted(steps: &[i64]) -> f64 {
    let length = |step: &i64| step.unsigned_abs() as usize;
    let total: usize = steps.iter().map(length).sum();
    // A signing whose positive part is `x` sums to `2 x - total`.
    let positive: usize = steps.iter().filter(|step| **step > 0).map(length).sum();
    let mut share = vec![0.0_f64; total + 1];
    share[0] = 1.0;
    let mut reached = 0;
    for step in steps.iter().map(length) {
        reached += step;
        for x in (0..=reached).rev() {
            let flipped = x.checked_sub(step).map_or(0.0, |before| share[before]);
            share[x] = 0.5 * (share[x] + flipped);
        }
    }
    // From the smallest share up, for accuracy.
    share[positive..].iter().rev().sum::<f64>().min(1.0)
}

/// The same by visiting every signing, each one flip away from the one before (Gray code).
fn enumerated(sums: &[f64]) -> f64 {
    let observed: f64 = sums.iter().sum();
    let mut signed: Vec<f64> = sums.to_vec();
    let mut sum = observed;
    let mut reached = 1_u64;
    for visit in 1..1_u64 << sums.len() {
        if let Some(cluster) = signed.get_mut(visit.trailing_zeros() as usize) {
            sum -= 2.0 * *cluster;
            *cluster = -*cluster;
        }
        reached += u64::from(sum >= observed - TINY);
    }
    reached as f64 / (1_u64 << sums.len()) as f64
}

fn sampled(sums: &[f64], draws: Draws) -> f64 {
    let observed: f64 = sums.iter().sum();
    let mut rng = ChaCha8Rng::seed_from_u64(draws.seed);
    let mut reached = 1_u64;
    for _ in 0..draws.count {
        let mut sum = 0.0;
        for clusters in sums.chunks(64) {
            let mut signs = rng.next_u64();
            for cluster in clusters {
                sum += if signs & 1 == 1 { *cluster } else { -cluster };
                signs >>= 1;
            }
        }
        reached += u64::from(sum >= observed - TINY);
    }
    reached as f64 / (draws.count + 1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counting_enumerating_and_sampling_agree() {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        for size in [1, 2, 5, 11, 16] {
            let steps: Vec<i64> = (0..size).map(|_| i64::from(rng.next_u32() % 13) - 5).collect();
            let sums: Vec<f64> = steps.iter().map(|step| *step as f64 / 6.0).collect();
            assert_eq!(on_grid(&sums).map(|found| counted(&found)), Some(counted(&steps)));
            let exact = counted(&steps);
            assert!((exact - enumerated(&sums)).abs() < 1e-12, "{steps:?}");
            let drawn = sampled(&sums, Draws { count: 40_000, seed: 3 });
            // Four standard errors of the share.
            assert!((exact - drawn).abs() < 4.0 * (0.25_f64 / 40_000.0).sqrt(), "{steps:?}");
        }
    }

    #[test]
    fn a_value_off_every_grid_is_enumerated_or_sampled() {
        let sums =
            |size: usize| -> Vec<f64> { (1..=size).map(|i| 1.0 / (i as f64 + 0.7321)).collect() };
        assert!(on_grid(&sums(3)).is_none());
        let few = sign_flip(&sums(20), Draws::default()).unwrap();
        assert_eq!((few.p, few.exact), (1.0 / (1 << 20) as f64, true));
        let many = sign_flip(&sums(21), Draws { count: 1_000, seed: 1 }).unwrap();
        assert_eq!((many.p, many.exact), (1.0 / 1_001.0, false));
        assert!(sign_flip(&sums(21), Draws { count: 0, seed: 1 }).is_err());
        assert!(sign_flip(&[f64::NAN], Draws::default()).is_err());
    }
}
