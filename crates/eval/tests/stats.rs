//! The statistics against numpy, scipy and statsmodels (`fixtures/golden/stats`, program included).

use eval::stats::{
    Draws, PairedCounts, benjamini_hochberg, clustered_difference, mcnemar_exact, newcombe_paired,
    sign_flip, weighted_mean, wilson,
};
use proptest::prelude::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    clustered: Vec<GoldenClustered>,
    sign_flips: Vec<GoldenSignFlip>,
    mcnemar: Vec<(usize, usize, f64)>,
    newcombe: Vec<(usize, usize, usize, usize, f64, f64, f64)>,
    wilson: Vec<(f64, f64, f64, f64, f64)>,
    benjamini_hochberg: Vec<GoldenAdjustment>,
}

#[derive(Deserialize)]
struct GoldenClustered {
    mean: f64,
    standard_error: f64,
    high_at_95: f64,
    #[serde(rename = "detectable_at_0.005")]
    detectable: f64,
    candidate: Vec<f64>,
    reference: Vec<f64>,
    weight: Vec<f64>,
    cluster: Vec<usize>,
}

#[derive(Deserialize)]
struct GoldenSignFlip {
    sums: Vec<f64>,
    p: f64,
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
fn clustered_errors_agree_with_numpy() {
    for golden in golden().clustered {
        let pairs = golden.candidate.iter().zip(&golden.reference).zip(&golden.weight);
        let differences: Vec<_> = pairs
            .zip(&golden.cluster)
            .map(|(((candidate, reference), weight), cluster)| {
                (*cluster, candidate - reference, *weight)
            })
            .collect();
        let found = clustered_difference(&differences).unwrap();
        close(found.mean, golden.mean, 1e-12, "mean");
        close(found.standard_error.unwrap(), golden.standard_error, 1e-12, "standard error");
        close(found.interval(0.95).unwrap().high, golden.high_at_95, 1e-8, "high");
        close(found.detectable(0.005).unwrap().unwrap(), golden.detectable, 1e-8, "detectable");
    }
}

#[test]
fn sign_flips_agree_with_scipy() {
    for golden in golden().sign_flips {
        let found = sign_flip(&golden.sums, Draws::default()).unwrap();
        close(found.p, golden.p, 1e-12, &format!("p of {:?}", golden.sums));
        assert!(found.exact);
    }
}

#[test]
fn mcnemar_agrees_with_scipy_and_with_sign_flips_of_single_cases() {
    for (first_only, second_only, p) in golden().mcnemar {
        let counts = PairedCounts { first_only, second_only, ..PairedCounts::default() };
        let found = mcnemar_exact(counts);
        close(found, p, 1e-9, &format!("{first_only} to {second_only}"));
        let sums = [vec![1.0; first_only], vec![-1.0; second_only]].concat();
        close(sign_flip(&sums, Draws::default()).unwrap().p, p, 1e-9, "the same as sign flips");
    }
}

#[test]
fn newcombe_agrees_with_the_golden_tables() {
    for (both, first_only, second_only, neither, confidence, low, high) in golden().newcombe {
        let counts = PairedCounts { both, first_only, second_only, neither };
        let found = newcombe_paired(counts, confidence).unwrap();
        close(found.low, low, 1e-8, &format!("low of {counts:?}"));
        close(found.high, high, 1e-8, &format!("high of {counts:?}"));
    }
    // As published for the R package contingencytables.
    let cavo_2012 = PairedCounts { both: 59, first_only: 6, second_only: 16, neither: 80 };
    let found = newcombe_paired(cavo_2012, 0.95).unwrap();
    close(found.low, -0.1186, 5e-5, "low");
    close(found.high, -0.0046, 5e-5, "high");
    assert!(newcombe_paired(PairedCounts::default(), 0.95).is_err());
    assert!(newcombe_paired(cavo_2012, 1.0).is_err());
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
    assert!(clustered_difference(&[]).is_err());
    assert!(clustered_difference(&[(0, f64::NAN, 1.0)]).is_err());
    assert!(clustered_difference(&[(0, 1.0, f64::INFINITY)]).is_err());
    assert!(sign_flip(&[1.0, f64::INFINITY], Draws::default()).is_err());
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
    let found = sign_flip(&[0.1, 0.2, -0.3], Draws::default()).unwrap();
    // Signs with a sum of 0 or more: all but - - +, - - -, + - -, - + -.
    assert_eq!((found.p, found.clusters), (5.0 / 8.0, 3));
    let same = sign_flip(&[0.0; 5], Draws::default()).unwrap();
    assert_eq!((same.p, same.clusters), (1.0, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// P-values of a valid test are at most as large as their level that often: all signings of the same sums.
    #[test]
    fn p_values_are_valid(sums in prop::collection::vec(-6i32..=6, 1..9), level in 0.01f64..0.5) {
        let signed = |signs: usize| -> Vec<f64> {
            let sign = |i: usize| if signs >> i & 1 == 1 { 1.0 } else { -1.0 };
            sums.iter().enumerate().map(|(i, sum)| sign(i) * f64::from(*sum) / 6.0).collect()
        };
        let all = 1_usize << sums.len();
        let mut rejected = 0;
        for signs in 0..all {
            let (one, other) = (signed(signs), signed(!signs));
            let test = sign_flip(&one, Draws::default())?;
            rejected += usize::from(test.p <= level);
            // The opposite side, counting the observed sum on both.
            prop_assert!(test.p + sign_flip(&other, Draws::default())?.p >= 1.0 - 1e-12);
        }
        prop_assert!(rejected as f64 <= level * all as f64 + 1e-9);
    }

    #[test]
    fn newcombe_holds_the_difference_and_swaps(
        counts in (0usize..40, 0usize..40, 0usize..40, 0usize..40), confidence in 0.5f64..0.999,
    ) {
        let (both, first_only, second_only, neither) = counts;
        prop_assume!(both + first_only + second_only + neither > 0);
        let counts = PairedCounts { both, first_only, second_only, neither };
        let swapped = PairedCounts { first_only: second_only, second_only: first_only, ..counts };
        let (one, other) = (newcombe_paired(counts, confidence)?, newcombe_paired(swapped, confidence)?);
        let difference = (first_only as f64 - second_only as f64) / counts.cases() as f64;
        prop_assert!(one.low <= difference + 1e-12 && difference <= one.high + 1e-12);
        prop_assert!((one.low + other.high).abs() < 1e-12);
        prop_assert!(one.low >= -1.0 - 1e-12 && one.high <= 1.0 + 1e-12);
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
