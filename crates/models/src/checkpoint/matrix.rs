use mlx_rs::{Array, Dtype};

use crate::Result;
use crate::backend::{Backend, WeightResidency};
use crate::ext::float_format::FloatFormat;
use crate::ext::{Packed, fused};

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
                let (scales, biases) = (scales.as_dtype(dtype)?, biases.as_dtype(dtype)?);
                fused::dequantize(backend, packed, &scales, &biases, *group_size, *bits)?
            }
            Self::Floats { packed, scales, format } => format.dense(packed, scales, dtype)?,
        })
    }

    /// The matrix as products with packed weights take it; `None` if it is dense.
    pub fn packed(&self) -> Option<Packed<'_>> {
        match self {
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
