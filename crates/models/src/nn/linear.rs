//! Linear layers, and the one place that chooses how they run on the device at hand.
//!
//! On a CPU, MLX's quantized kernels run on one thread without SIMD (2 GFLOP/s) and its bf16
//! products at 4.5 GFLOP/s, while dequantizing and an f32 product through BLAS reach 110 on two
//! cores. So on a CPU everything is f32 and goes through BLAS; on CUDA and Metal the native bf16
//! and quantized kernels are the right ones.

use std::ops::Range;
use std::sync::Arc;

use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, Device, DeviceType, Dtype, ops};
use serde::{Deserialize, Serialize};

use crate::checkpoint::Checkpoint;
use crate::ext::float_format::FloatFormat;
use crate::ext::fused;
use crate::nn::lora::Lora;
use crate::{Error, Result};

/// Whether quantized weights stay packed in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightResidency {
    /// [`Dequantized`](Self::Dequantized) on a CPU while all weights take at most 2 GiB that way,
    /// else [`Packed`](Self::Packed).
    #[default]
    Auto,
    /// As in the checkpoint; a CPU dequantizes a weight each time it is used.
    Packed,
    /// Dequantized once, when the model is opened: faster by the time that takes, larger by about
    /// six times at 4 bits.
    Dequantized,
    /// Not at all: read from the checkpoint each time they are used. For models that are larger
    /// than the memory.
    Streamed,
}

/// The share of memory [`WeightResidency::Auto`] may spend on dequantized weights.
const AUTO_LIMIT: usize = 2 << 30;

/// How products are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kernels {
    /// In f32 through BLAS; quantized weights are dequantized first.
    Blas,
    /// By the device's bf16 and quantized kernels.
    Native,
}

impl Kernels {
    /// The right ones for MLX's default device.
    pub fn of_default_device() -> Result<Self> {
        Ok(match Device::try_default()?.get_type()? {
            DeviceType::Cpu => Self::Blas,
            DeviceType::Gpu => Self::Native,
        })
    }

    /// The type of weights and activations.
    pub fn dtype(self) -> Dtype {
        match self {
            Self::Blas => Dtype::Float32,
            Self::Native => Dtype::Bfloat16,
        }
    }

    /// The size of that type.
    pub fn bytes_per_value(self) -> usize {
        match self {
            Self::Blas => 4,
            Self::Native => 2,
        }
    }

    /// Settles [`WeightResidency::Auto`] for a model of so many weights.
    pub fn residency(self, wish: WeightResidency, weights: usize) -> WeightResidency {
        match (wish, self) {
            (WeightResidency::Auto, Self::Blas) if weights * 4 <= AUTO_LIMIT => {
                WeightResidency::Dequantized
            }
            (WeightResidency::Auto, _) => WeightResidency::Packed,
            (wish, _) => wish,
        }
    }
}

/// A linear layer's place and size, as an adapter names and shapes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearSpec {
    /// Its path below the layer, for instance `self_attn.q_proj`.
    pub path: &'static str,
    /// Values in.
    pub in_features: usize,
    /// Values out.
    pub out_features: usize,
    /// How many of the kind are stacked, of which each token goes through a few: experts.
    pub experts: Option<usize>,
}

impl LinearSpec {
    /// A plain one, not of experts.
    pub(crate) fn new(path: &'static str, in_features: usize, out_features: usize) -> Self {
        Self { path, in_features, out_features, experts: None }
    }

    /// How many weights it has.
    pub fn weights(&self) -> usize {
        self.experts.unwrap_or(1) * self.in_features * self.out_features
    }

    /// The shapes of `A` and `B` in an adapter of this rank (see [`Lora`]).
    pub fn factor_shapes(&self, rank: usize) -> [Vec<i32>; 2] {
        let Self { in_features, out_features, experts, .. } = *self;
        let shapes = match experts {
            None => [vec![in_features, rank], vec![rank, out_features]],
            Some(experts) => [vec![experts, rank, in_features], vec![experts, out_features, rank]],
        };
        shapes.map(|shape| shape.into_iter().map(|size| size as i32).collect())
    }
}

/// A weight matrix `[out, in]`.
#[derive(Clone, Debug)]
pub(crate) enum Weight {
    Dense(Array),
    /// Affine quantization: `scale * q + bias` per group of inputs.
    Quantized {
        packed: Array,
        scales: Array,
        biases: Array,
        group_size: i32,
        bits: i32,
    },
    /// Small floating point numbers, with a scale per group.
    Floats {
        packed: Array,
        scales: Array,
        format: FloatFormat,
    },
    /// In the checkpoint, from where it is read as it is needed.
    OnDisk {
        checkpoint: Arc<Checkpoint>,
        name: Arc<str>,
    },
}

impl Weight {
    /// Brings the weight into the form in which it will be used. On a CPU what is not dequantized
    /// stays as it is in the file, and is converted at each use.
    pub fn prepare(self, kernels: Kernels, residency: WeightResidency) -> Result<Self> {
        Ok(match (self, residency, kernels) {
            (on_disk @ Self::OnDisk { .. }, ..) => on_disk,

            (weight, WeightResidency::Dequantized, _) => {
                Self::Dense(weight.dense(kernels.dtype())?)
            }
            (weight, _, Kernels::Blas) => weight,
            (floats @ Self::Floats { .. }, ..) => floats,
            (Self::Dense(array), _, Kernels::Native) => {
                Self::Dense(array.as_dtype(kernels.dtype())?)
            }
            (Self::Quantized { packed, scales, biases, group_size, bits }, _, Kernels::Native) => {
                let scales = scales.as_dtype(kernels.dtype())?;
                let biases = biases.as_dtype(kernels.dtype())?;
                Self::Quantized { packed, scales, biases, group_size, bits }
            }
        })
    }

    /// The plain matrix.
    pub fn dense(&self, dtype: Dtype) -> Result<Array> {
        Ok(match self {
            Self::Dense(array) => array.as_dtype(dtype)?,
            Self::Quantized { packed, scales, biases, group_size, bits } => {
                let (scales, biases) = (scales.as_dtype(dtype)?, biases.as_dtype(dtype)?);
                fused::dequantize(packed, &scales, &biases, *group_size, *bits)?
            }
            Self::Floats { packed, scales, format } => format.dense(packed, scales, dtype)?,
            Self::OnDisk { checkpoint, name } => {
                self.slice(&[0..checkpoint.rows(name)])?.dense(dtype)?
            }
        })
    }

    /// Some of its rows, as a weight of their own.
    fn slice(&self, ranges: &[Range<usize>]) -> Result<Self> {
        match self {
            Self::OnDisk { checkpoint, name } => checkpoint.read_rows(name, ranges),
            _ => match ranges {
                [range] => {
                    let range = range.start as i32..range.end as i32;
                    self.map(|array| array.try_index((range.clone(), ..)))
                }
                _ => {
                    let rows: Vec<u32> =
                        ranges.iter().cloned().flatten().map(|r| r as u32).collect();
                    let rows = Array::from_slice(&rows, &[rows.len() as i32]);
                    self.map(|array| array.take_axis(&rows, 0))
                }
            },
        }
    }

    /// The same done to each of its arrays.
    fn map(&self, pick: impl Fn(&Array) -> mlx_rs::error::Result<Array>) -> Result<Self> {
        Ok(match self {
            Self::Dense(array) => Self::Dense(pick(array)?),
            Self::Quantized { packed, scales, biases, group_size, bits } => Self::Quantized {
                packed: pick(packed)?,
                scales: pick(scales)?,
                biases: pick(biases)?,
                group_size: *group_size,
                bits: *bits,
            },
            Self::Floats { packed, scales, format } => {
                Self::Floats { packed: pick(packed)?, scales: pick(scales)?, format: *format }
            }
            Self::OnDisk { .. } => self.clone(),
        })
    }

    /// The arrays that are in memory.
    pub fn arrays(&self) -> Vec<&Array> {
        match self {
            Self::Dense(array) => vec![array],
            Self::Quantized { packed, scales, biases, .. } => vec![packed, scales, biases],
            Self::Floats { packed, scales, .. } => vec![packed, scales],
            Self::OnDisk { .. } => Vec::new(),
        }
    }
}

/// A frozen linear layer without bias: `y = W x`.
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    weight: Weight,
    kernels: Kernels,
}

impl Linear {
    /// Around a weight that has been [prepared](Weight::prepare).
    pub fn new(weight: Weight, kernels: Kernels) -> Self {
        Self { weight, kernels }
    }

    /// `W x`, with the low-rank update where there is one: see [`Lora`].
    pub fn apply(&self, x: &Array, lora: Option<&Lora>) -> Result<Array> {
        let y = self.product(x)?;
        let Some(lora) = lora else { return Ok(y) };
        let y = lora.add_to(&y, x)?;
        match lora.row_factors(|| self.weight.dense(Dtype::Float32))? {
            Some(factors) => Ok(y.multiply(factors.as_dtype(y.dtype())?)?),
            None => Ok(y),
        }
    }

    /// The same layer, its weight unpacked where products need that: several then do it once.
    pub fn unpacked(&self) -> Result<Self> {
        let weight = match (&self.weight, self.kernels) {
            (Weight::Quantized { .. }, Kernels::Native) => self.weight.clone(),
            (weight, kernels) => Weight::Dense(weight.dense(kernels.dtype())?),
        };
        Ok(Self { weight, kernels: self.kernels })
    }

    fn product(&self, x: &Array) -> Result<Array> {
        match (&self.weight, self.kernels) {
            (Weight::Quantized { packed, scales, biases, group_size, bits }, Kernels::Native) => {
                Ok(ops::quantized_matmul(x, packed, scales, biases, true, *group_size, *bits)?)
            }
            (weight, kernels) => Ok(x.matmul(weight.dense(kernels.dtype())?.transpose()?)?),
        }
    }

    /// The rows of the given indices, dequantized: an embedding.
    pub fn gather(&self, rows: &[u32]) -> Result<Array> {
        let rows: Vec<_> = rows.iter().map(|&row| row as usize..row as usize + 1).collect();
        self.weight.slice(&rows)?.dense(self.kernels.dtype())
    }

    /// A range of rows, dequantized, in f32.
    pub fn rows(&self, range: Range<usize>) -> Result<Array> {
        if i32::try_from(range.end).is_err() {
            return Err(Error::Argument {
                name: "range of rows",
                expected: "below 2^31".into(),
                found: range.end.to_string(),
            });
        }
        let rows = self.weight.slice(&[range])?.dense(self.kernels.dtype())?;
        Ok(rows.as_dtype(Dtype::Float32)?)
    }

    /// The arrays that are in memory.
    pub fn arrays(&self) -> Vec<&Array> {
        self.weight.arrays()
    }
}
