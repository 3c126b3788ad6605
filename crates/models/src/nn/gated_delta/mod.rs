//! The gated delta rule (Yang et al., "Gated Delta Networks", 2024), computed in chunks.
//!
//! Each value head has a state `S` `[Dv, Dk]`. A token with query `q`, key `k`, value `v`, decay `g`
//! and strength `beta` updates it and returns `y`:
//!
//! ```text
//! S <- g S;   S <- S + beta (v - S k) k^T;   y = S q
//! ```
//!
//! Token by token these are matrix-vector products, and a gradient would need the state of every
//! token. In chunks of tokens everything is matrix products, and the backward pass needs only the
//! states at the boundaries of chunks: see [`chunk`]. [`Rule`] has a gradient of its own.

mod chunk;
mod layout;

use std::slice;

use mlx_rs::{Array, Dtype, ops};

use super::rows::Rows;
use crate::backend::Backend;
use crate::ext::fused::exp;
use crate::ext::{self, Differentiable, after, wrong_arrays};
use crate::{Error, Result};
use chunk::{Chunk, Masks};
use layout::Layout;

/// Tokens of a chunk in long rows. The cost of products within a chunk grows with its length; products
/// with the state are once a chunk, and each chunk keeps a state in memory. At the widths of the 27B, 32
/// and 64 take about as long, 16 longer; and 32 pads short rows less (`cargo run --release -p nightshift-benches --example gated-delta`).
pub(crate) const CHUNK: usize = 32;

/// Inputs of the gated delta rule, for rows end to end.
#[derive(Clone, Debug)]
pub struct GatedDelta {
    /// `[1, T, Hk, Dk]`, already scaled.
    pub queries: Array,
    /// `[1, T, Hk, Dk]`, of norm at most 1.
    pub keys: Array,
    /// `[1, T, Hv, Dv]`; each key head serves `Hv / Hk` successive value heads.
    pub values: Array,
    /// `[1, T, Hv]`: the logarithm of the decay, at most 0.
    pub log_decay: Array,
    /// `[1, T, Hv]`, from 0 to 1: how much of the state's value for the key is replaced.
    pub beta: Array,
}

/// The gated delta rule: its output `[1, T, Hv, Dv]` and the states `[rows, Hv, Dv, Dk]` after each
/// row, in f32. Rows start with the states in `before`, or with zeros. Inputs have all tokens of every
/// row, also of a shared prefix.
///
/// Differentiable with respect to all inputs and `before`.
///
/// ```
/// use mlx_rs::Array;
/// use models::layers::{GatedDelta, Rows, gated_delta};
///
/// let of = |values: &[f32], shape: &[i32]| Array::from_slice(values, shape);
/// let inputs = GatedDelta {
///     queries: of(&[1.0, 1.0], &[1, 2, 1, 1]),
///     keys: of(&[1.0, 1.0], &[1, 2, 1, 1]),
///     values: of(&[2.0, 6.0], &[1, 2, 1, 1]),
///     log_decay: of(&[0.0, 0.0], &[1, 2, 1]),
///     beta: of(&[1.0, 0.5], &[1, 2, 1]),
/// };
/// let (output, states) = gated_delta(&inputs, &Rows::new([2])?, None)?;
/// // The second token moves the stored value half of the way to its own.
/// assert_eq!(output.as_slice::<f32>(), [2.0, 4.0]);
/// assert_eq!(states.as_slice::<f32>(), [4.0]);
/// # Ok::<(), models::Error>(())
/// ```
pub fn gated_delta(
    inputs: &GatedDelta,
    rows: &Rows,
    before: Option<&Array>,
) -> Result<(Array, Array)> {
    gated_delta_in_chunks(inputs, rows, before, CHUNK)
}

/// [`gated_delta`] in chunks of at most this many tokens, to measure which length is best.
///
/// # Errors
/// [`Error::Argument`] for a length that is not a power of two.
#[doc(hidden)]
pub fn gated_delta_in_chunks(
    inputs: &GatedDelta,
    rows: &Rows,
    before: Option<&Array>,
    chunk: usize,
) -> Result<(Array, Array)> {
    if !chunk.is_power_of_two() {
        let (expected, found) = ("a power of two".into(), chunk.to_string());
        return Err(Error::Argument { name: "chunk", expected, found });
    }
    in_chunks(Backend::choose(None)?, inputs, rows, before, chunk)
}

/// [`gated_delta_in_chunks`] on a backend.
pub(crate) fn in_chunks(
    backend: Backend,
    inputs: &GatedDelta,
    rows: &Rows,
    before: Option<&Array>,
    chunk: usize,
) -> Result<(Array, Array)> {
    let heads = Heads::of(inputs);
    let before = heads.before(rows, before)?;
    let layout = Layout::new(rows.lengths(), chunk);
    let rule = Rule { masks: Masks::new(layout.chunk()), layout, heads, backend };
    let GatedDelta { queries, keys, values, log_decay, beta } = inputs;
    let inputs = [queries, keys, values, log_decay, beta, &before];
    let f32 = |array: &Array| Ok(array.as_dtype(Dtype::Float32)?);
    let inputs: Vec<Array> = inputs.into_iter().map(f32).collect::<Result<_>>()?;
    let outputs = ext::apply(rule, &inputs)?;
    match outputs.as_slice() {
        [output, states, ..] => Ok((output.as_dtype(values.dtype())?, states.clone())),
        _ => Err(wrong_arrays()),
    }
}

/// [`gated_delta`] without a gradient: with MLX's own kernel if the device has one.
pub(crate) fn infer(
    backend: Backend,
    inputs: &GatedDelta,
    rows: &Rows,
    before: Option<&Array>,
) -> Result<(Array, Array)> {
    match ext::has_gated_delta_kernel(backend) {
        true => by_kernel(inputs, rows, before),
        false => in_chunks(backend, inputs, rows, before, CHUNK),
    }
}

/// Row by row with MLX's kernel.
fn by_kernel(inputs: &GatedDelta, rows: &Rows, before: Option<&Array>) -> Result<(Array, Array)> {
    let GatedDelta { queries, keys, values, log_decay, beta } = inputs;
    let before = Heads::of(inputs).before(rows, before)?;
    let split = |array: &Array| rows.split(array, 1);
    let decay = log_decay.as_dtype(Dtype::Float32)?.exp()?;
    let [queries, keys, values] = [split(queries)?, split(keys)?, split(values)?];
    let [decay, beta] = [split(&decay)?, split(beta)?];
    let states = before.split_equal(rows.lengths().len() as i32, 0)?;
    let (mut outputs, mut ends) = (Vec::new(), Vec::new());
    for (row, state) in states.iter().enumerate() {
        let own = [&queries, &keys, &values, &decay, &beta].map(|rows| &rows[row]);
        let [queries, keys, values, decay, beta] = own;
        let update = ext::gated_delta_update([queries, keys, values, decay, beta, state])?;
        let [output, end] = update;
        outputs.push(output);
        ends.push(end);
    }
    Ok((ops::concatenate(&outputs, 1)?, ops::concatenate(&ends, 0)?))
}

/// One token of each row with MLX's kernel.
fn step_by_kernel(inputs: &GatedDelta, states: &Array) -> Result<(Array, Array)> {
    let GatedDelta { queries, keys, values, log_decay, beta } = inputs;
    let by_row = |array: &Array| array.swap_axes(0, 1);
    let decay = by_row(&log_decay.as_dtype(Dtype::Float32)?.exp()?)?;
    let [queries, keys, values, beta] = [queries, keys, values, beta].map(by_row);
    let inputs = [&queries?, &keys?, &values?, &decay, &beta?, states];
    let [output, states] = ext::gated_delta_update(inputs)?;
    Ok((by_row(&output)?, states))
}

/// The rule for one token of each row `[1, rows, ..]`, for generation. No gradient.
pub(crate) fn step(
    backend: Backend,
    inputs: &GatedDelta,
    states: &Array,
) -> Result<(Array, Array)> {
    if ext::has_gated_delta_kernel(backend) {
        return step_by_kernel(inputs, states);
    }
    let heads = Heads::of(inputs);
    let Heads { key_heads, group, key_dim, value_dim } = heads;
    let rows = states.dim(0);
    let shaped = |array: &Array, group, height, width| {
        array.as_dtype(Dtype::Float32)?.reshape(&[rows, key_heads, group, height, width])
    };
    let state = shaped(states, group, value_dim, key_dim)?;
    let state = state.multiply(exp(backend, &shaped(&inputs.log_decay, group, 1, 1)?)?)?;
    let recalled = state.matmul(shaped(&inputs.keys, 1, key_dim, 1)?)?;
    let surprise = shaped(&inputs.values, group, value_dim, 1)?.subtract(recalled)?;
    let delta = surprise.multiply(shaped(&inputs.beta, group, 1, 1)?)?;
    let state = state.add(delta.multiply(shaped(&inputs.keys, 1, 1, key_dim)?)?)?;
    let output = state.matmul(shaped(&inputs.queries, 1, key_dim, 1)?)?;
    let output = output.reshape(inputs.values.shape())?.as_dtype(inputs.values.dtype())?;
    Ok((output, state.reshape(states.shape())?))
}

/// Number and width of heads.
#[derive(Clone, Copy, Debug)]
struct Heads {
    key_heads: i32,
    /// Value heads that a key head serves.
    group: i32,
    key_dim: i32,
    value_dim: i32,
}

impl Heads {
    fn of(inputs: &GatedDelta) -> Self {
        let (keys, values) = (&inputs.keys, &inputs.values);
        let key_heads = keys.dim(2);
        let group = values.dim(2) / key_heads;
        Self { key_heads, group, key_dim: keys.dim(3), value_dim: values.dim(3) }
    }

    /// The shape of states, `[rows, Hv, Dv, Dk]`.
    fn states(self, rows: i32) -> [i32; 4] {
        [rows, self.key_heads * self.group, self.value_dim, self.key_dim]
    }

    /// The same with the value heads grouped by key head.
    fn grouped(self, rows: i32) -> [i32; 5] {
        [rows, self.key_heads, self.group, self.value_dim, self.key_dim]
    }

    /// The states that rows start with.
    fn before(self, rows: &Rows, given: Option<&Array>) -> Result<Array> {
        Ok(match given {
            Some(states) => states.clone(),
            None => ops::zeros::<f32>(&self.states(rows.lengths().len() as i32))?,
        })
    }
}

/// The rule with its gradient. Beside output and final states it returns the states before each chunk,
/// which the backward pass needs.
struct Rule {
    layout: Layout,
    masks: Masks,
    heads: Heads,
    backend: Backend,
}

impl Differentiable for Rule {
    fn forward(&self, inputs: &[Array]) -> Result<Vec<Array>> {
        let [_, _, values, _, _, before] = self.six(inputs)?;
        let mut states = self.grouped(before)?;
        let (mut outputs, mut boundaries, mut ended) = (Vec::new(), Vec::new(), Vec::new());
        for chunk in self.chunks(inputs)? {
            let (going_on, done) = cut(states, chunk.rows())?;
            ended.extend(done);
            let (output, next) = chunk.forward(&going_on, &self.masks)?;
            // Otherwise MLX may compute all states before the first output, and hold the intermediates
            // that the outputs need of every chunk.
            states = after(&next, slice::from_ref(&output))?;
            boundaries.push(going_on);
            outputs.push(output);
        }
        ended.push(states);
        ended.reverse();
        let output = self.layout.to_tokens(&outputs, values.shape())?;
        let mut all = vec![output, self.ungrouped(&ops::concatenate(&ended, 0)?)?];
        all.extend(boundaries);
        Ok(all)
    }

    fn backward(
        &self,
        inputs: &[Array],
        cotangents: &[Array],
        outputs: &[Array],
    ) -> Result<Vec<Array>> {
        let given = self.six(inputs)?;
        let [to_output, to_states, ..] = cotangents else { return Err(wrong_arrays()) };
        let boundaries = outputs.get(2..).unwrap_or_default();
        let to_output = self.layout.to_chunks_or_zero(to_output, self.heads.key_heads)?;
        let to_states = self.grouped(to_states)?;
        let mut gradients = Vec::with_capacity(boundaries.len());
        let mut states: Option<Array> = None;
        let parts = self.chunks(inputs)?.into_iter().zip(boundaries).zip(&to_output);
        for ((chunk, before), to_output) in parts.rev() {
            // Rows that end with this chunk join those that have later ones.
            let (sooner, _) = cut(to_states.clone(), chunk.rows())?;
            let to_end = match states {
                None => sooner,
                Some(states) => match cut(sooner, states.dim(0))? {
                    (_, Some(joining)) => ops::concatenate(&[states, joining], 0)?,
                    (_, None) => states,
                },
            };
            let (found, earlier) = chunk.backward(before, to_output, &to_end, &self.masks)?;
            states = Some(after(&earlier, &found)?);
            gradients.push(found);
        }
        gradients.reverse();
        let mut all = Vec::with_capacity(given.len());
        for (index, input) in given.iter().take(5).enumerate() {
            let parts = gradients.iter().filter_map(|found| found.get(index).cloned());
            let parts: Vec<Array> = parts.collect();
            all.push(self.layout.to_tokens(&parts, input.shape())?);
        }
        all.push(match states {
            Some(states) => self.ungrouped(&states)?,
            None => cotangents[1].clone(),
        });
        Ok(all)
    }
}

impl Rule {
    fn six<'a>(&self, inputs: &'a [Array]) -> Result<&'a [Array; 6]> {
        inputs.try_into().map_err(|_| wrong_arrays())
    }

    fn chunks(&self, inputs: &[Array]) -> Result<Vec<Chunk>> {
        let [queries, keys, values, log_decay, beta, _] = self.six(inputs)?;
        let Self { layout, heads: Heads { key_heads, .. }, backend, .. } = self;
        let queries = layout.to_chunks(queries, *key_heads)?.into_iter();
        let keys = layout.to_chunks(keys, *key_heads)?;
        let values = layout.to_chunks(values, *key_heads)?;
        // Zeros where a chunk is padded: the state neither decays nor changes.
        let log_decay = layout.to_chunks_or_zero(log_decay, *key_heads)?;
        let beta = layout.to_chunks_or_zero(beta, *key_heads)?;
        let parts = queries.zip(keys).zip(values).zip(log_decay).zip(beta);
        let chunk = |((((queries, keys), values), log_decay), beta)| Chunk {
            queries,
            keys,
            values,
            log_decay,
            beta,
            backend: *backend,
        };
        Ok(parts.map(chunk).collect())
    }

    /// States `[rows, Hv, Dv, Dk]`, longest row first and by key head.
    fn grouped(&self, states: &Array) -> Result<Array> {
        let sorted = self.layout.longest_first(states)?;
        Ok(sorted.reshape(&self.heads.grouped(states.dim(0)))?)
    }

    /// The reverse of [`grouped`](Self::grouped).
    fn ungrouped(&self, states: &Array) -> Result<Array> {
        let sorted = self.layout.in_order(states)?;
        Ok(sorted.reshape(&self.heads.states(states.dim(0)))?)
    }
}

/// The first few rows, and the others if there are any.
fn cut(states: Array, rows: i32) -> Result<(Array, Option<Array>)> {
    if states.dim(0) <= rows {
        return Ok((states, None));
    }
    let mut parts = states.split_at_indices(&[rows], 0)?.into_iter();
    Ok((parts.next().unwrap_or(states), parts.next()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without a kernel MLX computes token by token, with the same result.
    #[test]
    fn mlxs_own_rule_and_single_steps_agree_with_chunks() {
        let noise = |seed: f32, shape: &[i32]| {
            let count = shape.iter().product::<i32>();
            let values = (0..count).map(|i| (seed + i as f32 * 1.7).sin() * 0.4);
            Array::from_iter(values, shape)
        };
        let inputs = |tokens: i32| GatedDelta {
            queries: noise(1.0, &[1, tokens, 2, 4]),
            keys: noise(2.0, &[1, tokens, 2, 4]),
            values: noise(3.0, &[1, tokens, 4, 3]),
            log_decay: noise(4.0, &[1, tokens, 4]).abs().unwrap().negative().unwrap(),
            beta: noise(5.0, &[1, tokens, 4]).abs().unwrap(),
        };
        let close = |a: &(Array, Array), b: &(Array, Array)| {
            // Sums of a few numbers in f32 in another order.
            let close = |a: &Array, b: &Array| a.all_close(b, 1e-5, 1e-6, None).unwrap();
            assert!(close(&a.0, &b.0) && close(&a.1, &b.1));
        };
        let (rows, before) = (Rows::new([5, 1, 3]).unwrap(), noise(6.0, &[3, 4, 3, 4]));
        let chunked = gated_delta(&inputs(9), &rows, Some(&before)).unwrap();
        close(&chunked, &by_kernel(&inputs(9), &rows, Some(&before)).unwrap());
        let (rows, inputs) = (Rows::new([1, 1, 1]).unwrap(), inputs(3));
        let chunked = gated_delta(&inputs, &rows, Some(&before)).unwrap();
        let backend = Backend::choose(None).unwrap();
        close(&chunked, &step(backend, &inputs, &before).unwrap());
        close(&chunked, &step_by_kernel(&inputs, &before).unwrap());
    }
}
