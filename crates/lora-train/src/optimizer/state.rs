//! What an optimizer remembers between updates, in f32 or in 8 bits.

use mlx_rs::ops::{dequantize, pad, quantize, sign};
use mlx_rs::{Array, Dtype};

use super::{Tensors, key};
use crate::Result;
use crate::config::StateStorage;

const GROUP: i32 = 64;
const BITS: i32 = 8;
/// Smaller tensors stay in f32: little to gain, and a few values make or break them.
const SMALLEST: i32 = 4096;

/// The tensors of one slot: last part of the name, shape, type.
pub(super) type Stored = (String, Vec<i32>, Dtype);

/// What is remembered of one parameter.
pub(super) struct Slots<'a> {
    pub(super) state: &'a mut Tensors,
    pub(super) parameter: &'a str,
    pub(super) storage: StateStorage,
}

impl Slots<'_> {
    /// The slot's tensor, zeros at first.
    pub(super) fn get(&self, slot: &str, shape: &[i32]) -> Result<Array> {
        self.load(slot, shape, |root| Ok(root.multiply(root.abs()?)?))
    }

    /// Remembers values of either sign.
    pub(super) fn set(&mut self, slot: &str, array: &Array) -> Result<()> {
        let root = || Ok(array.abs()?.sqrt()?.multiply(sign(array)?)?);
        self.store(slot, array, root, 0.0)
    }

    /// The same for squares.
    pub(super) fn get_squares(&self, slot: &str, shape: &[i32]) -> Result<Array> {
        self.load(slot, shape, |root| Ok(root.square()?.square()?))
    }

    /// Remembers squares, which a step will be divided by the root of. They are rounded up: what
    /// rounded to zero would make the step endless.
    pub(super) fn set_squares(&mut self, slot: &str, array: &Array) -> Result<()> {
        self.store(slot, array, || Ok(array.sqrt()?.sqrt()?), 0.5)
    }

    fn load(
        &self,
        slot: &str,
        shape: &[i32],
        power: impl Fn(&Array) -> Result<Array>,
    ) -> Result<Array> {
        let stored = |part: &str| self.state.get(&key(self.parameter, part));
        if let Some(array) = stored(slot) {
            return Ok(array.clone());
        }
        let [packed, scales, biases] = parts(slot);
        match (stored(&packed), stored(&scales), stored(&biases)) {
            (Some(packed), Some(scales), Some(biases)) => {
                let values = power(&dequantize(packed, scales, biases, GROUP, BITS)?)?;
                let count = shape.iter().product::<i32>();
                let [values, ..] = &values.flatten(None, None)?.split_at_indices(&[count], 0)?[..]
                else {
                    return Ok(values);
                };
                Ok(values.reshape(shape)?)
            }
            _ => Ok(Array::zeros::<f32>(shape)?),
        }
    }

    /// Roots are quantized, not the values themselves: a group may span many magnitudes. `lift`, in
    /// quantization steps, is added to them.
    fn store(
        &mut self,
        slot: &str,
        array: &Array,
        root: impl FnOnce() -> Result<Array>,
        lift: f32,
    ) -> Result<()> {
        if !is_packed(self.storage, array.shape()) {
            self.state.insert(key(self.parameter, slot), array.clone());
            return Ok(());
        }
        let roots = root()?.flatten(None, None)?;
        let missing = groups(array.shape()) * GROUP - roots.dim(0);
        let roots = pad(&roots, &[(0, missing)], None, None)?.reshape(&[-1, GROUP])?;
        let (packed, scales, biases) = quantize(&roots, GROUP, BITS)?;
        let lifted = scales.abs()?.multiply(Array::from_f32(lift))?;
        let arrays = [packed, scales, biases.add(lifted)?];
        for (part, array) in parts(slot).into_iter().zip(arrays) {
            self.state.insert(key(self.parameter, &part), array);
        }
        Ok(())
    }
}

/// What is stored for a slot of this shape.
pub(super) fn stored(storage: StateStorage, slot: &str, shape: Vec<i32>) -> Vec<Stored> {
    if !is_packed(storage, &shape) {
        return vec![(slot.to_owned(), shape, Dtype::Float32)];
    }
    let groups = groups(&shape);
    let [packed, scales, biases] = parts(slot);
    vec![
        (packed, vec![groups, GROUP * BITS / 32], Dtype::Uint32),
        (scales, vec![groups, 1], Dtype::Float32),
        (biases, vec![groups, 1], Dtype::Float32),
    ]
}

fn is_packed(storage: StateStorage, shape: &[i32]) -> bool {
    storage == StateStorage::Int8 && shape.iter().product::<i32>() >= SMALLEST
}

fn groups(shape: &[i32]) -> i32 {
    (shape.iter().product::<i32>() + GROUP - 1) / GROUP
}

fn parts(slot: &str) -> [String; 3] {
    ["packed", "scales", "biases"].map(|part| format!("{slot}.{part}"))
}
