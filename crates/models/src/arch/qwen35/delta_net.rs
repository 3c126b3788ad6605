//! Gated-delta linear attention of a Qwen3.5.

use mlx_rs::{Array, Dtype, ops};

use super::convolution::Convolution;
use super::shape::{A, A_LOG, B, CONVOLUTION, DT_BIAS, DeltaShape, OUT, OUTPUT_NORM, QKV, Z};
use crate::Result;
use crate::arch::config::Config;
use crate::backend::Backend;
use crate::ext::fused::{Activation, activate, gate};
use crate::nn::gated_delta::{self, GatedDelta};
use crate::nn::{
    AttentionMode, Batch, CHUNK, LayerAdapter, Linear, Loader, Mixer, Prefix, Recomputed,
    RecurrentState, RmsNorm,
};

/// Added to the sum of squares when queries and keys are normalized to length 1.
const LENGTH_EPS: f32 = 1e-6;

#[derive(Clone)]
pub(super) struct DeltaNet {
    qkv: Linear,
    z: Linear,
    b: Linear,
    a: Linear,
    out: Linear,
    convolution: Convolution,
    /// `-exp(A_log)`, f32.
    rate: Array,
    /// f32.
    dt_bias: Array,
    norm: RmsNorm,
    /// Normalizes queries and keys.
    unit_norm: RmsNorm,
    shape: DeltaShape,
    backend: Backend,
}

impl DeltaNet {
    /// Takes its tensors, all below `prefix`.
    pub fn load(
        config: &Config,
        shape: DeltaShape,
        prefix: &str,
        loader: &mut Loader,
    ) -> Result<Self> {
        let path = |path: &str| format!("{prefix}.{path}");
        let backend = loader.backend();
        let rate = loader.parameter_f32(&path(A_LOG))?.exp()?.negative()?;
        Ok(Self {
            qkv: loader.linear(&path(QKV))?,
            z: loader.linear(&path(Z))?,
            b: loader.linear(&path(B))?,
            a: loader.linear(&path(A))?,
            out: loader.linear(&path(OUT))?,
            convolution: Convolution::load(&path(CONVOLUTION), loader)?,
            rate: loader.keep(rate),
            dt_bias: loader.parameter_f32(&path(DT_BIAS))?,
            norm: loader.norm(&path(OUTPUT_NORM), config.norm_eps)?,
            unit_norm: RmsNorm::new(backend, None, LENGTH_EPS / shape.key_dim as f32),
            shape,
            backend,
        })
    }

    /// Log decay and beta of each token and value head.
    fn gates(&self, b: &Array, a: &Array) -> Result<[Array; 2]> {
        let beta = activate(self.backend, Activation::Sigmoid, b)?;
        let a = a.as_dtype(Dtype::Float32)?;
        // Softplus: log(1 + exp(a)).
        let softplus = ops::logaddexp(a.add(&self.dt_bias)?, Array::from_f32(0.0))?;
        Ok([softplus.multiply(&self.rate)?, beta])
    }

    /// The inputs of the rule, from queries, keys and values after the convolution.
    fn inputs(&self, mixed: &Array, [log_decay, beta]: [Array; 2]) -> Result<GatedDelta> {
        let DeltaShape { key_heads, value_heads, key_dim, value_dim, .. } = self.shape;
        let keys = self.shape.keys() as i32;
        let mixed = activate(self.backend, Activation::Silu, mixed)?;
        let parts = mixed.split_at_indices(&[keys, 2 * keys], -1)?;
        let heads = |part: usize, heads: usize, width: usize| {
            parts[part].reshape(&[1, -1, heads as i32, width as i32])
        };
        // A vector of mean square 1 has length sqrt(d).
        let width = key_dim as f32;
        let of_length = |x: Array, length: f32| {
            self.unit_norm.apply(&x)?.multiply(scalar(length / width.sqrt(), &x)?)
        };
        Ok(GatedDelta {
            queries: of_length(heads(0, key_heads, key_dim)?, width.sqrt().recip())?,
            keys: of_length(heads(1, key_heads, key_dim)?, 1.0)?,
            values: heads(2, value_heads, value_dim)?,
            log_decay,
            beta,
        })
    }

    /// The output of rows that continue the states `before`, and the states after them.
    fn after(
        &self,
        before: &RecurrentState,
        qkv: &Array,
        gates: [Array; 2],
        batch: &Batch,
    ) -> Result<(Array, RecurrentState)> {
        let (mixed, inputs) = self.convolution.rows(qkv, batch.rows(), &before.inputs)?;
        let rule = self.inputs(&mixed, gates)?;
        let (output, state) =
            gated_delta::infer(self.backend, &rule, batch.rows(), Some(&before.state))?;
        Ok((output, RecurrentState { inputs, state }))
    }

    /// The states of rows before their first token.
    fn initial(&self, rows: usize, dtype: Dtype) -> Result<RecurrentState> {
        RecurrentState::new(self.shape.state(), rows, dtype)
    }

    /// The states of rows of which some continue a prefix.
    fn before(
        &self,
        rows: usize,
        prefixes: &[Option<&Prefix>],
        dtype: Dtype,
    ) -> Result<RecurrentState> {
        if prefixes.iter().all(Option::is_none) {
            return self.initial(rows, dtype);
        }
        let initial = self.initial(1, dtype)?;
        let row = |prefix: &Option<&Prefix>| match prefix {
            Some(Prefix::State(state)) => state.clone(),
            _ => initial.clone(),
        };
        RecurrentState::joined(&prefixes.iter().map(row).collect::<Vec<_>>())
    }
}

impl Mixer for DeltaNet {
    fn forward(
        &self,
        x: &Recomputed,
        batch: &Batch,
        adapter: &LayerAdapter,
        mode: AttentionMode<'_>,
    ) -> Result<Array> {
        let [qkv, z, b, a] = x.apply([
            (&self.qkv, adapter.get(QKV)),
            (&self.z, adapter.get(Z)),
            (&self.b, adapter.get(B)),
            (&self.a, adapter.get(A)),
        ])?;
        let gates = self.gates(&b, &a)?;
        let rows = batch.rows();
        let output = match mode {
            AttentionMode::Step { cache, .. } => {
                let cache = cache.state()?;
                let (mixed, inputs) = self.convolution.step(&qkv, &cache.inputs)?;
                let (output, state) =
                    gated_delta::step(self.backend, &self.inputs(&mixed, gates)?, &cache.state)?;
                *cache = RecurrentState { inputs, state };
                output
            }
            AttentionMode::Rows => {
                let [decay, beta] = gates;
                let gates = [rows.expand(&decay)?, rows.expand(&beta)?];
                let before = self.initial(rows.lengths().len(), qkv.dtype())?;
                let (mixed, _) =
                    self.convolution.rows(&rows.expand(&qkv)?, rows, &before.inputs)?;
                let inputs = self.inputs(&mixed, gates)?;
                let before = Some(&before.state);
                let rule = gated_delta::in_chunks(self.backend, &inputs, rows, before, CHUNK)?;
                rows.deduplicate(&rule.0)?
            }
            AttentionMode::Prefixes { before, kept } => {
                let before = self.before(rows.lengths().len(), before, qkv.dtype())?;
                let (output, ends) = self.after(&before, &qkv, gates, batch)?;
                kept.extend(ends.by_row()?.into_iter().map(Prefix::State));
                output
            }
            AttentionMode::Prompts { cache, first, prefixes, .. } => {
                let before = self.before(rows.lengths().len(), prefixes, qkv.dtype())?;
                let (output, ends) = self.after(&before, &qkv, gates, batch)?;
                cache.state()?.write(first, &ends)?;
                output
            }
        };
        let DeltaShape { value_heads, value_dim, .. } = self.shape;
        let z = z.reshape(&[1, -1, value_heads as i32, value_dim as i32])?;
        let normed = self.norm.apply(&output)?;
        let [z, normed] = [z, normed].map(|array| array.as_dtype(Dtype::Float32));
        let gated = gate(self.backend, Activation::Silu, &z?, &normed?)?.as_dtype(qkv.dtype())?;
        self.out.apply(&gated.flatten(2, -1)?, adapter.get(OUT))
    }
}

/// `value` in the type of `x`.
fn scalar(value: f32, x: &Array) -> mlx_rs::error::Result<Array> {
    Array::from_f32(value).as_dtype(x.dtype())
}
