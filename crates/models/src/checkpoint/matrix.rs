use mlx_rs::{Array, Dtype};

use crate::backend::{Backend, WeightResidency};
use crate::ext::float_format::FloatFormat;
use crate::ext::{Packed, fused};
use crate::{Error, Result};

/// The smallest group of MLX's affine quantization.
const MLX_GROUP: i32 = 32;

/// A weight matrix `[out, in]` in the form a checkpoint stores it.
#[derive(Clone, Debug)]
pub(crate) enum Matrix {
    Dense(Array),
    /// Affine quantization: `scale * q + bias` per group of inputs.
    Quantized {
        packed: Array,
        scales: Array,
        biases: Array,
        group_size: i32,
        bits: i32,
    },
    /// Small floating-point numbers with a scale per group.
    Floats {
        packed: Array,
        scales: Array,
        format: FloatFormat,
    },
}

impl Matrix {
    /// Brings the matrix into the form in which it will be used. On a CPU a matrix that is not
    /// dequantized stays as stored, and is converted at each use.
    pub fn prepared(self, backend: Backend, residency: WeightResidency) -> Result<Self> {
        let dtype = backend.dtype();
        Ok(match self {
            matrix if residency.dequantizes() => Self::Dense(matrix.dense(backend, dtype)?),
            matrix if !backend.is_native() => matrix,
            matrix if matrix.has_small_groups() => Self::Dense(matrix.dense(backend, dtype)?),
            Self::Dense(array) => Self::Dense(array.as_dtype(dtype)?),
            Self::Quantized { packed, scales, biases, group_size, bits } => {
                let (scales, biases) = (scales.as_dtype(dtype)?, biases.as_dtype(dtype)?);
                Self::Quantized { packed, scales, biases, group_size, bits }
            }
            floats @ Self::Floats { .. } => floats,
        })
    }

    /// The dense matrix.
    pub fn dense(&self, backend: Backend, dtype: Dtype) -> Result<Array> {
        Ok(match self {
            Self::Dense(array) => array.as_dtype(dtype)?,
            Self::Quantized { packed, scales, biases, group_size, bits } => {
                let levels =
                    |dtype| Ok::<_, Error>([scales.as_dtype(dtype)?, biases.as_dtype(dtype)?]);
                if self.has_small_groups() {
                    let [scales, biases] = levels(Dtype::Float32)?;
                    let quantized = [packed, &scales, &biases];
                    let dense = fused::dequantize_on_cpu(backend, quantized, *group_size, *bits)?;
                    dense.as_dtype(dtype)?
                } else {
                    let [scales, biases] = levels(dtype)?;
                    fused::dequantize(backend, [packed, &scales, &biases], *group_size, *bits)?
                }
            }
            Self::Floats { packed, scales, format } => format.dense(packed, scales, dtype)?,
        })
    }

    /// Whether it has groups of 16, as some types of GGUF files, for which MLX has no operations.
    fn has_small_groups(&self) -> bool {
        matches!(self, Self::Quantized { group_size, .. } if *group_size < MLX_GROUP)
    }

    /// The matrix as products with packed weights take it; `None` if it is dense, or packed in a way that
    /// MLX cannot multiply.
    pub fn packed(&self) -> Option<Packed<'_>> {
        match self {
            matrix if matrix.has_small_groups() => None,
            Self::Dense(_) => None,
            Self::Quantized { packed, scales, biases, group_size, bits } => Some(Packed {
                values: packed,
                scales,
                biases: Some(biases),
                group_size: *group_size,
                bits: *bits,
                mode: c"affine",
            }),
            Self::Floats { packed, scales, format } => {
                let (mode, group_size, bits) = format.encoding();
                Some(Packed { values: packed, scales, biases: None, group_size, bits, mode })
            }
        }
    }

    /// Applies `f` to each of its arrays.
    pub fn map(&self, f: impl Fn(&Array) -> mlx_rs::error::Result<Array>) -> Result<Self> {
        Ok(match self {
            Self::Dense(array) => Self::Dense(f(array)?),
            Self::Quantized { packed, scales, biases, group_size, bits } => Self::Quantized {
                packed: f(packed)?,
                scales: f(scales)?,
                biases: f(biases)?,
                group_size: *group_size,
                bits: *bits,
            },
            Self::Floats { packed, scales, format } => {
                Self::Floats { packed: f(packed)?, scales: f(scales)?, format: *format }
            }
        })
    }

    /// The arrays it consists of.
    pub fn arrays(&self) -> Vec<&Array> {
        match self {
            Self::Dense(array) => vec![array],
            Self::Quantized { packed, scales, biases, .. } => vec![packed, scales, biases],
            Self::Floats { packed, scales, .. } => vec![packed, scales],
        }
    }
}
