use std::ops::Range;
use std::sync::Arc;

use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, Dtype};

use super::Lora;
use crate::backend::{Backend, WeightResidency};
use crate::checkpoint::{Matrix, WeightSource};
use crate::ext::{Differentiable, PackedWeight, apply_one, quantized_matmul, wrong_arrays};
use crate::{Error, Result};

/// A frozen linear layer without bias: `y = W x`.
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    weight: Weight,
    backend: Backend,
    /// For few rows.
    packed: Option<Box<PackedWeight>>,
}

/// A weight matrix `[out, in]`.
#[derive(Clone, Debug)]
enum Weight {
    /// In memory, [prepared](Matrix::prepared).
    Held(Matrix),
    /// Read from the source at each use.
    Streamed { source: Arc<dyn WeightSource>, name: Arc<str> },
}

impl Weight {
    /// The matrix, [prepared](Matrix::prepared).
    fn matrix(&self, backend: Backend) -> Result<Matrix> {
        match self {
            Self::Held(matrix) => Ok(matrix.clone()),
            Self::Streamed { source, name } => {
                source.matrix(name)?.prepared(backend, WeightResidency::Packed)
            }
        }
    }

    /// Some of its rows.
    fn rows(&self, ranges: &[Range<usize>]) -> Result<Matrix> {
        match (self, ranges) {
            (Self::Streamed { source, name }, _) => source.matrix_rows(name, ranges),
            (Self::Held(matrix), [range]) => {
                let range = range.start as i32..range.end as i32;
                matrix.map(|array| array.try_index((range.clone(), ..)))
            }
            (Self::Held(matrix), _) => {
                let rows: Vec<u32> = ranges.iter().cloned().flatten().map(|r| r as u32).collect();
                let rows = Array::from_slice(&rows, &[rows.len() as i32]);
                matrix.map(|array| array.take_axis(&rows, 0))
            }
        }
    }
}

impl Linear {
    /// A layer whose weight is in memory, [prepared](Matrix::prepared) for the backend.
    pub fn held(matrix: Matrix, backend: Backend) -> Self {
        Self { weight: Weight::Held(matrix), backend, packed: None }
    }

    /// The same layer, with few rows multiplied with the weight as it is `stored`, if that is for the better.
    pub fn with_packed(self, stored: &Matrix) -> Result<Self> {
        Ok(Self { packed: packed_weight(stored, self.backend)?.map(Box::new), ..self })
    }

    /// A layer that reads its weight from `source` at each use.
    pub fn streamed(source: Arc<dyn WeightSource>, name: &str, backend: Backend) -> Self {
        Self { weight: Weight::Streamed { source, name: name.into() }, backend, packed: None }
    }

    /// `W x`, with the low-rank update if there is one: see [`Lora`].
    pub fn apply(&self, x: &Array, lora: Option<&Lora>) -> Result<Array> {
        let y = self.product(x)?;
        let Some(lora) = lora else { return Ok(y) };
        let y = lora.add_to(&y, x)?;
        let weight = || self.weight.matrix(self.backend)?.dense(self.backend, Dtype::Float32);
        match lora.row_factors(weight)? {
            Some(factors) => Ok(y.multiply(factors.as_dtype(y.dtype())?)?),
            None => Ok(y),
        }
    }

    /// The same layer with its weight in memory, and dequantized where products need that, so that
    /// several products read and dequantize it once.
    pub fn unpacked(&self) -> Result<Self> {
        let matrix = self.weight.matrix(self.backend)?;
        let matrix = match matrix.packed() {
            Some(_) if self.backend.is_native() => matrix,
            _ => Matrix::Dense(self.dense(&matrix)?),
        };
        Ok(Self { weight: Weight::Held(matrix), backend: self.backend, packed: None })
    }

    fn product(&self, x: &Array) -> Result<Array> {
        if let Some(weight) = &self.packed
            && PackedWeight::suits(x)
        {
            return self.few((**weight).clone(), x);
        }
        let matrix = self.weight.matrix(self.backend)?;
        if let Weight::Streamed { .. } = self.weight
            && PackedWeight::suits(x)
            && let Some(weight) = packed_weight(&matrix, self.backend)?
        {
            return self.few(weight, x);
        }
        match matrix.packed() {
            Some(packed) if self.backend.is_native() => quantized_matmul(x, packed, true),
            _ => Ok(x.matmul(self.dense(&matrix)?.transpose()?)?),
        }
    }

    /// `W x` for few rows, with the packed weight. Its gradient takes the dequantized one.
    fn few(&self, packed: PackedWeight, x: &Array) -> Result<Array> {
        let (weight, backend) = (self.weight.clone(), self.backend);
        let dense = move || weight.matrix(backend)?.dense(backend, backend.dtype());
        apply_one(FewRows { packed, dense }, &[x])
    }

    fn dense(&self, matrix: &Matrix) -> Result<Array> {
        matrix.dense(self.backend, self.backend.dtype())
    }

    /// The rows of these indices, dequantized: an embedding lookup.
    pub fn gather(&self, rows: &[u32]) -> Result<Array> {
        let rows: Vec<_> = rows.iter().map(|&row| row as usize..row as usize + 1).collect();
        self.weight.rows(&rows)?.dense(self.backend, self.backend.dtype())
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
        let rows = self.weight.rows(&[range])?.dense(self.backend, self.backend.dtype())?;
        Ok(rows.as_dtype(Dtype::Float32)?)
    }
}

/// The weight for products with few rows; `None` if the backend or the encoding has no such products.
fn packed_weight(matrix: &Matrix, backend: Backend) -> Result<Option<PackedWeight>> {
    match matrix.packed() {
        Some(packed) if backend.packs_few_rows() => PackedWeight::new(packed),
        _ => Ok(None),
    }
}

struct FewRows<F> {
    packed: PackedWeight,
    dense: F,
}

impl<F: Fn() -> Result<Array> + 'static> Differentiable for FewRows<F> {
    fn forward(&self, inputs: &[Array]) -> Result<Vec<Array>> {
        let [x] = inputs else { return Err(wrong_arrays()) };
        Ok(vec![self.packed.product(x)?])
    }

    fn backward(&self, _: &[Array], to: &[Array], _: &[Array]) -> Result<Vec<Array>> {
        let [to] = to else { return Err(wrong_arrays()) };
        Ok(vec![to.matmul((self.dense)()?)?])
    }
}
