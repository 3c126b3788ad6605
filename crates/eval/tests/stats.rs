//! The statistics against numpy, scipy and statsmodels (`fixtures/golden/stats`, program included).

use eval::stats::{
    Pair, benjamini_hochberg, minimum_detectable_difference, paired_bootstrap, weighted_mean,
    wilson,
};
use proptest::prelude::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    bootstraps: Vec<GoldenBootstrap>,
    wilson: Vec<(f64, f64, f64, f64, f64)>,
    benjamini_hochberg: Vec<GoldenAdjustment>,
}

#[derive(Deserialize)]
struct GoldenBootstrap {
    difference: f64,
    better: f64,
    worse: f64,
    low: f64,
    high: f64,
    detectable_at_95: f64,
    candidate: Vec<f64>,
    reference: Vec<f64>,
    weight: Vec<f64>,
}

#[derive(Deserialize)]
struct GoldenAdjustment {
    p: Vec<f64>,
    adjusted: Vec<f64>,
}

fn golden() -> Golden {
    let text = std::fs::read_to_string("../../fixtures/golden/stats/stats.json").expect("the file");
    serde_json::from_str(&text).expect("golden numbers")
}

fn close(found: f64, expected: f64, tolerance: f64, what: &str) {
    assert!((found - expected).abs() <= tolerance, "{what}: expected {expected}, found {found}");
}

#[test]
fn the_bootstrap_agrees_with_numpy() {
    for (i, golden) in golden().bootstraps.iter().enumerate() {
        let scores = golden.candidate.iter().zip(&golden.reference).zip(&golden.weight);
        let pairs: Vec<Pair> = scores
            .map(|((&candidate, &reference), &weight)| Pair { candidate, reference, weight })
            .collect();
        let seen = paired_bootstrap(&pairs, 20_000, 42).unwrap();
        // Four standard errors of a share counted over 20,000 resamples: 4 sqrt(p (1 - p) / 20000).
        let sampling = |p: f64| 4.0 * (p * (1.0 - p) / 20_000.0).sqrt() + 1e-9;
        close(seen.difference, golden.difference, 1e-12, "difference");
        close(seen.better, golden.better, sampling(golden.better), &format!("better of {i}"));
        close(seen.worse, golden.worse, sampling(golden.worse), &format!("worse of {i}"));
        // A quantile of resampled means moves by at most one step of the coarsest mean.
        let step = 1.0 / golden.weight.len() as f64;
        close(seen.interval.low, golden.low, step, "low");
        close(seen.interval.high, golden.high, step, "high");
        let detectable = minimum_detectable_difference(&pairs, 0.95).unwrap().unwrap();
        close(detectable, golden.detectable_at_95, 1e-8, "detectable");
    }
}

#[test]
fn wilson_is_exact_at_its_ends() {
    for cases in [1.0, 3.0, 14.0, 48.0, 109.0] {
        for confidence in [0.5, 0.8, 0.95, 0.99] {
            assert_eq!(wilson(0.0, cases, confidence).unwrap().low, 0.0);
            assert_eq!(wilson(1.0, cases, confidence).unwrap().high, 1.0);
        }
    }
}

#[test]
fn wilson_agrees_with_statsmodels() {
    for (hits, cases, confidence, low, high) in golden().wilson {
        let found = wilson(hits / cases, cases, confidence).unwrap();
        // Both are closed formulas; the normal quantile is good to 1e-9.
        close(found.low, low, 1e-8, &format!("low of {hits} in {cases} at {confidence}"));
        close(found.high, high, 1e-8, &format!("high of {hits} in {cases} at {confidence}"));
    }
}

#[test]
fn benjamini_hochberg_agrees_with_statsmodels_and_scipy() {
    for golden in golden().benjamini_hochberg {
        let found = benjamini_hochberg(&golden.p).unwrap();
        found.iter().zip(&golden.adjusted).for_each(|(f, g)| close(*f, *g, 1e-12, "adjusted"));
        assert_eq!(found.len(), golden.adjusted.len());
    }
}

#[test]
fn numbers_that_have_no_statistic_are_refused() {
    let pair = |candidate: f64, weight: f64| Pair { candidate, reference: 0.5, weight };
    let bad: [(&str, Vec<Pair>, usize); 5] = [
        ("no pairs", vec![], 100),
        ("NaN score", vec![pair(f64::NAN, 1.0)], 100),
        ("infinite score", vec![pair(f64::INFINITY, 1.0)], 100),
        ("weight zero", vec![pair(1.0, 0.0)], 100),
        ("no resamples", vec![pair(1.0, 1.0)], 0),
    ];
    for (what, pairs, resamples) in bad {
        assert!(paired_bootstrap(&pairs, resamples, 1).is_err(), "{what}");
    }
    assert!(weighted_mean(&[1.0, 2.0], &[1.0]).is_err());
    for (rate, cases, confidence) in [
        (f64::NAN, 5.0, 0.9),
        (1.1, 5.0, 0.9),
        (0.5, 0.0, 0.9),
        (0.5, 5.0, 1.0),
        (0.5, 5.0, f64::NAN),
    ] {
        assert!(wilson(rate, cases, confidence).is_err(), "{rate} {cases} {confidence}");
    }
    assert!(benjamini_hochberg(&[0.5, f64::NAN]).is_err());
    assert!(benjamini_hochberg(&[1.5]).is_err());
}

#[test]
fn ties_are_not_wins() {
    // Differences that cancel exactly, but not in floating point.
    let scores = [(0.1, 0.0), (0.2, 0.0), (0.0, 0.3)];
    let pairs = scores.map(|(candidate, reference)| Pair { candidate, reference, weight: 1.0 });
    let same = [Pair { candidate: 0.7, reference: 0.7, weight: 2.0 }; 5];
    let seen = paired_bootstrap(&same, 1_000, 3).unwrap();
    assert_eq!((seen.better, seen.worse, seen.ties), (0.0, 0.0, 5));
    // 0.1 + 0.2 - 0.3 in any order: 6 of the 27 ways to draw three of three.
    let seen = paired_bootstrap(&pairs, 20_000, 3).unwrap();
    close(1.0 - seen.better - seen.worse, 6.0 / 27.0, 0.012, "ties among resamples");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn swapping_the_runs_swaps_the_shares(
        scores in prop::collection::vec((0u8..5, 0u8..5, 1u8..4), 1..40), seed: u64,
    ) {
        let pairs: Vec<Pair> = scores.iter().map(|&(c, r, w)| Pair {
            candidate: f64::from(c) / 4.0, reference: f64::from(r) / 4.0, weight: f64::from(w),
        }).collect();
        let swapped: Vec<Pair> = pairs.iter().map(|p| Pair {
            candidate: p.reference, reference: p.candidate, ..*p
        }).collect();
        let (one, other) = (paired_bootstrap(&pairs, 200, seed)?, paired_bootstrap(&swapped, 200, seed)?);
        prop_assert_eq!((one.better, one.worse), (other.worse, other.better));
        prop_assert!(one.better + one.worse <= 1.0);
        prop_assert!(one.interval.low <= one.interval.high);
    }

    #[test]
    fn adjusted_values_are_no_smaller_and_keep_their_order(
        p in prop::collection::vec(0.0f64..=1.0, 0..20),
    ) {
        let adjusted = benjamini_hochberg(&p)?;
        for i in 0..p.len() {
            prop_assert!(adjusted[i] >= p[i] - 1e-12 && adjusted[i] <= 1.0);
            for j in 0..p.len() {
                prop_assert!(p[i] > p[j] || adjusted[i] <= adjusted[j]);
            }
        }
    }

    #[test]
    fn wilson_holds_the_rate(hits in 0u32..50, more in 0u32..50, confidence in 0.01f64..0.999) {
        prop_assume!(hits + more > 0);
        let cases = f64::from(hits + more);
        let rate = f64::from(hits) / cases;
        let interval = wilson(rate, cases, confidence)?;
        prop_assert!(interval.low <= rate + 1e-12 && rate <= interval.high + 1e-12);
    }
}
