//! Cross-entropy over the supervised positions, without ever holding their logits.
//!
//! The vocabulary is walked in chunks. As in flash attention, a few running values per position
//! are enough: the largest logit `m`, the sum `s` of `exp(z - m)`, and the sum of
//! `exp(z - m) * dz/dh`, the latter two rescaled whenever `m` grows. At the end
//! `loss = m + ln(s) - z_target`, and its gradient follows without a second pass over the weights.
//!
//! Only what is trained of the output itself takes one: for its gradient, each token's share of the
//! probability at each position has to be known, hence the sum over the whole vocabulary.

#[cfg(test)]
mod tests;

use std::ops::Range;

use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::ops::{concatenate, maximum, zeros_dtype};
use mlx_rs::{Array, transforms};
use models::train_support::{self, exp, exponentials};

use super::output::Output;
use crate::Result;

/// Logits that exist at one time in a lane, at most: 32 MiB in f32.
const LOGITS_AT_ONCE: usize = 8 << 20;
/// With fewer positions, reading and unpacking the weights costs more than multiplying by them.
const LEAST_POSITIONS: usize = 512;

/// Whether the gradient is wanted beside the loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Want {
    /// The loss only, as in validation.
    Loss,
    /// Loss and gradient; the gradient is multiplied by this: one over the trained tokens of the
    /// update makes it that of the update's mean.
    Gradient(f32),
}

/// How many positions and how many tokens of the vocabulary are looked at together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunks {
    positions: usize,
    vocabulary: usize,
}

impl Chunks {
    /// As many positions as leave room for the whole vocabulary, within reason.
    pub(crate) fn of(vocabulary: usize) -> Self {
        let positions = (LOGITS_AT_ONCE / vocabulary.max(1)).max(LEAST_POSITIONS);
        Self { positions, vocabulary: vocabulary.min(LOGITS_AT_ONCE / positions).max(1) }
    }

    /// Positions and tokens of the vocabulary in one chunk when there are so many positions.
    pub(crate) fn sizes(self, positions: usize) -> (usize, usize) {
        (self.positions.min(positions), self.vocabulary)
    }

    fn of_vocabulary(self, size: usize) -> impl Iterator<Item = Range<usize>> {
        let step = self.vocabulary;
        (0..size).step_by(step).map(move |start| start..(start + step).min(size))
    }

    /// How often the weights are gone through for so many positions.
    pub(crate) fn rounds(self, positions: usize) -> usize {
        positions.div_ceil(self.positions)
    }
}

/// Loss and gradient, not computed yet.
///
/// Everything is built before anything is evaluated, so that it can be part of a larger graph;
/// evaluated stage by stage, no more than a chunk of logits exists at one time.
#[derive(Default)]
pub(crate) struct HeadLoss {
    stages: Vec<Vec<Array>>,
    losses: Vec<Array>,
    /// The gradient with respect to the hidden states, if wanted.
    pub(crate) gradient: Option<Array>,
    /// And those of the update's `A` `[H, rank]` and `B` `[rank, vocabulary]`, if there is one.
    pub(crate) update: Option<[Array; 2]>,
}

impl HeadLoss {
    /// Computes the loss at each target and, on the way, the gradient.
    pub(crate) fn evaluate(self) -> Result<Vec<f32>> {
        for stage in self.stages {
            transforms::eval(&stage)?;
        }
        let mut values = Vec::new();
        for losses in &self.losses {
            values.extend_from_slice(losses.try_as_slice::<f32>()?);
        }
        Ok(values)
    }
}

/// Cross-entropy at each of `targets`, given the hidden states `[n, H]` (before the final norm) that
/// predict them; with the gradient of their sum, if wanted.
pub(crate) fn cross_entropy(
    output: &impl Output,
    hidden: &Array,
    targets: &[u32],
    want: Want,
    chunks: Chunks,
) -> Result<HeadLoss> {
    let mut graph = HeadLoss::default();
    let features = output.features(hidden, output.inner())?;
    let mut parts = Vec::new();
    let mut pulls = Vec::new();
    let mut end = 0;
    for targets in targets.chunks(chunks.positions.max(1)) {
        let start = end;
        end += targets.len() as i32;
        let features = features.try_index((start..end, ..))?;
        let Some(running) =
            Running::over(output, &features, targets, want, chunks, &mut graph.stages)?
        else {
            // A model without a vocabulary predicts nothing.
            continue;
        };
        let log_total = running.peak.add(running.total.log()?)?;
        let losses = log_total.subtract(&running.target_logit)?;
        let pull = running.pull(want)?;
        graph.stages.push([&losses].into_iter().chain(&pull).cloned().collect());
        graph.losses.push(losses);
        pulls.extend(pull);
        let target_logit = running.target_logit;
        parts.push(Part { features, targets, log_total, target_logit });
    }
    if let Want::Gradient(factor) = want {
        // Back through the update's `A` and the final norm.
        let primals: Vec<Array> = [hidden].into_iter().chain(output.inner()).cloned().collect();
        let function = |x: &[Array]| Ok(vec![output.features(&x[0], x.get(1))?]);
        let pull = concatenate(&pulls, 0)?;
        let (_, gradients) = transforms::fallible_vjp(function, &primals, &[pull])?;
        graph.stages.push(gradients.clone());
        let mut gradients = gradients.into_iter();
        graph.gradient = gradients.next();
        if let Some(inner) = gradients.next() {
            let outer = of_trained_columns(output, &parts, factor, chunks, &mut graph.stages)?;
            graph.update = Some([inner, outer]);
        }
    }
    Ok(graph)
}

/// Some positions, after the vocabulary has been walked for them.
struct Part<'a> {
    features: Array,
    targets: &'a [u32],
    /// The logarithm of the sum of `exp(z)`, `[n, 1]`.
    log_total: Array,
    /// `[n, 1]`.
    target_logit: Array,
}

impl Part<'_> {
    /// What the trained columns are multiplied by, `[n, rank]`.
    fn own(&self, output: &impl Output) -> Result<Array> {
        Ok(self.features.try_index((.., self.features.dim(-1) - output.rank()..))?)
    }

    /// What the gradient has for the rows of the targets themselves: `[vocabulary, rank]`, zero
    /// everywhere else.
    fn of_targets(&self, output: &impl Output) -> Result<Array> {
        let mut own = self.own(output)?;
        if let Some(cap) = output.soft_cap() {
            own = own.multiply(train_support::soft_cap_slope(&self.target_logit, cap)?)?;
        }
        add_by_index(own, self.targets, output.vocab_size())
    }
}

/// The gradient of the trained columns of the output's matrix, transposed: `[rank, vocabulary]`.
fn of_trained_columns(
    output: &impl Output,
    parts: &[Part<'_>],
    factor: f32,
    chunks: Chunks,
    stages: &mut Vec<Vec<Array>>,
) -> Result<Array> {
    let mut columns = Vec::new();
    for range in chunks.of_vocabulary(output.vocab_size()) {
        let weights = output.weight(range)?;
        let mut sum: Option<Array> = None;
        for part in parts {
            let products = part.features.matmul(weights.transpose()?)?;
            let (logits, slope) = soft_cap(&products, output.soft_cap())?;
            let mut shares = exp(&logits.subtract(&part.log_total)?)?;
            if let Some(slope) = slope {
                shares = shares.multiply(slope)?;
            }
            let next = plus(sum, part.own(output)?.transpose()?.matmul(shares)?)?;
            stages.push(vec![next.clone()]);
            sum = Some(next);
        }
        columns.extend(sum);
    }
    let mut of_targets: Option<Array> = None;
    for part in parts {
        of_targets = Some(plus(of_targets, part.of_targets(output)?)?);
    }
    let mut all = concatenate(&columns, -1)?;
    if let Some(of_targets) = of_targets {
        all = all.subtract(of_targets.transpose()?)?;
    }
    let all = all.multiply(Array::from_f32(factor))?;
    stages.push(vec![all.clone()]);
    Ok(all)
}

/// Rows `[n, d]` added up at their places among `total`: `[total, d]`, zero where there is none.
pub(super) fn add_by_index(rows: Array, places: &[u32], total: usize) -> Result<Array> {
    // Adding up by index is what the gradient of choosing by index does.
    let places = Array::from_slice(places, &[places.len() as i32]);
    let sums = zeros_dtype(&[total as i32, rows.dim(-1)], rows.dtype())?;
    let choose = |sums: &[Array]| Ok(vec![sums[0].take_axis(&places, 0)?]);
    let (_, mut sums) = transforms::fallible_vjp(choose, &[sums], &[rows])?;
    Ok(sums.remove(0))
}

fn plus(sum: Option<Array>, next: Array) -> Result<Array> {
    match sum {
        Some(sum) => Ok(sum.add(next)?),
        None => Ok(next),
    }
}

/// The running values of `n` positions.
struct Running {
    /// `m`, `[n, 1]`.
    peak: Array,
    /// `s`, `[n, 1]`.
    total: Array,
    /// `[n, 1]`.
    target_logit: Array,
    /// The sum of `exp(z - m) * dz/dh` and the target's own `dz/dh`, both as wide as the features `h`.
    pulls: Option<(Array, Array)>,
}

impl Running {
    /// Walks the vocabulary; `None` if there is none.
    fn over(
        output: &impl Output,
        features: &Array,
        targets: &[u32],
        want: Want,
        chunks: Chunks,
        stages: &mut Vec<Vec<Array>>,
    ) -> Result<Option<Self>> {
        let mut running: Option<Self> = None;
        for range in chunks.of_vocabulary(output.vocab_size()) {
            let chunk = Self::of_chunk(output, features, targets, range, want)?;
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
        output: &impl Output,
        features: &Array,
        targets: &[u32],
        range: Range<usize>,
        want: Want,
    ) -> Result<Self> {
        let weights = output.weight(range.clone())?;
        let (logits, slope) = soft_cap(&features.matmul(weights.transpose()?)?, output.soft_cap())?;
        let [mut e, peak, total] = exponentials(&logits)?;

        let (local, inside) = within(targets, range);
        let target_rows = weights.take_axis(local, 0)?;
        let raw = features.multiply(&target_rows)?.sum_axis(-1, true)?;
        let (target_logit, target_slope) = soft_cap(&raw, output.soft_cap())?;
        let pulls = match want {
            Want::Loss => None,
            Want::Gradient(_) => {
                let mut target_pull = target_rows.multiply(&inside)?;
                if let (Some(slope), Some(target_slope)) = (slope, target_slope) {
                    e = e.multiply(slope)?;
                    target_pull = target_pull.multiply(target_slope)?;
                }
                Some((e.matmul(&weights)?, target_pull))
            }
        };
        Ok(Self { peak, total, target_logit: target_logit.multiply(&inside)?, pulls })
    }

    fn merge(self, next: Self) -> Result<Self> {
        let peak = maximum(&self.peak, &next.peak)?;
        let keep = exp(&self.peak.subtract(&peak)?)?;
        let gain = exp(&next.peak.subtract(&peak)?)?;
        let mix = |a: &Array, b: &Array| a.multiply(&keep)?.add(b.multiply(&gain)?);
        let pulls = match (self.pulls, next.pulls) {
            (Some((pull, target)), Some((next_pull, next_target))) => {
                Some((mix(&pull, &next_pull)?, target.add(next_target)?))
            }
            _ => None,
        };
        Ok(Self {
            total: mix(&self.total, &next.total)?,
            target_logit: self.target_logit.add(next.target_logit)?,
            peak,
            pulls,
        })
    }

    /// The gradient with respect to the features, if wanted.
    fn pull(&self, want: Want) -> Result<Option<Array>> {
        Ok(match (&self.pulls, want) {
            (Some((pull, target_pull)), Want::Gradient(factor)) => {
                let gradient = pull.divide(&self.total)?.subtract(target_pull)?;
                Some(gradient.multiply(Array::from_f32(factor))?)
            }
            _ => None,
        })
    }

    fn arrays(&self) -> impl Iterator<Item = &Array> {
        let pulls = self.pulls.iter().flat_map(|(pull, target)| [pull, target]);
        [&self.peak, &self.total, &self.target_logit].into_iter().chain(pulls)
    }
}

/// `cap * tanh(z / cap)` and its slope; the identity, whose slope is left out, without a cap.
fn soft_cap(z: &Array, cap: Option<f32>) -> Result<(Array, Option<Array>)> {
    let Some(cap) = cap else { return Ok((z.clone(), None)) };
    let bent = train_support::soft_cap(z, cap)?;
    let slope = train_support::soft_cap_slope(&bent, cap)?;
    Ok((bent, Some(slope)))
}

/// Where in `range` each target lies (any place when it does not), and `[n, 1]` ones for those
/// that do, zeros for the others.
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
