//! Gemma 4's attention: normed queries and keys, values normed without a weight, and keys that later
//! layers may share.

use mlx_rs::Array;

use super::shape::{K, K_NORM, Kind, LayerShape, O, Q, Q_NORM, Shape, Source, V};
use crate::adapter::LayerAdapter;
use crate::nn::attention::{Attend, Keys, Look, Projections, attend};
use crate::checkpoint::Tensors;
use crate::arch::config::Config;
use crate::ext::fused::rms_norm;
use crate::model::layer::Batch;
use crate::nn::linear::Linear;
use crate::nn::recompute::Made;
use crate::{Error, Result};

#[derive(Clone)]
pub(super) struct Attention {
    q: Linear,
    q_norm: Array,
    o: Linear,
    keys: KeySource,
    kind: Kind,
    heads: i32,
    head_dim: i32,
    window: Option<usize>,
    norm_eps: f32,
}

/// Where keys and values come from.
#[derive(Clone)]
enum KeySource {
    /// Own projections; without one for the values, those are what the keys are made from. `handed_on`
    /// when later layers share the result.
    Own { k: Linear, v: Option<Linear>, k_norm: Array, kv_heads: i32, handed_on: bool },
    /// The arrays that an earlier layer handed on, from this place of those carried.
    Shared { place: usize },
}

impl Attention {
    /// Takes the attention's tensors of one layer, all below `prefix`.
    pub fn load(
        config: &Config,
        shape: &Shape,
        index: usize,
        layer: LayerShape,
        prefix: &str,
        tensors: &mut Tensors,
    ) -> Result<Self> {
        let path = |path: &str| format!("{prefix}.{path}");
        let sources = shape.sources();
        let keys = match layer.keys {
            Source::Shared { layer } => {
                KeySource::Shared { place: 2 * sources.range(..layer).count() }
            }
            Source::Projected | Source::KeysAreValues => KeySource::Own {
                k: tensors.linear(&path(K))?,
                v: match layer.keys {
                    Source::Projected => Some(tensors.linear(&path(V))?),
                    _ => None,
                },
                k_norm: tensors.vector(&path(K_NORM))?,
                kv_heads: layer.kv_heads as i32,
                handed_on: sources.contains(&index),
            },
        };
        Ok(Self {
            q: tensors.linear(&path(Q))?,
            q_norm: tensors.vector(&path(Q_NORM))?,
            o: tensors.linear(&path(O))?,
            keys,
            kind: layer.kind,
            heads: config.num_heads as i32,
            head_dim: layer.head_dim as i32,
            window: (layer.kind == Kind::Sliding).then_some(shape.window),
            norm_eps: config.norm_eps,
        })
    }

    /// Attends. Puts keys and values that later layers share at the end of `carried`.
    pub fn forward(
        &self,
        x: &Made,
        carried: &mut Vec<Array>,
        batch: &Batch,
        adapter: &LayerAdapter,
        mode: Attend<'_>,
    ) -> Result<Array> {
        let kind = self.kind as usize;
        let q = (&self.q, adapter.get(Q));
        let (queries, keys, values) = match &self.keys {
            KeySource::Own { k, v, k_norm, kv_heads, handed_on } => {
                let k = (k, adapter.get(K));
                let (queries, keys, values) = match v {
                    Some(v) => <_>::from(x.through([q, k, (v, adapter.get(V))])?),
                    None => {
                        let [queries, keys] = x.through([q, k])?;
                        (queries, keys.clone(), keys)
                    }
                };
                let keys = rms_norm(&self.split(keys, *kv_heads)?, Some(k_norm), self.norm_eps)?;
                let keys = batch.rotate(kind, &keys)?;
                let values = rms_norm(&self.split(values, *kv_heads)?, None, self.norm_eps)?;
                if *handed_on {
                    carried.extend([keys.clone(), values.clone()]);
                }
                (queries, keys, values)
            }
            KeySource::Shared { place } => {
                let [queries] = x.through([q])?;
                let [keys, values] = handed_on(carried, *place)?;
                (queries, keys.clone(), values.clone())
            }
        };
        let queries = self.split(queries, self.heads)?;
        let queries = rms_norm(&queries, Some(&self.q_norm), self.norm_eps)?;
        let queries = batch.rotate(kind, &queries)?;
        let qkv = Projections { queries, keys, values };
        let output = attend(&qkv, batch, self.look(), mode)?;
        self.o.apply(&output, adapter.get(O))
    }

    fn look(&self) -> Look {
        let keys = match self.keys {
            KeySource::Own { .. } => Keys::Own,
            KeySource::Shared { .. } => Keys::Shared,
        };
        // The norms of queries and keys have settled the size of scores.
        Look { scale: 1.0, window: self.window, keys }
    }

    fn split(&self, x: Array, heads: i32) -> Result<Array> {
        Ok(x.reshape(&[1, -1, heads, self.head_dim])?)
    }

    pub fn arrays(&self) -> Vec<&Array> {
        let mut arrays = vec![&self.q_norm];
        arrays.extend(self.q.arrays());
        arrays.extend(self.o.arrays());
        if let KeySource::Own { k, v, k_norm, .. } = &self.keys {
            arrays.push(k_norm);
            arrays.extend(k.arrays());
            arrays.extend(v.iter().flat_map(Linear::arrays));
        }
        arrays
    }
}

/// The keys and values that an earlier layer handed on.
fn handed_on(carried: &[Array], place: usize) -> Result<&[Array; 2]> {
    carried.get(place..).and_then(<[Array]>::first_chunk).ok_or_else(|| Error::Argument {
        name: "flow",
        expected: "the keys and values that earlier layers share".into(),
        found: format!("{} carried arrays", carried.len()),
    })
}
