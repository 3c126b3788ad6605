use mlx_rs::{Array, Dtype, ops};

use super::Lora;
use crate::Result;
use crate::backend::Backend;
use crate::checkpoint::Matrix;
use crate::ext::{Packed, gather_qmm};

/// From so many uses of experts on, sorting costs less than it saves: mlx-lm's number.
const SORTED_FROM: i32 = 64;

/// The uses of experts, one for each token and expert it has chosen.
///
/// Many are sorted by expert. Products then read each matrix once, and the gradient of stacked factors is
/// a sum over the tokens of an expert rather than a matrix for each use.
pub(crate) struct Uses {
    /// The expert of each use, `[n]`.
    experts: Array,
    /// The token of each use, `[n]`.
    tokens: Array,
    /// The place of each use in the order of the tokens, unless they are in it.
    places: Option<Array>,
    /// `[tokens, experts of each]`.
    shape: [i32; 2],
}

impl Uses {
    /// The uses of the experts `chosen` `[1, T, k]`.
    pub fn of(chosen: &Array) -> Result<Self> {
        let [tokens, each] = [chosen.dim(-2), chosen.dim(-1)];
        let shape = [tokens, each];
        let experts = chosen.flatten(0, -1)?.as_dtype(Dtype::Uint32)?;
        if tokens * each < SORTED_FROM {
            let uses = (0..tokens as u32).flat_map(|token| (0..each).map(move |_| token));
            let tokens = Array::from_iter(uses, &[tokens * each]);
            return Ok(Self { experts, tokens, places: None, shape });
        }
        let order = ops::argsort(&experts)?;
        Ok(Self {
            experts: experts.take_axis(&order, 0)?,
            tokens: order.floor_divide(Array::from_slice(&[each as u32], &[]))?,
            places: Some(ops::argsort(&order)?),
            shape,
        })
    }

    /// Tokens `[1, T, H]` as the input of each use, `[n, 1, H]`.
    pub fn gather(&self, x: &Array) -> Result<Array> {
        Ok(x.squeeze_axes(&[0])?.take_axis(&self.tokens, 0)?.expand_dims(1)?)
    }

    /// Outputs of uses `[n, 1, H]` by token: `[1, T, k, H]`.
    pub fn by_token(&self, outputs: &Array) -> Result<Array> {
        let flat = outputs.squeeze_axes(&[1])?;
        let ordered = match &self.places {
            Some(places) => flat.take_axis(places, 0)?,
            None => flat,
        };
        Ok(ordered.reshape(&[1, self.shape[0], self.shape[1], -1])?)
    }
}

/// Stacked frozen linear layers without bias, one per expert, of which each token uses a few.
#[derive(Clone, Debug)]
pub(crate) struct ExpertLinear {
    /// `[experts, out, in]`, or the packed form of that.
    weight: Matrix,
    backend: Backend,
}

impl ExpertLinear {
    /// From a [prepared](Matrix::prepared) stack of matrices.
    pub fn new(weight: Matrix, backend: Backend) -> Self {
        Self { weight, backend }
    }

    /// Applies to the inputs `x` `[n, 1, in]` of `uses` their experts: `[n, 1, out]`. The update's factors
    /// are stacked like the weights: `A` is `[experts, rank, in]`, `B` `[experts, out, rank]`.
    pub fn apply(&self, x: &Array, uses: &Uses, lora: Option<&Lora>) -> Result<Array> {
        let y = self.product(x, uses)?;
        let Some(lora) = lora else { return Ok(y) };
        let low = self.dense_product(&lora.dropped(x)?, &lora.a, uses)?;
        let low = low.multiply(Array::from_f32(lora.scale))?;
        Ok(y.add(self.dense_product(&low, &lora.b, uses)?.as_dtype(y.dtype())?)?)
    }

    fn product(&self, x: &Array, uses: &Uses) -> Result<Array> {
        let sorted = uses.places.is_some();
        match self.weight.packed() {
            // Few of many experts are used: dequantizing all would cost more, on a CPU too.
            Some(packed @ Packed { scales, biases: Some(biases), .. }) => {
                let [scales, biases] = [scales.as_dtype(x.dtype())?, biases.as_dtype(x.dtype())?];
                let packed = Packed { scales: &scales, biases: Some(&biases), ..packed };
                gather_qmm(x, packed, &uses.experts, sorted)
            }
            Some(packed) if self.backend.is_native() => {
                gather_qmm(x, packed, &uses.experts, sorted)
            }
            _ => self.dense_product(x, &self.weight.dense(self.backend, x.dtype())?, uses),
        }
    }

    /// Each of `x` times the transpose of its expert's matrix in a stack.
    fn dense_product(&self, x: &Array, stack: &Array, uses: &Uses) -> Result<Array> {
        let sorted = uses.places.is_some();
        let transposed = stack.swap_axes(-1, -2)?;
        if !self.backend.is_cpu() || x.dtype() == Dtype::Float32 {
            return Ok(ops::gather_mm(x, transposed, None, &uses.experts, sorted)?);
        }
        // MLX's CPU build has this operation in f32 only.
        let [wide, transposed] =
            [x.as_dtype(Dtype::Float32)?, transposed.as_dtype(Dtype::Float32)?];
        let y = ops::gather_mm(wide, transposed, None, &uses.experts, sorted)?;
        let dtype = if stack.dtype() == Dtype::Float32 { Dtype::Float32 } else { x.dtype() };
        Ok(y.as_dtype(dtype)?)
    }
}
