use mlx_rs::{Array, ops};

use super::lora::Lora;
use crate::Result;
use crate::backend::Backend;
use crate::checkpoint::Matrix;

/// Stacked frozen linear layers without bias, one per expert, of which each token uses a few.
#[derive(Clone, Debug)]
pub(crate) struct ExpertLinear {
    /// `[experts, out, in]`, or the packed form of that.
    weight: Matrix,
    backend: Backend,
}

impl ExpertLinear {
    /// From a [prepared](Matrix::prepared) matrix `[experts * out, in]`.
    pub fn new(matrix: Matrix, experts: usize, backend: Backend) -> Result<Self> {
        let weight = matrix.map(|array| array.reshape(&[experts as i32, -1, array.dim(-1)]))?;
        Ok(Self { weight, backend })
    }

    /// Applies to `x` `[.., 1, in]` the experts of the indices `chosen`; the leading dimensions of both
    /// broadcast. The update's factors are stacked like the weights: `A` is `[experts, rank, in]`, `B`
    /// `[experts, out, rank]`.
    pub fn apply(&self, x: &Array, chosen: &Array, lora: Option<&Lora>) -> Result<Array> {
        let y = self.product(x, chosen)?;
        let Some(lora) = lora else { return Ok(y) };
        let low = products(&lora.dropped(x)?, &lora.a, chosen)?;
        let low = low.multiply(Array::from_f32(lora.scale))?;
        Ok(y.add(products(&low, &lora.b, chosen)?.as_dtype(y.dtype())?)?)
    }

    fn product(&self, x: &Array, chosen: &Array) -> Result<Array> {
        match &self.weight {
            // Few of many experts are used: dequantizing all would cost more, on a CPU too.
            Matrix::Quantized { packed, scales, biases, group_size, bits } => {
                let [scales, biases] = [scales.as_dtype(x.dtype())?, biases.as_dtype(x.dtype())?];
                let (group_size, bits) = (*group_size, *bits);
                Ok(ops::gather_qmm(
                    x, packed, &scales, &biases, None, chosen, true, group_size, bits, false,
                )?)
            }
            weight => products(x, &weight.dense(self.backend, x.dtype())?, chosen),
        }
    }

    /// The arrays it consists of.
    pub fn arrays(&self) -> Vec<&Array> {
        self.weight.arrays()
    }
}

/// `x` times the transposes of the chosen matrices of a stack.
fn products(x: &Array, stack: &Array, chosen: &Array) -> Result<Array> {
    Ok(ops::gather_mm(x, stack.swap_axes(-1, -2)?, None, chosen, false)?)
}
