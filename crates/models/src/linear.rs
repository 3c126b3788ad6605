//! Linear layers, and the one place that chooses how they run on the device at hand.
//!
//! On a CPU, MLX's quantized kernels run on one thread without SIMD (2 GFLOP/s) and its bf16
//! products at 4.5 GFLOP/s, while dequantizing and an f32 product through BLAS reach 110 on two
//! cores. So on a CPU everything is f32 and goes through BLAS; on CUDA and Metal the native bf16
//! and quantized kernels are the right ones.

use std::ops::Range;

use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, Device, DeviceType, Dtype, ops};

use crate::adapter::Lora;
use crate::{Error, Result};

/// Whether quantized weights stay packed in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
}

/// A weight matrix `[out, in]` as it lies in memory.
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
}

impl Weight {
    /// Brings the weight into the form in which it will be used.
    pub fn prepare(self, kernels: Kernels, residency: WeightResidency) -> Result<Self> {
        let dtype = kernels.dtype();
        Ok(match self {
            Self::Dense(array) => Self::Dense(array.as_dtype(dtype)?),
            Self::Quantized { packed, scales, biases, group_size, bits } => {
                let scales = scales.as_dtype(dtype)?;
                let biases = biases.as_dtype(dtype)?;
                let weight = Self::Quantized { packed, scales, biases, group_size, bits };
                match residency {
                    WeightResidency::Dequantized => Self::Dense(weight.dense()?),
                    WeightResidency::Auto | WeightResidency::Packed => weight,
                }
            }
        })
    }

    /// The plain matrix.
    fn dense(&self) -> Result<Array> {
        Ok(match self {
            Self::Dense(array) => array.clone(),
            Self::Quantized { packed, scales, biases, group_size, bits } => {
                ops::dequantize(packed, scales, biases, *group_size, *bits)?
            }
        })
    }

    /// Some of its rows, as a weight of their own.
    fn map_rows(&self, pick: impl Fn(&Array) -> mlx_rs::error::Result<Array>) -> Result<Self> {
        Ok(match self {
            Self::Dense(array) => Self::Dense(pick(array)?),
            Self::Quantized { packed, scales, biases, group_size, bits } => Self::Quantized {
                packed: pick(packed)?,
                scales: pick(scales)?,
                biases: pick(biases)?,
                group_size: *group_size,
                bits: *bits,
            },
        })
    }

    /// Row `i` becomes what was row `order[i]`.
    pub fn reorder_rows(&self, order: &Array) -> Result<Self> {
        self.map_rows(|array| array.take_axis(order, 0))
    }

    /// The arrays it consists of.
    pub fn arrays(&self) -> Vec<&Array> {
        match self {
            Self::Dense(array) => vec![array],
            Self::Quantized { packed, scales, biases, .. } => vec![packed, scales, biases],
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

    /// `W x`, plus the low-rank update where there is one: `W x + scale * ((x A) B)`.
    pub fn apply(&self, x: &Array, lora: Option<&Lora>) -> Result<Array> {
        let y = self.product(x)?;
        match lora {
            Some(lora) => Ok(y.add(lora.delta(x)?.as_dtype(y.dtype())?)?),
            None => Ok(y),
        }
    }

    fn product(&self, x: &Array) -> Result<Array> {
        match (&self.weight, self.kernels) {
            (Weight::Quantized { packed, scales, biases, group_size, bits }, Kernels::Native) => {
                Ok(ops::quantized_matmul(x, packed, scales, biases, true, *group_size, *bits)?)
            }
            (weight, _) => Ok(x.matmul(weight.dense()?.transpose()?)?),
        }
    }

    /// The rows of the given indices, dequantized: an embedding.
    pub fn gather(&self, indices: &Array) -> Result<Array> {
        self.weight.reorder_rows(indices)?.dense()
    }

    /// A range of rows, dequantized, in f32.
    pub fn rows(&self, range: Range<usize>) -> Result<Array> {
        let limit = |end: usize| {
            i32::try_from(end).map_err(|_| Error::Argument {
                name: "range of rows",
                expected: "below 2^31".into(),
                found: end.to_string(),
            })
        };
        let (start, end) = (limit(range.start)?, limit(range.end)?);
        let rows = self.weight.map_rows(|array| array.try_index((start..end, ..)))?;
        Ok(rows.dense()?.as_dtype(Dtype::Float32)?)
    }

    /// The arrays it consists of.
    pub fn arrays(&self) -> Vec<&Array> {
        self.weight.arrays()
    }
}
