//! Linear layers whose input is made again rather than kept.
//!
//! The gradient of a low-rank update needs the layer's input: the output of a norm, or of a gate.
//! Either is cheap to make from what is kept anyway, and large: in a small model a third of all that
//! waits for the backward pass. (Chen et al., "Training deep nets with sublinear memory cost", 2016,
//! chosen by operation.)

use std::rc::Rc;

use mlx_rs::Array;

use crate::Result;
use crate::ext::{self, wrong_arrays};
use crate::ext::fused::{self, Activation};
use crate::nn::linear::Linear;
use crate::nn::lora::Lora;

type Make = Rc<dyn Fn(&[Array]) -> Result<Array>>;

/// An array, and what it is made from.
#[derive(Clone)]
pub(crate) struct Made {
    from: Vec<Array>,
    make: Make,
}

impl Made {
    /// The RMS norm of `x`; see [`fused::rms_norm`].
    pub fn norm(x: &Array, weight: &Array, eps: f32) -> Self {
        let weight = weight.clone();
        let make = move |from: &[Array]| fused::rms_norm(only(from)?, Some(&weight), eps);
        Self { from: vec![x.clone()], make: Rc::new(make) }
    }

    /// `activation(gate) * up`.
    pub fn gate(activation: Activation, gate: &Array, up: &Array) -> Self {
        let make = move |from: &[Array]| match from {
            [gate, up] => fused::gate(activation, gate, up),
            _ => Err(wrong_arrays()),
        };
        Self { from: vec![gate.clone(), up.clone()], make: Rc::new(make) }
    }

    /// The array itself.
    pub fn array(&self) -> Result<Array> {
        (self.make)(&self.from)
    }

    /// Each of `linears` applied to it, with its update where there is one.
    ///
    /// Nobody asks for the input again without an update; and with DoRA the products would be
    /// computed again as well.
    pub fn through<const N: usize>(
        &self,
        linears: [(&Linear, Option<&Lora>); N],
    ) -> Result<[Array; N]> {
        let updates = || linears.iter().filter_map(|(_, lora)| *lora);
        let outputs = if updates().count() == 0 || updates().any(|lora| lora.magnitude.is_some()) {
            let x = self.array()?;
            linears.iter().map(|(linear, lora)| linear.apply(&x, *lora)).collect::<Result<_>>()?
        } else {
            self.made_again(&linears)?
        };
        <[Array; N]>::try_from(outputs).map_err(|_| wrong_arrays())
    }

    fn made_again(&self, linears: &[(&Linear, Option<&Lora>)]) -> Result<Vec<Array>> {
        let mut inputs = self.from.clone();
        let own = inputs.len();
        let mut bound = Vec::with_capacity(linears.len());
        for (linear, lora) in linears {
            inputs.extend(lora.iter().flat_map(|lora| [lora.a.clone(), lora.b.clone()]));
            // Unpacked once, for both ways.
            bound.push((linear.unpacked()?, lora.cloned()));
        }
        let make = Rc::clone(&self.make);
        let outputs = move |inputs: &[Array]| {
            let (from, mut factors) = inputs.split_at_checked(own).ok_or_else(wrong_arrays)?;
            let x = make(from)?;
            let apply = |(linear, lora): &(Linear, Option<Lora>)| {
                let Some(lora) = lora else { return linear.apply(&x, None) };
                let [a, b, rest @ ..] = factors else { return Err(wrong_arrays()) };
                factors = rest;
                linear.apply(&x, Some(&Lora { a: a.clone(), b: b.clone(), ..lora.clone() }))
            };
            bound.iter().map(apply).collect()
        };
        ext::computed_again(outputs, &inputs)
    }
}

fn only(arrays: &[Array]) -> Result<&Array> {
    arrays.first().ok_or_else(wrong_arrays)
}
