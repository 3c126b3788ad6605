//! Scores against the log-softmax of f64 logits.

mod common;
mod rounding;

use common::{Tiny, tokens};
use models::{Adapter, Error, Model, Score, ScoreRow, score};
use rounding::tolerance;

#[test]
fn scores_are_sums_of_log_probabilities() {
    let folder = tempfile::tempdir().unwrap();
    let tiny = Tiny::new(1);
    tiny.write(folder.path());
    let model = Model::open(folder.path()).unwrap();
    // More than one micro-batch of 1,024 tokens, and a row without any scored token.
    let rows: Vec<Vec<u32>> = (0..60).map(|i| tokens(i, 10 + i as usize % 30, 96)).collect();
    let scored = [vec![0..3, 5..10], vec![], vec![9..10]];
    let rows: Vec<ScoreRow> = rows
        .iter()
        .zip(scored.iter().cycle())
        .map(|(tokens, scored)| ScoreRow { tokens, scored })
        .collect();
    let scores = score(&model, &Adapter::none(&model), &rows).unwrap();
    assert_eq!(scores.len(), rows.len());
    for (row, score) in rows.iter().zip(&scores) {
        let logits = tiny.logits(row.tokens);
        let mut expected = Score::default();
        for index in row.scored.iter().cloned().flatten().filter(|&index| index > 0) {
            let logits = &logits[index - 1];
            let sum: f64 = logits.iter().map(|x| x.exp()).sum();
            expected.log_prob += logits[row.tokens[index] as usize] - sum.ln();
            expected.tokens += 1;
        }
        assert_eq!(score.tokens, expected.tokens);
        // Logits of up to 10, a few of them summed.
        let apart = (score.log_prob - expected.log_prob).abs();
        assert!(apart < 10.0 * tolerance(&model, 1e-5), "{score:?} {expected:?}");
    }
    let total: Score = scores.iter().copied().sum();
    assert_eq!(total.tokens, scores.iter().map(|score| score.tokens).sum::<usize>());
    assert!(total.loss() > 1.0);
}

#[test]
fn unknown_tokens_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    Tiny::new(1).write(folder.path());
    let model = Model::open(folder.path()).unwrap();
    let rows = [ScoreRow { tokens: &[1, 96], scored: &[1..2] }];
    let error = score(&model, &Adapter::none(&model), &rows).unwrap_err();
    assert!(matches!(error, Error::Token { token: 96, .. }), "{error}");
}
