//! Divergences against the log-softmax of f64 logits.

mod common;
mod rounding;

use common::{Tiny, adapter, tokens};
use models::{Adapter, Divergence, Model, ScoreRow, divergence, score};

fn log_softmax(logits: &[f64]) -> Vec<f64> {
    let norm = logits.iter().map(|x| x.exp()).sum::<f64>().ln();
    logits.iter().map(|x| x - norm).collect()
}

fn open(tiny: &Tiny) -> Model {
    let folder = tempfile::tempdir().unwrap();
    tiny.write(folder.path());
    Model::open(folder.path()).unwrap()
}

#[test]
fn divergences_are_those_of_f64_distributions() {
    let before = Tiny::untied(1);
    let model = open(&before);
    let mut after = before.clone();
    let adapter = adapter(&mut after, &model);
    let none = Adapter::none(&model);
    // More than one micro-batch of 1,024 tokens, shared beginnings, and a row without any scored token.
    let rows: Vec<Vec<u32>> = (0..60).map(|i| tokens(i / 2, 10 + i as usize % 30, 96)).collect();
    let scored = [vec![0..3, 5..10], vec![], vec![9..10]];
    let rows: Vec<ScoreRow> = rows
        .iter()
        .zip(scored.iter().cycle())
        .map(|(tokens, scored)| ScoreRow { tokens, scored })
        .collect();
    let found = divergence(&model, &none, &adapter, &rows).unwrap();
    assert_eq!(found.len(), rows.len());
    for (row, found) in rows.iter().zip(&found) {
        let (p, q) = (before.logits(row.tokens), after.logits(row.tokens));
        let mut expected = Divergence::default();
        for index in row.scored.iter().cloned().flatten().filter(|&index| index > 0) {
            let (p, q) = (log_softmax(&p[index - 1]), log_softmax(&q[index - 1]));
            expected.kl += p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
            expected.reference_log_prob += p[row.tokens[index] as usize];
            expected.log_prob += q[row.tokens[index] as usize];
            expected.tokens += 1;
        }
        assert_eq!(found.tokens, expected.tokens);
        for (found, expected) in [
            (found.kl, expected.kl),
            (found.reference_log_prob, expected.reference_log_prob),
            (found.log_prob, expected.log_prob),
        ] {
            let most = 12.0 * rounding::tolerance(&model, 2e-5);
            assert!((found - expected).abs() < most, "{found} {expected}");
        }
    }
    let total: Divergence = found.into_iter().sum();
    assert!(total.mean_kl() > 0.01, "the adapter changes something: {total:?}");
    let scores =
        |adapter| score(&model, adapter, &rows).unwrap().into_iter().sum::<models::Score>();
    let ratio = (scores(&adapter).loss() - scores(&none).loss()).exp();
    let most = rounding::tolerance(&model, 1e-4);
    assert!((total.perplexity_ratio() - ratio).abs() < most * ratio);
}

#[test]
fn a_model_does_not_diverge_from_itself() {
    let model = open(&Tiny::new(2));
    let none = Adapter::none(&model);
    let row = ScoreRow { tokens: &[1, 5, 9, 2], scored: &[1..4] };
    let found = divergence(&model, &none, &none, &[row]).unwrap()[0];
    assert_eq!((found.kl, found.perplexity_ratio(), found.tokens), (0.0, 1.0, 3));
}
