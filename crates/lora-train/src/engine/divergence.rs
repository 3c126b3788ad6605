//! `KL(base || model)` of the predicted token, in chunks of the vocabulary, and its gradient.
//!
//! As for the cross-entropy, running values of each position are enough, of both softmaxes: with logits
//! `z` of the model and `b` of the base model, the largest logit, the sum of `exp(z - max z)` and the
//! sum of `exp(z - max z) * dz/dh`; of the base the largest logit and the sums of `exp(b - max b)`, of
//! `exp(b - max b) * (b - z)` and of `exp(b - max b) * dz/dh`. Then `KL = E_base[b - z] - lse(b) +
//! lse(z)`, and its gradient with respect to the model's features is `E_model[dz/dh] - E_base[dz/dh]`.

#[cfg(test)]
mod tests;

use std::ops::Range;

use mlx_rs::Array;
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::ops::{concatenate, maximum};
use models::train_support::{exp, exponentials};

use super::chunks::Chunks;
use super::loss::{HeadLoss, before_features, plus, soft_cap};
use super::output::OutputProjection;
use super::weights::rows_of;
use crate::Result;

/// The positions whose prediction is held to that of the base model.
pub(super) struct Anchored<'a> {
    /// The model's hidden states before the final norm, `[n, H]`.
    pub(super) hidden: &'a Array,
    /// Those of the base model.
    pub(super) base_hidden: &'a Array,
    /// The weight of each position's divergence in what is minimized, `[n, 1]`.
    pub(super) weights: &'a Array,
}

/// The divergence at each position in `losses`, and the gradients of their weighted sum.
pub(super) fn divergence(
    output: &impl OutputProjection,
    Anchored { hidden, base_hidden, weights }: Anchored<'_>,
    chunks: Chunks,
) -> Result<HeadLoss> {
    let mut graph = HeadLoss::default();
    let chunks = chunks.halved();
    let features = output.features(hidden, output.lora_a())?;
    let base_features = output.features(base_hidden, None)?;
    let mut parts = Vec::new();
    let mut feature_gradients = Vec::new();
    for range in chunks.of_positions(hidden.dim(0)) {
        let own = |features: &Array| features.try_index((range.clone(), ..));
        let (features, base_features) = (own(&features)?, own(&base_features)?);
        let weights = rows_of(weights, &range)?;
        let both = Both { output, features: &features, base_features: &base_features };
        let Some([model, base]) = both.over(chunks, &mut graph.stages)? else { continue };
        let [weighted] = &model.totals[..] else { continue };
        let [base_weighted, apart] = &base.totals[..] else { continue };
        let [log_sum, base_log_sum] = [model.log_sum_exp()?, base.log_sum_exp()?];
        let divergence = apart.divide(&base.sum)?.subtract(&base_log_sum)?.add(&log_sum)?;
        let gradient = weighted.divide(&model.sum)?.subtract(base_weighted.divide(&base.sum)?)?;
        let gradient = gradient.multiply(&weights)?;
        graph.stages.push(vec![divergence.clone(), gradient.clone()]);
        graph.losses.push(divergence);
        feature_gradients.push(gradient);
        parts.push(Part { features, base_features, log_sum, base_log_sum, weights });
    }
    let gradients = before_features(output, hidden, concatenate(&feature_gradients, 0)?)?;
    graph.stages.push(gradients.clone());
    let mut gradients = gradients.into_iter();
    graph.gradient = gradients.next();
    if let Some(a) = gradients.next() {
        let b = gradient_of_b(output, &parts, chunks, &mut graph.stages)?;
        graph.update_gradients = Some([a, b]);
    }
    Ok(graph)
}

/// The features of a chunk of positions, of the model and of the base model.
struct Both<'a, O> {
    output: &'a O,
    features: &'a Array,
    base_features: &'a Array,
}

/// Logits of a chunk of the vocabulary.
struct Logits {
    /// Rows of the output matrix, `[range, H + rank]`.
    matrix: Array,
    model: Array,
    base: Array,
    /// The derivative of the model's soft cap, if there is one.
    slope: Option<Array>,
}

impl<O: OutputProjection> Both<'_, O> {
    fn logits(&self, range: Range<usize>) -> Result<Logits> {
        let matrix = self.output.weight(range)?;
        // An update of the output matrix is its last columns.
        let base_matrix = matrix.try_index((.., ..self.base_features.dim(-1)))?;
        let cap = self.output.soft_cap();
        let (model, slope) = soft_cap(&self.features.matmul(matrix.transpose()?)?, cap)?;
        let (base, _) = soft_cap(&self.base_features.matmul(base_matrix.transpose()?)?, cap)?;
        Ok(Logits { matrix, model, base, slope })
    }

    /// The running values of the model and of the base over the whole vocabulary; `None` if it is empty.
    fn over(&self, chunks: Chunks, stages: &mut Vec<Vec<Array>>) -> Result<Option<[Running; 2]>> {
        let mut running: Option<[Running; 2]> = None;
        for range in chunks.of_vocabulary(self.output.vocab_size()) {
            let [model, base] = self.of_chunk(range)?;
            let merged = match running {
                Some([before, base_before]) => [before.merge(model)?, base_before.merge(base)?],
                None => [model, base],
            };
            stages.push(merged.iter().flat_map(Running::arrays).cloned().collect());
            running = Some(merged);
        }
        Ok(running)
    }

    fn of_chunk(&self, range: Range<usize>) -> Result<[Running; 2]> {
        let Logits { matrix, model, base, slope } = self.logits(range)?;
        let sloped = |exps: &Array| match &slope {
            Some(slope) => exps.multiply(slope),
            None => Ok(exps.clone()),
        };
        let [exps, max, sum] = exponentials(&model)?;
        let [base_exps, base_max, base_sum] = exponentials(&base)?;
        let apart = base_exps.multiply(base.subtract(&model)?)?.sum_axis(-1, true)?;
        let totals = vec![sloped(&exps)?.matmul(&matrix)?];
        let base_totals = vec![sloped(&base_exps)?.matmul(&matrix)?, apart];
        Ok([
            Running { max, sum, totals },
            Running { max: base_max, sum: base_sum, totals: base_totals },
        ])
    }
}

/// The running values of a softmax.
struct Running {
    /// The largest logit, `[n, 1]`.
    max: Array,
    /// The sum of `exp(z - max)`, `[n, 1]`.
    sum: Array,
    /// Sums of other values times `exp(z - max)`.
    totals: Vec<Array>,
}

impl Running {
    fn merge(self, next: Self) -> Result<Self> {
        let max = maximum(&self.max, &next.max)?;
        let [old, new] = [exp(&self.max.subtract(&max)?)?, exp(&next.max.subtract(&max)?)?];
        let mix = |a: &Array, b: &Array| -> Result<Array> {
            Ok(a.multiply(&old)?.add(b.multiply(&new)?)?)
        };
        let totals = self.totals.iter().zip(&next.totals).map(|(a, b)| mix(a, b));
        Ok(Self { sum: mix(&self.sum, &next.sum)?, totals: totals.collect::<Result<_>>()?, max })
    }

    fn log_sum_exp(&self) -> Result<Array> {
        Ok(self.max.add(self.sum.log()?)?)
    }

    fn arrays(&self) -> impl Iterator<Item = &Array> {
        [&self.max, &self.sum].into_iter().chain(&self.totals)
    }
}

/// A chunk of positions after the pass over the vocabulary.
struct Part {
    features: Array,
    base_features: Array,
    log_sum: Array,
    base_log_sum: Array,
    weights: Array,
}

/// The gradient with respect to `B` of the output matrix's update, `[rank, vocabulary]`: at each
/// position the difference of the probabilities times the features and the weight.
fn gradient_of_b(
    output: &impl OutputProjection,
    parts: &[Part],
    chunks: Chunks,
    stages: &mut Vec<Vec<Array>>,
) -> Result<Array> {
    let mut columns = Vec::new();
    for range in chunks.of_vocabulary(output.vocab_size()) {
        let mut sum: Option<Array> = None;
        for Part { features, base_features, log_sum, base_log_sum, weights } in parts {
            let both = Both { output, features, base_features };
            let Logits { model, base, slope, .. } = both.logits(range.clone())?;
            let probabilities = exp(&model.subtract(log_sum)?)?;
            let mut apart = probabilities.subtract(exp(&base.subtract(base_log_sum)?)?)?;
            if let Some(slope) = slope {
                apart = apart.multiply(slope)?;
            }
            let low = features.try_index((.., features.dim(-1) - output.rank()..))?;
            let product = low.multiply(weights)?.transpose()?.matmul(apart)?;
            let next = plus(sum, product)?;
            stages.push(vec![next.clone()]);
            sum = Some(next);
        }
        columns.extend(sum);
    }
    let all = concatenate(&columns, -1)?;
    stages.push(vec![all.clone()]);
    Ok(all)
}
