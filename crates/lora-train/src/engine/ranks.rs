//! Adds up what the ranks have computed of an update.

use mlx_rs::Array;
use mlx_rs::ops::concatenate;
use mlx_rs::ops::indexing::TryIndexOp;
use models::Group;

use super::{RowLoss, Sums};
use crate::{Result, Tensors};

/// Values of one reduction, at most: MLX's ring moves less than 2 GiB at a time.
const MOST: i32 = 1 << 27;

/// The sums over all ranks of the gradients of the factors, in f32. A rank without rows has no gradients.
pub(super) fn reduced(group: &Group, factors: &Tensors, gradients: Tensors) -> Result<Tensors> {
    if group.size() == 1 {
        return Ok(gradients);
    }
    let flat = factors.iter().map(|(name, factor)| match gradients.get(name) {
        Some(gradient) => gradient.flatten(None, None),
        None => Array::zeros::<f32>(&[factor.size() as i32]),
    });
    let flat = concatenate(flat.collect::<std::result::Result<Vec<_>, _>>()?.as_slice(), 0)?;
    let parts = (0..flat.dim(0)).step_by(MOST as usize);
    let parts = parts.map(|start| {
        let end = start.saturating_add(MOST).min(flat.dim(0));
        Ok(group.all_sum(&flat.try_index(start..end)?)?)
    });
    let sums = concatenate(parts.collect::<Result<Vec<_>>>()?.as_slice(), 0)?;
    let mut start = 0;
    let split = factors.iter().map(|(name, factor)| {
        let end = start + factor.size() as i32;
        let gradient = sums.try_index(start..end)?.reshape(factor.shape())?;
        start = end;
        Ok((name.clone(), gradient))
    });
    let split: Tensors = split.collect::<Result<_>>()?;
    mlx_rs::transforms::eval(split.values())?;
    Ok(split)
}

impl Sums {
    /// The sums over all ranks, the same bits on each of them; the gradients stay this rank's.
    pub(super) fn over(mut self, group: &Group) -> Result<Self> {
        if group.size() == 1 {
            return Ok(self);
        }
        let gradients = std::mem::take(&mut self.gradients);
        let bytes = self.to_words().into_iter().flat_map(u64::to_le_bytes).collect();
        let mut total = Self { gradients, ..Self::default() };
        for bytes in group.gather_bytes(bytes)? {
            let mut words = bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word));
            total.add(Self::from_words(&mut words))?;
        }
        Ok(total)
    }

    fn to_words(&self) -> Vec<u64> {
        let Self { loss, divergence, trained, processed, computed, bad_rows, rows, gradients: _ } =
            self;
        let numbers = [loss.to_bits(), divergence.to_bits(), *trained, *processed, *computed];
        let bad_rows = std::iter::once(bad_rows.len()).chain(bad_rows.iter().copied());
        let bad_rows = bad_rows.map(|number| number as u64);
        let rows =
            rows.iter().flat_map(|row| [row.row as u64, row.loss.to_bits(), row.targets as u64]);
        numbers.into_iter().chain(bad_rows).chain(rows).collect()
    }

    fn from_words(words: &mut impl Iterator<Item = u64>) -> Self {
        let mut word = || words.next().unwrap_or_default();
        let (loss, divergence) = (f64::from_bits(word()), f64::from_bits(word()));
        let (trained, processed, computed) = (word(), word(), word());
        let bad = word() as usize;
        let bad_rows = words.by_ref().take(bad).map(|row| row as usize).collect();
        let row = || {
            let row = words.next()? as usize;
            let loss = f64::from_bits(words.next()?);
            Some(RowLoss { row, loss, targets: words.next()? as usize })
        };
        let rows = std::iter::from_fn(row).collect();
        Self {
            loss,
            divergence,
            trained,
            processed,
            computed,
            bad_rows,
            rows,
            gradients: Tensors::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_travel_bit_by_bit() {
        let row = |row, loss| RowLoss { row, loss, targets: 3 };
        let sums = Sums {
            loss: f64::NAN,
            divergence: -0.0,
            trained: 1,
            processed: u64::MAX,
            computed: 3,
            bad_rows: vec![7, 0],
            rows: vec![row(7, f64::INFINITY), row(0, 1e-310)],
            gradients: Tensors::new(),
        };
        for sums in [sums, Sums::default()] {
            let words = sums.to_words();
            let back = Sums::from_words(&mut words.iter().copied());
            assert_eq!(back.to_words(), words);
            assert_eq!(
                (back.rows.len(), back.bad_rows.len()),
                (sums.rows.len(), sums.bad_rows.len())
            );
        }
    }
}
