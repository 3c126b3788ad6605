//! Gemma 4's attention: normed queries and keys, values normed without a weight, and keys and values that
//! later layers may share.

use mlx_rs::Array;

use super::shape::{Gemma4, K, K_NORM, Kind, O, Q, Q_NORM, Source, V};
use crate::arch::config::Config;
use crate::nn::{
    AttentionMode, AttentionSpec, Batch, KeySource, LayerAdapter, Linear, Loader, Projections,
    Recomputed, RmsNorm, attend,
};
use crate::{Error, Result};

#[derive(Clone)]
pub(super) struct Attention {
    q: Linear,
    q_norm: RmsNorm,
    v_norm: RmsNorm,
    o: Linear,
    keys: Keys,
    kind: Kind,
    heads: i32,
    head_dim: i32,
    window: Option<usize>,
}

/// Where keys and values come from.
#[derive(Clone)]
enum Keys {
    /// Own projections. Without `v`, values have the projection of the keys. `handed_on` if later
    /// layers share the result.
    Own { k: Linear, v: Option<Linear>, k_norm: RmsNorm, kv_heads: i32, handed_on: bool },
    /// Those of an earlier layer, from this index of the carried arrays on.
    Shared { place: usize },
}

impl Attention {
    /// Takes the attention's tensors of one layer, all below `prefix`.
    pub fn load(
        config: &Config,
        shape: &Gemma4,
        index: usize,
        prefix: &str,
        loader: &mut Loader,
    ) -> Result<Self> {
        let path = |path: &str| format!("{prefix}.{path}");
        let (layer, sources) = (shape.layers[index], shape.sources());
        let keys = match layer.keys {
            Source::Shared { layer } => Keys::Shared { place: 2 * sources.range(..layer).count() },
            Source::Projected | Source::KeysAreValues => Keys::Own {
                k: loader.linear(&path(K))?,
                v: match layer.keys {
                    Source::Projected => Some(loader.linear(&path(V))?),
                    _ => None,
                },
                k_norm: loader.norm(&path(K_NORM), config.norm_eps)?,
                kv_heads: layer.kv_heads as i32,
                handed_on: sources.contains(&index),
            },
        };
        Ok(Self {
            q: loader.linear(&path(Q))?,
            q_norm: loader.norm(&path(Q_NORM), config.norm_eps)?,
            v_norm: RmsNorm::new(loader.backend(), None, config.norm_eps),
            o: loader.linear(&path(O))?,
            keys,
            kind: layer.kind,
            heads: config.num_heads as i32,
            head_dim: layer.head_dim as i32,
            window: shape.window_of(layer.kind),
        })
    }

    /// Attends. Appends keys and values that later layers share to `carried`.
    pub fn forward(
        &self,
        x: &Recomputed,
        carried: &mut Vec<Array>,
        batch: &Batch,
        adapter: &LayerAdapter,
        mode: AttentionMode<'_>,
    ) -> Result<Array> {
        let kind = self.kind as usize;
        let q = (&self.q, adapter.get(Q));
        let (queries, keys, values) = match &self.keys {
            Keys::Own { k, v, k_norm, kv_heads, handed_on } => {
                let k = (k, adapter.get(K));
                let (queries, keys, values) = match v {
                    Some(v) => <_>::from(x.apply([q, k, (v, adapter.get(V))])?),
                    None => {
                        let [queries, keys] = x.apply([q, k])?;
                        (queries, keys.clone(), keys)
                    }
                };
                let keys = k_norm.apply(&self.split(keys, *kv_heads)?)?;
                let keys = batch.rotate(kind, &keys)?;
                let values = self.v_norm.apply(&self.split(values, *kv_heads)?)?;
                if *handed_on {
                    carried.extend([keys.clone(), values.clone()]);
                }
                (queries, keys, values)
            }
            Keys::Shared { place } => {
                let [queries] = x.apply([q])?;
                let [keys, values] = handed_on(carried, *place)?;
                (queries, keys.clone(), values.clone())
            }
        };
        let queries = self.q_norm.apply(&self.split(queries, self.heads)?)?;
        let queries = batch.rotate(kind, &queries)?;
        let qkv = Projections { queries, keys, values };
        let output = attend(&qkv, &batch.attention, self.spec(), mode)?;
        self.o.apply(&output, adapter.get(O))
    }

    fn spec(&self) -> AttentionSpec {
        let keys = match self.keys {
            Keys::Own { .. } => KeySource::Own,
            Keys::Shared { .. } => KeySource::Shared,
        };
        // Not scaled: queries and keys are normed.
        AttentionSpec { scale: 1.0, window: self.window, keys }
    }

    fn split(&self, x: Array, heads: i32) -> Result<Array> {
        Ok(x.reshape(&[1, -1, heads, self.head_dim])?)
    }
}

/// Keys and values of an earlier layer.
fn handed_on(carried: &[Array], place: usize) -> Result<&[Array; 2]> {
    carried.get(place..).and_then(<[Array]>::first_chunk).ok_or_else(|| Error::Argument {
        name: "flow",
        expected: "keys and values of earlier layers".into(),
        found: format!("{} carried arrays", carried.len()),
    })
}
