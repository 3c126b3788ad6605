//! Linear layers by the stack, of which each token goes through a few: experts.

use mlx_rs::{Array, ops};

use crate::Result;
use crate::nn::linear::{Kernels, Weight};
use crate::nn::lora::Lora;

/// Frozen linear layers without bias, one for each expert.
#[derive(Clone, Debug)]
pub(crate) struct Gathered {
    /// `[experts, out, in]`, or the packed form of that.
    weight: Weight,
}

impl Gathered {
    /// Of a [prepared](Weight::prepare) matrix in which the experts lie one below the other.
    pub fn new(weight: Weight, experts: usize, kernels: Kernels) -> Result<Self> {
        let stack = |array: Array| {
            let columns = array.dim(-1);
            array.reshape(&[experts as i32, -1, columns])
        };
        let weight = match weight {
            Weight::Dense(array) => Weight::Dense(stack(array)?),
            Weight::Quantized { packed, scales, biases, group_size, bits } => Weight::Quantized {
                packed: stack(packed)?,
                scales: stack(scales)?,
                biases: stack(biases)?,
                group_size,
                bits,
            },
            Weight::Floats { packed, scales, format } => {
                Weight::Floats { packed: stack(packed)?, scales: stack(scales)?, format }
            }
            on_disk @ Weight::OnDisk { .. } => {
                Weight::Dense(stack(on_disk.dense(kernels.dtype())?)?)
            }
        };
        Ok(Self { weight })
    }

    /// `x` is `[.., 1, in]`; its leading dimensions and those of `chosen`, the numbers of the
    /// experts, broadcast. The update's factors are stacked as the weights are: `A` is
    /// `[experts, rank, in]`, `B` `[experts, out, rank]`.
    pub fn apply(&self, x: &Array, chosen: &Array, lora: Option<&Lora>) -> Result<Array> {
        let y = self.product(x, chosen)?;
        let Some(lora) = lora else { return Ok(y) };
        let low = products(&lora.dropped(x)?, &lora.a, chosen)?;
        let low = low.multiply(Array::from_f32(lora.scale))?;
        Ok(y.add(products(&low, &lora.b, chosen)?.as_dtype(y.dtype())?)?)
    }

    fn product(&self, x: &Array, chosen: &Array) -> Result<Array> {
        match &self.weight {
            // Only a few of many experts are wanted: unpacking all would cost more on a CPU too.
            Weight::Quantized { packed, scales, biases, group_size, bits } => {
                let [scales, biases] = [scales.as_dtype(x.dtype())?, biases.as_dtype(x.dtype())?];
                let (group_size, bits) = (*group_size, *bits);
                Ok(ops::gather_qmm(
                    x, packed, &scales, &biases, None, chosen, true, group_size, bits, false,
                )?)
            }
            weight => products(x, &weight.dense(x.dtype())?, chosen),
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
