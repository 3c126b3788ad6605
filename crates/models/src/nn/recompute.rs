//! Linear layers that recompute their input in the backward pass (selective activation
//! checkpointing).
//!
//! The gradient of a low-rank update needs the layer's input: the output of a norm or of a gated
//! activation. Both are cheap to recompute from arrays that are kept anyway, and large: in a small
//! model a third of all that is kept for the backward pass. (Chen et al., "Training deep nets with
//! sublinear memory cost", 2016, applied to single operations.)

use std::rc::Rc;

use mlx_rs::Array;

use super::{Linear, Lora, RmsNorm};
use crate::Result;
use crate::backend::Backend;
use crate::ext::fused::{self, Activation};
use crate::ext::{is_differentiated, recomputed, wrong_arrays};

type Compute = Rc<dyn Fn(&[Array]) -> Result<Array>>;

/// An array as the arrays it is computed from, and how.
#[derive(Clone)]
pub(crate) struct Recomputed {
    from: Vec<Array>,
    compute: Compute,
}

impl Recomputed {
    /// An array that is kept as it is.
    pub fn kept(x: &Array) -> Self {
        let compute = |from: &[Array]| match from {
            [x] => Ok(x.clone()),
            _ => Err(wrong_arrays()),
        };
        Self { from: vec![x.clone()], compute: Rc::new(compute) }
    }

    /// The norm of `x`.
    pub fn norm(x: &Array, norm: &RmsNorm) -> Self {
        let norm = norm.clone();
        let compute = move |from: &[Array]| match from {
            [x] => norm.apply(x),
            _ => Err(wrong_arrays()),
        };
        Self { from: vec![x.clone()], compute: Rc::new(compute) }
    }

    /// `activation(gate) * up`.
    pub fn gate(backend: Backend, activation: Activation, gate: &Array, up: &Array) -> Self {
        let compute = move |from: &[Array]| match from {
            [gate, up] => fused::gate(backend, activation, gate, up),
            _ => Err(wrong_arrays()),
        };
        Self { from: vec![gate.clone(), up.clone()], compute: Rc::new(compute) }
    }

    /// The array itself.
    pub fn computed(&self) -> Result<Array> {
        (self.compute)(&self.from)
    }

    /// The outputs of `linears`, each with its update if there is one, for this array as input.
    pub fn apply<const N: usize>(
        &self,
        linears: [(&Linear, Option<&Lora>); N],
    ) -> Result<[Array; N]> {
        let outputs = if self.is_worth_recomputing(&linears)? {
            self.recompute(&linears)?
        } else {
            let x = self.computed()?;
            linears.iter().map(|(linear, lora)| linear.apply(&x, *lora)).collect::<Result<_>>()?
        };
        <[Array; N]>::try_from(outputs).map_err(|_| wrong_arrays())
    }

    /// Whether there is a backward pass that needs the input: there is none in generation, and without an
    /// update it does not. With DoRA the products would be recomputed too.
    fn is_worth_recomputing(&self, linears: &[(&Linear, Option<&Lora>)]) -> Result<bool> {
        let updates: Vec<&Lora> = linears.iter().filter_map(|(_, lora)| *lora).collect();
        if updates.is_empty() || updates.iter().any(|lora| lora.magnitude.is_some()) {
            return Ok(false);
        }
        let factors = updates.iter().flat_map(|lora| [&lora.a, &lora.b]);
        is_differentiated(self.from.iter().chain(factors))
    }

    fn recompute(&self, linears: &[(&Linear, Option<&Lora>)]) -> Result<Vec<Array>> {
        let mut inputs = self.from.clone();
        let own = inputs.len();
        let mut bound = Vec::with_capacity(linears.len());
        for (linear, lora) in linears {
            inputs.extend(lora.iter().flat_map(|lora| [lora.a.clone(), lora.b.clone()]));
            // Dequantized once for the forward and the backward pass.
            bound.push((linear.unpacked()?, lora.cloned()));
        }
        let compute = Rc::clone(&self.compute);
        let outputs = move |inputs: &[Array]| {
            let (from, mut factors) = inputs.split_at_checked(own).ok_or_else(wrong_arrays)?;
            let x = compute(from)?;
            let apply = |(linear, lora): &(Linear, Option<Lora>)| {
                let Some(lora) = lora else { return linear.apply(&x, None) };
                let [a, b, rest @ ..] = factors else { return Err(wrong_arrays()) };
                factors = rest;
                linear.apply(&x, Some(&Lora { a: a.clone(), b: b.clone(), ..lora.clone() }))
            };
            bound.iter().map(apply).collect()
        };
        recomputed(outputs, &inputs)
    }
}
