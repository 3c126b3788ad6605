//! Cross-entropy at the trained positions, in chunks of the vocabulary, so that their logits never
//! exist at once.
//!
//! As in flash attention (online softmax), a few running values per position are enough: the largest
//! logit `m`, the sum `s` of `exp(z - m)`, and the sum of `exp(z - m) * dz/dh`, the latter two
//! rescaled whenever `m` grows. At the end `loss = m + ln(s) - z_target`, and its gradient with
//! respect to the features `h` follows without a second pass over the vocabulary.
//!
//! The gradient of an update of the output matrix takes a second pass: it is a sum over positions of
//! probabilities, which are known only after the first.

#[cfg(test)]
mod tests;

use std::ops::Range;

use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::ops::{concatenate, maximum};
use mlx_rs::{Array, transforms};
use models::train_support::{self, exp, exponentials};

use super::chunks::Chunks;
use super::output::OutputProjection;
use super::positions::scatter_add;
use super::weights::{TargetWeights, rows_of};
use crate::Result;

/// Whether the gradient is computed too.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LossMode<'a> {
    /// The loss only.
    Eval,
    /// The loss, and the gradient of the weighted sum of the targets' losses.
    Train(&'a TargetWeights),
}

/// The unevaluated loss and its gradients.
///
/// It is a graph so that it can be part of a larger one. [`evaluate`](Self::evaluate) computes it
/// stage by stage, with one chunk of logits in memory at a time.
#[derive(Default)]
pub(crate) struct HeadLoss {
    pub(super) stages: Vec<Vec<Array>>,
    /// At each position, `[n, 1]` of each chunk.
    pub(super) losses: Vec<Array>,
    /// Divergences from the base model at each position, likewise.
    divergences: Vec<Array>,
    /// With respect to the hidden states, `[n, H]`; `None` for the loss alone.
    pub(crate) gradient: Option<Array>,
    /// With respect to `A` `[H, rank]` and `B` `[rank, vocabulary]` of the output matrix's update, if
    /// it has one.
    pub(crate) update_gradients: Option<[Array; 2]>,
}

/// What a head loss comes to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct HeadValues {
    /// The loss at each target.
    pub(crate) losses: Vec<f32>,
    /// The divergence from the base model at each anchored position.
    pub(crate) divergences: Vec<f32>,
}

impl HeadLoss {
    /// Computes the gradients and returns the values.
    pub(crate) fn evaluate(self) -> Result<HeadValues> {
        for stage in self.stages {
            transforms::eval(&stage)?;
        }
        Ok(HeadValues { losses: values(&self.losses)?, divergences: values(&self.divergences)? })
    }

    /// Adds the divergence `other`, whose gradients are of the same hidden states.
    pub(super) fn with_divergence(mut self, other: Self) -> Result<Self> {
        self.stages.extend(other.stages);
        self.divergences.extend(other.losses);
        self.gradient = match (self.gradient, other.gradient) {
            (Some(a), Some(b)) => Some(a.add(b)?),
            (a, b) => a.or(b),
        };
        self.update_gradients = match (self.update_gradients, other.update_gradients) {
            (Some([a, b]), Some([c, d])) => Some([a.add(c)?, b.add(d)?]),
            (a, b) => a.or(b),
        };
        Ok(self)
    }
}

fn values(chunks: &[Array]) -> Result<Vec<f32>> {
    let mut values = Vec::new();
    for chunk in chunks {
        values.extend_from_slice(chunk.try_as_slice::<f32>()?);
    }
    Ok(values)
}

/// Cross-entropy at each of the `n` targets, given the hidden states `[n, H]` before the final norm.
pub(crate) fn cross_entropy(
    output: &impl OutputProjection,
    hidden: &Array,
    targets: &[u32],
    mode: LossMode<'_>,
    chunks: Chunks,
) -> Result<HeadLoss> {
    let mut graph = HeadLoss::default();
    let features = output.features(hidden, output.lora_a())?;
    let mut parts = Vec::new();
    let mut feature_gradients = Vec::new();
    for range in chunks.of_positions(targets.len() as i32) {
        let targets = &targets[range.start as usize..range.end as usize];
        let features = features.try_index((range.clone(), ..))?;
        let Some(running) =
            OnlineSoftmax::over(output, &features, targets, mode, chunks, &mut graph.stages)?
        else {
            // The vocabulary is empty.
            continue;
        };
        let log_sum_exp = running.max.add(running.sum.log()?)?;
        let losses = log_sum_exp.subtract(&running.target_logit)?;
        let gradient = running.feature_gradient()?;
        graph.stages.push([&losses].into_iter().chain(&gradient).cloned().collect());
        graph.losses.push(losses);
        feature_gradients.extend(gradient);
        let target_logit = running.target_logit;
        parts.push(Positions { range, features, targets, log_sum_exp, target_logit });
    }
    if let LossMode::Train(weights) = mode {
        let weights = weights.of(&graph.losses)?;
        graph.stages.push(vec![weights.clone()]);
        let cotangent = concatenate(&feature_gradients, 0)?.multiply(&weights)?;
        let gradients = before_features(output, hidden, cotangent)?;
        graph.stages.push(gradients.clone());
        let mut gradients = gradients.into_iter();
        graph.gradient = gradients.next();
        if let Some(a) = gradients.next() {
            let b = gradient_of_b(output, &parts, &weights, chunks, &mut graph.stages)?;
            graph.update_gradients = Some([a, b]);
        }
    }
    Ok(graph)
}

/// A chunk of `n` positions after the pass over the vocabulary.
struct Positions<'a> {
    /// Their indices among all positions.
    range: Range<i32>,
    features: Array,
    targets: &'a [u32],
    /// `ln(sum(exp(z)))` over the vocabulary, `[n, 1]`.
    log_sum_exp: Array,
    /// `[n, 1]`.
    target_logit: Array,
}

impl Positions<'_> {
    /// The features that are multiplied by `B`, times the weights of the positions: `[n, rank]`.
    fn lora_features(&self, output: &impl OutputProjection, weights: &Array) -> Result<Array> {
        let features = self.features.try_index((.., self.features.dim(-1) - output.rank()..))?;
        Ok(features.multiply(rows_of(weights, &self.range)?)?)
    }

    /// The weighted gradient of the targets' logits with respect to `B`, transposed:
    /// `[vocabulary, rank]`.
    fn target_gradient(&self, output: &impl OutputProjection, weights: &Array) -> Result<Array> {
        let mut features = self.lora_features(output, weights)?;
        if let Some(cap) = output.soft_cap() {
            features =
                features.multiply(train_support::soft_cap_slope(&self.target_logit, cap)?)?;
        }
        scatter_add(features, self.targets, output.vocab_size())
    }
}

/// The gradient with respect to `B` of the output matrix's update, `[rank, vocabulary]`: at each
/// position the probabilities, minus one at the target, times the features and the weight.
fn gradient_of_b(
    output: &impl OutputProjection,
    parts: &[Positions<'_>],
    weights: &Array,
    chunks: Chunks,
    stages: &mut Vec<Vec<Array>>,
) -> Result<Array> {
    let mut columns = Vec::new();
    for range in chunks.of_vocabulary(output.vocab_size()) {
        let matrix = output.weight(range)?;
        let mut sum: Option<Array> = None;
        for part in parts {
            let products = part.features.matmul(matrix.transpose()?)?;
            let (logits, slope) = soft_cap(&products, output.soft_cap())?;
            let mut probabilities = exp(&logits.subtract(&part.log_sum_exp)?)?;
            if let Some(slope) = slope {
                probabilities = probabilities.multiply(slope)?;
            }
            let features = part.lora_features(output, weights)?;
            let product = features.transpose()?.matmul(probabilities)?;
            let next = plus(sum, product)?;
            stages.push(vec![next.clone()]);
            sum = Some(next);
        }
        columns.extend(sum);
    }
    let mut at_targets: Option<Array> = None;
    for part in parts {
        at_targets = Some(plus(at_targets, part.target_gradient(output, weights)?)?);
    }
    let mut all = concatenate(&columns, -1)?;
    if let Some(at_targets) = at_targets {
        all = all.subtract(at_targets.transpose()?)?;
    }
    stages.push(vec![all.clone()]);
    Ok(all)
}

/// The gradients with respect to the hidden states and to the update's `A`, if there is one, given that of
/// the features: backward through `A` and the final norm.
pub(super) fn before_features(
    output: &impl OutputProjection,
    hidden: &Array,
    cotangent: Array,
) -> Result<Vec<Array>> {
    let primals: Vec<Array> = [hidden].into_iter().chain(output.lora_a()).cloned().collect();
    let function = |x: &[Array]| Ok(vec![output.features(&x[0], x.get(1))?]);
    let (_, gradients) = transforms::fallible_vjp(function, &primals, &[cotangent])?;
    Ok(gradients)
}

pub(super) fn plus(sum: Option<Array>, next: Array) -> Result<Array> {
    match sum {
        Some(sum) => Ok(sum.add(next)?),
        None => Ok(next),
    }
}

/// The running values of `n` positions.
struct OnlineSoftmax {
    /// `m`, `[n, 1]`.
    max: Array,
    /// `s`, `[n, 1]`.
    sum: Array,
    /// `[n, 1]`; 0 until the target's chunk.
    target_logit: Array,
    /// The sum of `exp(z - m) * dz/dh`, and `dz/dh` of the target, both of the features' shape.
    gradients: Option<(Array, Array)>,
}

impl OnlineSoftmax {
    /// The values of the whole vocabulary; `None` if it is empty.
    fn over(
        output: &impl OutputProjection,
        features: &Array,
        targets: &[u32],
        mode: LossMode<'_>,
        chunks: Chunks,
        stages: &mut Vec<Vec<Array>>,
    ) -> Result<Option<Self>> {
        let mut running: Option<Self> = None;
        for range in chunks.of_vocabulary(output.vocab_size()) {
            let chunk = Self::of_chunk(output, features, targets, range, mode)?;
            let merged = match running {
                Some(before) => before.merge(chunk)?,
                None => chunk,
            };
            stages.push(merged.arrays().cloned().collect());
            running = Some(merged);
        }
        Ok(running)
    }

    fn of_chunk(
        output: &impl OutputProjection,
        features: &Array,
        targets: &[u32],
        range: Range<usize>,
        mode: LossMode<'_>,
    ) -> Result<Self> {
        let weights = output.weight(range.clone())?;
        let (logits, slope) = soft_cap(&features.matmul(weights.transpose()?)?, output.soft_cap())?;
        let [mut exps, max, sum] = exponentials(&logits)?;

        let (local, inside) = within(targets, range);
        let target_rows = weights.take_axis(local, 0)?;
        let raw = features.multiply(&target_rows)?.sum_axis(-1, true)?;
        let (target_logit, target_slope) = soft_cap(&raw, output.soft_cap())?;
        let gradients = match mode {
            LossMode::Eval => None,
            LossMode::Train(_) => {
                let mut at_target = target_rows.multiply(&inside)?;
                if let (Some(slope), Some(target_slope)) = (slope, target_slope) {
                    exps = exps.multiply(slope)?;
                    at_target = at_target.multiply(target_slope)?;
                }
                Some((exps.matmul(&weights)?, at_target))
            }
        };
        Ok(Self { max, sum, target_logit: target_logit.multiply(&inside)?, gradients })
    }

    fn merge(self, next: Self) -> Result<Self> {
        let max = maximum(&self.max, &next.max)?;
        let [old_factor, new_factor] =
            [exp(&self.max.subtract(&max)?)?, exp(&next.max.subtract(&max)?)?];
        let mix = |a: &Array, b: &Array| a.multiply(&old_factor)?.add(b.multiply(&new_factor)?);
        let gradients = match (self.gradients, next.gradients) {
            (Some((weighted, target)), Some((next_weighted, next_target))) => {
                Some((mix(&weighted, &next_weighted)?, target.add(next_target)?))
            }
            _ => None,
        };
        Ok(Self {
            sum: mix(&self.sum, &next.sum)?,
            target_logit: self.target_logit.add(next.target_logit)?,
            max,
            gradients,
        })
    }

    /// The gradient of each position's loss with respect to its features, in training.
    fn feature_gradient(&self) -> Result<Option<Array>> {
        let Some((weighted, target)) = &self.gradients else { return Ok(None) };
        Ok(Some(weighted.divide(&self.sum)?.subtract(target)?))
    }

    fn arrays(&self) -> impl Iterator<Item = &Array> {
        let gradients = self.gradients.iter().flat_map(|(weighted, target)| [weighted, target]);
        [&self.max, &self.sum, &self.target_logit].into_iter().chain(gradients)
    }
}

/// `cap * tanh(z / cap)` and its derivative; without a cap, `z` and `None`.
pub(super) fn soft_cap(z: &Array, cap: Option<f32>) -> Result<(Array, Option<Array>)> {
    let Some(cap) = cap else { return Ok((z.clone(), None)) };
    let capped = train_support::soft_cap(z, cap)?;
    let slope = train_support::soft_cap_slope(&capped, cap)?;
    Ok((capped, Some(slope)))
}

/// The index of each target within `range`, 0 if it is outside, and a mask `[n, 1]` of those inside.
fn within(targets: &[u32], range: Range<usize>) -> (Array, Array) {
    let n = targets.len() as i32;
    let inside = |target: u32| range.contains(&(target as usize));
    let local = targets
        .iter()
        .map(|&t| if inside(t) { t - range.start as u32 } else { 0 })
        .collect::<Vec<_>>();
    let mask = targets.iter().map(|&t| f32::from(u8::from(inside(t)))).collect::<Vec<_>>();
    (Array::from_slice(&local, &[n]), Array::from_slice(&mask, &[n, 1]))
}
