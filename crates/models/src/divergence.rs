use mlx_rs::Array;

use crate::ext::fused::exponentials;
use crate::score::{Target, before, micro_batches, targets};
use crate::{Adapter, Model, Result, ScoreRow};

/// How far a model's predictions of a row's scored tokens have moved from a reference's.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Divergence {
    /// Sum over the scored tokens of `KL(reference || model)` of the next-token distributions, in nats.
    pub kl: f64,
    /// Sum of the scored tokens' log probabilities under the reference.
    pub reference_log_prob: f64,
    /// Sum of their log probabilities under the model.
    pub log_prob: f64,
    /// Number of scored tokens.
    pub tokens: usize,
}

impl Divergence {
    /// The mean Kullback-Leibler divergence per token; NaN without tokens.
    pub fn mean_kl(&self) -> f64 {
        self.kl / self.tokens as f64
    }

    /// The model's perplexity of the tokens divided by the reference's; NaN without tokens.
    pub fn perplexity_ratio(&self) -> f64 {
        ((self.reference_log_prob - self.log_prob) / self.tokens as f64).exp()
    }
}

impl std::iter::Sum for Divergence {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), |sum, part| Self {
            kl: sum.kl + part.kl,
            reference_log_prob: sum.reference_log_prob + part.reference_log_prob,
            log_prob: sum.log_prob + part.log_prob,
            tokens: sum.tokens + part.tokens,
        })
    }
}

/// Logits that exist at one time, of each of [`LOGIT_ARRAYS`]: 16 MiB of f32.
const LOGITS_AT_ONCE: usize = 4 << 20;
/// Arrays of logits, and of what is computed of them, that exist at one time.
const LOGIT_ARRAYS: usize = 5;

/// Bytes that [`divergence`] of rows with `tokens` tokens needs beside the computation of the layers: the hidden states under
/// both adapters, and the logits.
#[doc(hidden)]
pub fn divergence_bytes(model: &Model, tokens: usize) -> u64 {
    let config = model.config();
    let logits = (tokens * config.vocab_size).min(LOGITS_AT_ONCE).max(config.vocab_size);
    let values = 2 * tokens * config.hidden_size + LOGIT_ARRAYS * logits;
    (values * size_of::<f32>()) as u64
}

/// Compares the model under `adapter` with the model under `reference`, token by token over the scored tokens of each row.
///
/// Of distributions `p` (reference) and `q` over the vocabulary, `KL(p || q) = sum p (ln p - ln q)` (Kullback and Leibler
/// 1951). Rows are computed in micro-batches as by [`score`](crate::score), under both adapters.
///
/// # Errors
/// A row with a token beyond the vocabulary, or an adapter that does not fit the model.
pub fn divergence(
    model: &Model,
    reference: &Adapter,
    adapter: &Adapter,
    rows: &[ScoreRow],
) -> Result<Vec<Divergence>> {
    let mut found = Vec::with_capacity(rows.len());
    for batch in micro_batches(rows) {
        found.extend(of_batch(model, reference, adapter, batch)?);
    }
    Ok(found)
}

fn of_batch(
    model: &Model,
    reference: &Adapter,
    adapter: &Adapter,
    batch: &[ScoreRow],
) -> Result<Vec<Divergence>> {
    let (rows, tokens, targets) = targets(batch)?;
    let mut found = vec![Divergence::default(); batch.len()];
    let p = model.hidden(&tokens, &rows, reference)?;
    let q = model.hidden(&tokens, &rows, adapter)?;
    for chunk in targets.chunks((LOGITS_AT_ONCE / model.config().vocab_size).max(1)) {
        let p = model.head().logits(&before(chunk, &p)?, reference.embeddings())?;
        let q = model.head().logits(&before(chunk, &q)?, adapter.embeddings())?;
        let [kl, p, q] = of_logits(model, chunk, &p, &q)?;
        let figures = kl.as_slice::<f32>().iter().zip(p.as_slice::<f32>()).zip(q.as_slice::<f32>());
        for (target, ((kl, p), q)) in chunk.iter().zip(figures) {
            let Some(row) = found.get_mut(target.row) else { continue };
            row.kl += f64::from(*kl);
            row.reference_log_prob += f64::from(*p);
            row.log_prob += f64::from(*q);
            row.tokens += 1;
        }
    }
    Ok(found)
}

/// Of logits `[1, targets, vocabulary]`: the divergence of each distribution, and the targets' log probabilities under both;
/// each `[targets]`.
fn of_logits(model: &Model, targets: &[Target], p: &Array, q: &Array) -> Result<[Array; 3]> {
    let [weights, p_peak, p_total] = exponentials(model.backend(), p)?;
    let [_, q_peak, q_total] = exponentials(model.backend(), q)?;
    let p_norm = p_peak.add(p_total.log()?)?;
    let q_norm = q_peak.add(q_total.log()?)?;
    // sum p (ln p - ln q), where ln p = logits - norm.
    let gap = weights.multiply(p.subtract(q)?)?.sum_axis(-1, true)?.divide(&p_total)?;
    let kl = gap.subtract(&p_norm)?.add(&q_norm)?;
    let ids = targets.iter().map(|target| target.token as i32);
    let ids = Array::from_iter(ids, &[1, targets.len() as i32, 1]);
    let log_prob = |logits: &Array, norm: &Array| logits.take_along_axis(&ids, -1)?.subtract(norm);
    let flat = |x: &Array| x.reshape(&[-1]);
    let found = [flat(&kl)?, flat(&log_prob(p, &p_norm)?)?, flat(&log_prob(q, &q_norm)?)?];
    mlx_rs::transforms::eval(&found)?;
    Ok(found)
}
