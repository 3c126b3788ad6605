//! The layer of a Qwen3.5 that remembers by the gated delta rule.

use mlx_rs::{Array, Dtype, ops};

use super::convolution::Convolution;
use super::shape::{A, A_LOG, B, CONVOLUTION, DT_BIAS, DeltaShape, OUT, OUTPUT_NORM, QKV, Z};
use crate::Result;
use crate::adapter::LayerAdapter;
use crate::nn::attention::{Attend, Beginning};
use crate::nn::cache::State;
use crate::checkpoint::Tensors;
use crate::arch::config::Config;
use crate::ext::fused::{Activation, activate, gate, rms_norm};
use crate::nn::gated_delta::{self, GatedDelta, gated_delta};
use crate::model::layer::Batch;
use crate::nn::linear::Linear;
use crate::nn::recompute::Made;

/// Added to the sum of squares where queries and keys are brought to length one.
const LENGTH_EPS: f32 = 1e-6;

#[derive(Clone)]
pub(crate) struct DeltaNet {
    qkv: Linear,
    z: Linear,
    b: Linear,
    a: Linear,
    out: Linear,
    convolution: Convolution,
    /// `-e^A_log`, f32.
    rate: Array,
    /// f32.
    dt_bias: Array,
    norm: Array,
    norm_eps: f32,
    shape: DeltaShape,
}

impl DeltaNet {
    /// Takes its tensors, all below `prefix`.
    pub fn load(
        config: &Config,
        shape: DeltaShape,
        prefix: &str,
        tensors: &mut Tensors,
    ) -> Result<Self> {
        let path = |path: &str| format!("{prefix}.{path}");
        Ok(Self {
            qkv: tensors.linear(&path(QKV))?,
            z: tensors.linear(&path(Z))?,
            b: tensors.linear(&path(B))?,
            a: tensors.linear(&path(A))?,
            out: tensors.linear(&path(OUT))?,
            convolution: Convolution::new(&tensors.vector(&path(CONVOLUTION))?)?,
            rate: tensors.precise(&path(A_LOG))?.exp()?.negative()?,
            dt_bias: tensors.precise(&path(DT_BIAS))?,
            norm: tensors.vector(&path(OUTPUT_NORM))?,
            norm_eps: config.norm_eps,
            shape,
        })
    }

    pub fn forward(
        &self,
        x: &Made,
        batch: &Batch,
        adapter: &LayerAdapter,
        mode: Attend<'_>,
    ) -> Result<Array> {
        let [qkv, z, b, a] = x.through([
            (&self.qkv, adapter.get(QKV)),
            (&self.z, adapter.get(Z)),
            (&self.b, adapter.get(B)),
            (&self.a, adapter.get(A)),
        ])?;
        let gates = self.gates(&b, &a)?;
        let rows = batch.rows();
        let output = match mode {
            Attend::Step { cache, .. } => {
                let cache = cache.state()?;
                let (mixed, inputs) = self.convolution.step(&qkv, &cache.inputs)?;
                let (output, state) =
                    gated_delta::step(&self.inputs(&mixed, gates)?, &cache.state)?;
                *cache = State { inputs, state };
                output
            }
            Attend::Rows => {
                let [decay, beta] = gates;
                let gates = [rows.whole(&decay)?, rows.whole(&beta)?];
                let before = self.blank(rows.lengths().len(), qkv.dtype())?;
                let (mixed, _) = self.convolution.rows(&rows.whole(&qkv)?, rows, &before.inputs)?;
                let inputs = self.inputs(&mixed, gates)?;
                rows.once(&gated_delta(&inputs, rows, Some(&before.state))?.0)?
            }
            Attend::Beginnings { kept } => {
                let before = self.blank(rows.lengths().len(), qkv.dtype())?;
                let (output, ends) = self.after(&before, &qkv, gates, batch)?;
                kept.extend(ends.by_row()?.into_iter().map(Beginning::State));
                output
            }
            Attend::Prompts { cache, first, beginnings, .. } => {
                let before = self.before(rows.lengths().len(), beginnings, qkv.dtype())?;
                let (output, ends) = self.after(&before, &qkv, gates, batch)?;
                cache.state()?.write(first, &ends)?;
                output
            }
        };
        let DeltaShape { value_heads, value_dim, .. } = self.shape;
        let z = z.reshape(&[1, -1, value_heads as i32, value_dim as i32])?;
        let normed = rms_norm(&output, Some(&self.norm), self.norm_eps)?;
        let [z, normed] = [z, normed].map(|array| array.as_dtype(Dtype::Float32));
        let gated = gate(Activation::Silu, &z?, &normed?)?.as_dtype(qkv.dtype())?;
        self.out.apply(&gated.flatten(2, -1)?, adapter.get(OUT))
    }

    /// Log decay and beta of each token and value head.
    fn gates(&self, b: &Array, a: &Array) -> Result<[Array; 2]> {
        let beta = activate(Activation::Sigmoid, b)?;
        let a = a.as_dtype(Dtype::Float32)?;
        // Softplus: log(e^0 + e^a).
        let softplus = ops::logaddexp(a.add(&self.dt_bias)?, Array::from_f32(0.0))?;
        Ok([softplus.multiply(&self.rate)?, beta])
    }

    /// What the rule is applied to, from what the convolution made of queries, keys and values.
    fn inputs(&self, mixed: &Array, [log_decay, beta]: [Array; 2]) -> Result<GatedDelta> {
        let DeltaShape { key_heads, value_heads, key_dim, value_dim, .. } = self.shape;
        let keys = self.shape.keys() as i32;
        let parts = activate(Activation::Silu, mixed)?.split_at_indices(&[keys, 2 * keys], -1)?;
        let heads = |part: usize, heads: usize, width: usize| {
            parts[part].reshape(&[1, -1, heads as i32, width as i32])
        };
        // A vector of mean square one has a length of sqrt(d).
        let width = key_dim as f32;
        let of_length = |x: Array, length: f32| {
            rms_norm(&x, None, LENGTH_EPS / width)?.multiply(scalar(length / width.sqrt(), &x)?)
        };
        Ok(GatedDelta {
            queries: of_length(heads(0, key_heads, key_dim)?, width.sqrt().recip())?,
            keys: of_length(heads(1, key_heads, key_dim)?, 1.0)?,
            values: heads(2, value_heads, value_dim)?,
            log_decay,
            beta,
        })
    }

    /// Rows after what came before them; with what they end with.
    fn after(
        &self,
        before: &State,
        qkv: &Array,
        gates: [Array; 2],
        batch: &Batch,
    ) -> Result<(Array, State)> {
        let (mixed, inputs) = self.convolution.rows(qkv, batch.rows(), &before.inputs)?;
        let (output, state) =
            gated_delta::infer(&self.inputs(&mixed, gates)?, batch.rows(), Some(&before.state))?;
        Ok((output, State { inputs, state }))
    }

    /// What so many rows begin with that have nothing before them.
    fn blank(&self, rows: usize, dtype: Dtype) -> Result<State> {
        let DeltaShape { value_heads, key_dim, value_dim, taps, .. } = self.shape;
        State::new(
            rows,
            [taps - 1, self.shape.channels()],
            [value_heads, value_dim, key_dim],
            dtype,
        )
    }

    /// What rows begin with of which some have a beginning.
    fn before(
        &self,
        rows: usize,
        beginnings: &[Option<&Beginning>],
        dtype: Dtype,
    ) -> Result<State> {
        if beginnings.iter().all(Option::is_none) {
            return self.blank(rows, dtype);
        }
        let blank = self.blank(1, dtype)?;
        let row = |beginning: &Option<&Beginning>| match beginning {
            Some(Beginning::State(state)) => state.clone(),
            _ => blank.clone(),
        };
        State::joined(&beginnings.iter().map(row).collect::<Vec<_>>())
    }

    pub fn arrays(&self) -> Vec<&Array> {
        let Self { qkv, z, b, a, out, convolution, rate, dt_bias, norm, .. } = self;
        let linears = [qkv, z, b, a, out].into_iter().flat_map(Linear::arrays);
        linears.chain(convolution.arrays()).chain([rate, dt_bias, norm]).collect()
    }
}

/// A number in the type of `x`, which it does not change.
fn scalar(value: f32, x: &Array) -> mlx_rs::error::Result<Array> {
    Array::from_f32(value).as_dtype(x.dtype())
}
