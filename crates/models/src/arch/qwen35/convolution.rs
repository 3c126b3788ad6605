//! The causal depthwise convolution before the gated delta rule.

use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, ops};

use crate::Result;
use crate::nn::{Loader, Rows};

/// The kernel of each channel.
#[derive(Clone)]
pub(super) struct Convolution {
    /// `[channels, taps, 1]`, oldest token first.
    kernel: Array,
    /// The same by tap, `[channels]` each, where products and sums of whole taps are faster than MLX's
    /// operation: on a CPU.
    taps: Option<Vec<Array>>,
}

impl Convolution {
    /// Takes a kernel `[channels, taps, 1]`.
    pub fn load(name: &str, loader: &mut Loader) -> Result<Self> {
        let kernel = loader.vector(name)?;
        if loader.backend().is_native() {
            return Ok(Self { kernel, taps: None });
        }
        let taps = kernel.squeeze_axes(&[-1])?.transpose()?.split_equal(kernel.dim(1), 0)?;
        let flat = |tap: Array| Ok(loader.keep(tap.flatten(0, -1)?.contiguous()?));
        let taps = taps.into_iter().map(flat).collect::<Result<_>>()?;
        Ok(Self { kernel, taps: Some(taps) })
    }

    /// How many tokens before the current one it covers.
    fn reach(&self) -> i32 {
        self.kernel.dim(1) - 1
    }

    /// Convolves rows end to end, `[1, T, channels]`, each preceded by its `reach` inputs in `before`,
    /// `[rows, reach, channels]`. Returns the output and the last `reach` inputs of each row.
    pub fn rows(&self, x: &Array, rows: &Rows, before: &Array) -> Result<(Array, Array)> {
        let reach = self.reach();
        let own = rows.split(x, 1)?;
        let before = before.split_equal(own.len() as i32, 0)?;
        let rows: Vec<&Array> = before.iter().zip(&own).flat_map(|(b, row)| [b, row]).collect();
        // All rows are convolved as one array; the outputs that straddle two rows are dropped below.
        let padded = ops::concatenate(&rows, 1)?;
        let output = self.convolve(&padded)?;
        let mut ends = Vec::with_capacity(own.len());
        let mut cuts = Vec::with_capacity(2 * own.len());
        let mut at = 0;
        for row in &own {
            let end = at + row.dim(1);
            ends.push(padded.try_index((.., end..end + reach))?);
            cuts.extend([end, end + reach]);
            at = end + reach;
        }
        // The output ends with the last row.
        cuts.truncate(cuts.len().saturating_sub(2));
        let parts = output.split_at_indices(&cuts, 1)?;
        let kept: Vec<&Array> = parts.iter().step_by(2).collect();
        Ok((ops::concatenate(&kept, 1)?, ops::concatenate(&ends, 0)?))
    }

    /// One token of each row `[1, rows, channels]`.
    pub fn step(&self, x: &Array, before: &Array) -> Result<(Array, Array)> {
        let padded = ops::concatenate(&[before, &x.swap_axes(0, 1)?], 1)?;
        let output = self.convolve(&padded)?.swap_axes(0, 1)?;
        Ok((output, padded.try_index((.., 1..))?))
    }

    /// `[rows, n + reach, channels]` to `[rows, n, channels]`.
    fn convolve(&self, padded: &Array) -> Result<Array> {
        let Some(taps) = &self.taps else {
            // One rounding for all taps: in 16 bits, one for each would double the error of the layer.
            let (stride, padding, dilation, groups) = (1, 0, 1, padded.dim(-1));
            return Ok(ops::conv1d(padded, &self.kernel, stride, padding, dilation, groups)?);
        };
        let length = padded.dim(1) - self.reach();
        let part = |(start, tap): (i32, &Array)| {
            Ok(padded.try_index((.., start..start + length))?.multiply(tap)?)
        };
        let mut parts = (0..).zip(taps).map(part);
        let first = parts.next().unwrap_or_else(|| Ok(padded.clone()))?;
        parts.try_fold(first, |sum, part: Result<Array>| Ok(sum.add(part?)?))
    }
}
