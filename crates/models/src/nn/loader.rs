use std::collections::BTreeMap;
use std::sync::Arc;

use mlx_rs::{Array, Dtype, transforms};

use super::{ExpertLinear, Linear, RmsNorm};
use crate::Result;
use crate::backend::{Backend, WeightResidency};
use crate::checkpoint::{Matrix, WeightSource};

/// Builds layers from the tensors of a source, which are read as they are taken.
#[derive(Debug)]
pub(crate) struct Loader {
    source: Arc<dyn WeightSource>,
    /// Tensors that have been read ahead.
    read: BTreeMap<String, Array>,
    /// Arrays that layers were built from.
    built: Vec<Array>,
    backend: Backend,
    residency: WeightResidency,
    norm_offset: f32,
}

impl Loader {
    /// Takes tensors from `source` and keeps matrices as `residency` says.
    pub fn new(
        source: Arc<dyn WeightSource>,
        backend: Backend,
        residency: WeightResidency,
    ) -> Self {
        let (read, built) = (BTreeMap::new(), Vec::new());
        Self { source, read, built, backend, residency, norm_offset: 0.0 }
    }

    /// Adds `offset` to the weight of each norm.
    pub fn with_norm_offset(self, offset: f32) -> Self {
        Self { norm_offset: offset, ..self }
    }

    /// Takes tensors from those that have been `read`, else from `source`, and keeps matrices as they
    /// are stored.
    pub fn with_read(
        source: Arc<dyn WeightSource>,
        backend: Backend,
        read: BTreeMap<String, Array>,
    ) -> Self {
        Self { read, ..Self::new(source, backend, WeightResidency::Packed) }
    }

    /// How layers compute.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Takes `NAME.weight`, a vector or a convolution, in the backend's type.
    pub fn vector(&mut self, name: &str) -> Result<Array> {
        let array = self.take(&format!("{name}.weight"))?.as_dtype(self.backend.dtype())?;
        Ok(self.keep(array))
    }

    /// Takes `NAME` itself, a vector, in the backend's type.
    pub fn parameter(&mut self, name: &str) -> Result<Array> {
        let array = self.take(name)?.as_dtype(self.backend.dtype())?;
        Ok(self.keep(array))
    }

    /// Takes `NAME` itself, a vector, in f32.
    pub fn parameter_f32(&mut self, name: &str) -> Result<Array> {
        let array = self.take(name)?.as_dtype(Dtype::Float32)?;
        Ok(self.keep(array))
    }

    /// Records an array that was computed from others, for [`eval`](Self::eval).
    pub fn keep(&mut self, array: Array) -> Array {
        self.built.push(array.clone());
        array
    }

    /// Evaluates all arrays that layers were built from: one that is not evaluated can only be used on
    /// the thread that created it.
    pub fn eval(&self) -> Result<()> {
        Ok(transforms::eval(&self.built)?)
    }

    /// Takes the weight of a norm.
    pub fn norm(&mut self, name: &str, eps: f32) -> Result<RmsNorm> {
        let mut weight = self.take(&format!("{name}.weight"))?;
        if self.norm_offset != 0.0 {
            // In f32, as in training: bf16 rounds sums.
            weight = weight.as_dtype(Dtype::Float32)?.add(Array::from_f32(self.norm_offset))?;
        }
        let weight = self.keep(weight.as_dtype(self.backend.dtype())?);
        Ok(RmsNorm::new(self.backend, Some(weight), eps))
    }

    /// Takes a matrix that stacks those of so many experts, `[experts * out, in]`.
    pub fn experts(&mut self, name: &str, experts: usize) -> Result<ExpertLinear> {
        let matrix = self.matrix(name)?.prepared(self.backend, self.residency)?;
        let stack = matrix.map(|array| array.reshape(&[experts as i32, -1, array.dim(-1)]))?;
        self.built.extend(stack.arrays().into_iter().cloned());
        Ok(ExpertLinear::new(stack, self.backend))
    }

    /// Takes a matrix.
    pub fn linear(&mut self, name: &str) -> Result<Linear> {
        Ok(match self.residency {
            WeightResidency::Streamed => {
                Linear::streamed(Arc::clone(&self.source), name, self.backend)
            }
            _ => {
                let stored = self.matrix(name)?;
                let matrix = stored.clone().prepared(self.backend, self.residency)?;
                self.built.extend(matrix.arrays().into_iter().cloned());
                match self.residency {
                    WeightResidency::Dequantized => Linear::held(matrix, self.backend),
                    _ => Linear::held(matrix, self.backend).with_packed(&stored)?,
                }
            }
        })
    }

    fn matrix(&mut self, name: &str) -> Result<Matrix> {
        let source = Arc::clone(&self.source);
        source.assemble(name, &mut |name| self.take(name))
    }

    fn take(&mut self, name: &str) -> Result<Array> {
        match self.read.remove(name) {
            Some(array) => Ok(array),
            None => self.source.tensor(name),
        }
    }
}
