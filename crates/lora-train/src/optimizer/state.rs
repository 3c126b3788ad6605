//! The state of an optimizer, in f32 or in 8 bits.

use mlx_rs::ops::{dequantize, pad, quantize, sign};
use mlx_rs::{Array, Dtype};

use super::{Tensors, key};
use crate::Result;
use crate::config::StateStorage;

const GROUP: i32 = 64;
const BITS: i32 = 8;
/// Smaller tensors stay in f32: there is little memory to save, and each value matters more.
const SMALLEST: i32 = 4096;

/// A stored tensor: last part of its name, shape, dtype.
pub(super) type Stored = (String, Vec<i32>, Dtype);

/// The moments of one parameter, by the name of the slot.
pub(super) struct Slots<'a> {
    pub(super) state: &'a mut Tensors,
    pub(super) parameter: &'a str,
    pub(super) storage: StateStorage,
}

impl Slots<'_> {
    /// The tensor of a slot; zeros before the first update.
    pub(super) fn get(&self, slot: &str, shape: &[i32]) -> Result<Array> {
        self.load(slot, shape, |root| Ok(root.multiply(root.abs()?)?))
    }

    /// Stores values of either sign.
    pub(super) fn set(&mut self, slot: &str, array: &Array) -> Result<()> {
        let root = || Ok(array.abs()?.sqrt()?.multiply(sign(array)?)?);
        self.store(slot, array, root, 0.0)
    }

    /// The tensor of a slot that was stored with [`set_squares`](Self::set_squares).
    pub(super) fn get_squares(&self, slot: &str, shape: &[i32]) -> Result<Array> {
        self.load(slot, shape, |root| Ok(root.square()?.square()?))
    }

    /// Stores non-negative values whose root a step is divided by. They are rounded up, because a
    /// value rounded to 0 would make the step infinite.
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

    /// Quantizes the roots, because the values of a group may span many orders of magnitude. `lift`,
    /// in quantization steps, is added to the roots.
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

/// The tensors that store a slot of this shape.
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
