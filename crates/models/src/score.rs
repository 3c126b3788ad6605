use std::ops::Range;

use mlx_rs::Array;

use crate::generate::log_sum_exp;
use crate::nn::Rows;
use crate::{Adapter, Model, Result};

/// A sequence, and which of its tokens are scored.
#[derive(Clone, Copy, Debug)]
pub struct ScoreRow<'a> {
    /// The tokens.
    pub tokens: &'a [u32],
    /// Ranges of token indices to score. Token 0 is never scored: nothing precedes it.
    pub scored: &'a [Range<usize>],
}

/// The log probability of the scored tokens of one row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Score {
    /// Sum of their log probabilities (natural logarithm).
    pub log_prob: f64,
    /// Number of scored tokens.
    pub tokens: usize,
}

impl Score {
    /// Mean loss per token, `-log_prob / tokens`; NaN without tokens.
    pub fn loss(&self) -> f64 {
        -self.log_prob / self.tokens as f64
    }
}

impl std::iter::Sum for Score {
    /// The score of several rows together: their mean loss is weighted by tokens.
    fn sum<I: Iterator<Item = Self>>(scores: I) -> Self {
        scores.fold(Self::default(), |sum, score| Self {
            log_prob: sum.log_prob + score.log_prob,
            tokens: sum.tokens + score.tokens,
        })
    }
}

/// Tokens of a micro-batch, at most.
const TOKENS_PER_STEP: usize = 1024;
/// Logits that exist at one time: 64 MiB of f32.
const LOGITS_AT_ONCE: usize = 16 << 20;

/// Scores rows in micro-batches. Shared prefixes within a micro-batch are computed once, and only the
/// positions of scored tokens go through the head.
///
/// ```no_run
/// use models::{Adapter, Model, Score, ScoreRow, score};
///
/// let model = Model::open("SmolLM2-135M-Instruct.Q4_1.gguf")?;
/// let row = ScoreRow { tokens: &[504, 3575, 282, 4649, 314, 7042], scored: &[5..6] };
/// let total: Score = score(&model, &Adapter::none(&model), &[row])?.into_iter().sum();
/// println!("loss {:.3} over {} tokens", total.loss(), total.tokens);
/// # Ok::<(), models::Error>(())
/// ```
pub fn score(model: &Model, adapter: &Adapter, rows: &[ScoreRow]) -> Result<Vec<Score>> {
    let mut scores = Vec::with_capacity(rows.len());
    for batch in micro_batches(rows) {
        scores.extend(score_batch(model, adapter, batch)?);
    }
    Ok(scores)
}

/// Consecutive rows of at most [`TOKENS_PER_STEP`] tokens together, or a single longer one.
pub(crate) fn micro_batches<'r, 't>(
    rows: &'r [ScoreRow<'t>],
) -> impl Iterator<Item = &'r [ScoreRow<'t>]> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let mut tokens = rest.first()?.tokens.len();
        let more = rest.iter().skip(1).take_while(|row| {
            tokens += row.tokens.len();
            tokens <= TOKENS_PER_STEP
        });
        let (batch, later) = rest.split_at(1 + more.count());
        rest = later;
        Some(batch)
    })
}

/// A scored token: its row, the index of the token before it among those stored, and its id.
pub(crate) struct Target {
    pub row: usize,
    pub place: u32,
    pub token: u32,
}

/// The rows of a micro-batch, their stored tokens and the scored ones among them.
pub(crate) fn targets(batch: &[ScoreRow]) -> Result<(Rows, Vec<u32>, Vec<Target>)> {
    let inputs: Vec<&[u32]> = batch.iter().map(|row| row.tokens).collect();
    let (rows, tokens) = Rows::with_shared_prefixes(&inputs)?;
    let mut targets = Vec::new();
    for (row, ScoreRow { tokens, scored }) in batch.iter().enumerate() {
        let places: Vec<usize> = rows.places(row).collect();
        for index in scored.iter().cloned().flatten().filter(|&index| index > 0) {
            if let (Some(&place), Some(&token)) = (places.get(index - 1), tokens.get(index)) {
                targets.push(Target { row, place: place as u32, token });
            }
        }
    }
    Ok((rows, tokens, targets))
}

/// The hidden states from which targets are predicted: `[1, targets, hidden]`.
pub(crate) fn before(targets: &[Target], hidden: &Array) -> Result<Array> {
    let places = targets.iter().map(|target| target.place);
    let places = Array::from_iter(places, &[targets.len() as i32]);
    Ok(hidden.take_axis(places, 1)?)
}

fn score_batch(model: &Model, adapter: &Adapter, batch: &[ScoreRow]) -> Result<Vec<Score>> {
    let (rows, tokens, targets) = targets(batch)?;
    let mut scores = vec![Score::default(); batch.len()];
    let vocabulary = model.config().vocab_size;
    let hidden = model.hidden(&tokens, &rows, adapter)?;
    for chunk in targets.chunks((LOGITS_AT_ONCE / vocabulary).max(1)) {
        let logits = model.head().logits(&before(chunk, &hidden)?, adapter.embeddings())?;
        let logits = logits.try_as_slice::<f32>()?;
        for (target, logits) in chunk.iter().zip(logits.chunks_exact(vocabulary)) {
            let (Some(score), Some(&logit)) =
                (scores.get_mut(target.row), logits.get(target.token as usize))
            else {
                continue;
            };
            score.log_prob += f64::from(logit) - log_sum_exp(logits);
            score.tokens += 1;
        }
    }
    Ok(scores)
}
