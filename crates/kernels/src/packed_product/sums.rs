use super::inputs::{BLOCK, Block, PackedInputs};
use super::lanes::{LANES, Lanes};
use super::matrix::PackedMatrix;

/// How many outputs ahead codes are fetched.
const AHEAD: usize = 8;

/// An output's row of the matrix, its scales and biases in f32.
#[derive(Clone, Copy, Default)]
struct Weights<'a> {
    codes: &'a [u32],
    scales: &'a [f32],
    biases: &'a [f32],
}

impl<'a> Weights<'a> {
    /// The row of `output`, with space for its scales and biases. `None` beyond the end of the matrix.
    #[inline(always)]
    fn of(
        matrix: PackedMatrix<'a>,
        output: usize,
        words: usize,
        (scales, biases): (&'a mut [f32], &'a mut [f32]),
    ) -> Option<Self> {
        let codes = matrix.codes.get(output * words..(output + 1) * words)?;
        matrix.scales.widened(output * scales.len(), scales)?;
        matrix.biases.widened(output * biases.len(), biases)?;
        Some(Self { codes, scales, biases })
    }
}

/// All outputs of `ROWS` rows from `first` on, `OUTPUTS` at a time. Returns `ROWS`.
///
/// # Safety
/// The processor must have the instructions of `L`.
#[inline(always)]
pub(super) unsafe fn of_rows<
    L: Lanes,
    const OUTPUTS: usize,
    const ROWS: usize,
    const BITS: usize,
>(
    matrix: PackedMatrix,
    x: &PackedInputs,
    first: usize,
    y: &mut [f32],
) -> usize {
    let (rows, width) = (x.rows(), x.width());
    let mut inputs: [&[Block]; ROWS] = [&[]; ROWS];
    for (row, inputs) in inputs.iter_mut().enumerate() {
        *inputs = x.row(first + row);
    }
    let (words, groups) = (width * BITS / 32, width / matrix.group_size);
    let mut space = vec![0.0; 2 * OUTPUTS * groups];
    let mut output = 0;
    let mut outputs = y.chunks_exact_mut(rows);
    loop {
        let mut weights = [Weights::default(); OUTPUTS];
        let mut there = 0;
        let spaces = space.chunks_exact_mut(2 * groups).take(outputs.len());
        for (weights, space) in weights.iter_mut().zip(spaces) {
            let space = space.split_at_mut(groups);
            let Some(row) = Weights::of(matrix, output + there, words, space) else { break };
            *weights = row;
            there += 1;
        }
        if there == 0 {
            return ROWS;
        }
        // The processor does not read ahead over the end of a page.
        let next = matrix.codes.get((output + AHEAD) * words..).unwrap_or_default();
        for line in next.chunks(16).take((there * words).div_ceil(16)) {
            L::prefetch(line);
        }
        // SAFETY: as promised by the caller.
        let sums = unsafe { sums::<L, OUTPUTS, ROWS, BITS>(&weights, matrix.group_size, &inputs) };
        for (sums, y) in sums.iter().take(there).zip(&mut outputs) {
            for (y, sum) in y.iter_mut().skip(first).zip(sums) {
                *y = *sum;
            }
        }
        output += there;
    }
}

/// The sums of outputs and rows. Those of missing weights are without meaning.
#[inline(always)]
unsafe fn sums<L: Lanes, const OUTPUTS: usize, const ROWS: usize, const BITS: usize>(
    weights: &[Weights; OUTPUTS],
    group_size: usize,
    inputs: &[&[Block]; ROWS],
) -> [[f32; ROWS]; OUTPUTS] {
    let blocks_in_group = group_size / BLOCK;
    // SAFETY: as promised by the caller.
    unsafe {
        // Loops over indices, which are unrolled, so that all totals stay in registers.
        let mut totals = [[L::zero(); ROWS]; OUTPUTS];
        let mut block = 0;
        for group in 0..inputs[0].len() / blocks_in_group {
            for _ in 0..blocks_in_group {
                let mut w = [[L::zero(); 2]; OUTPUTS];
                for o in 0..OUTPUTS {
                    if let Some(values) = unpacked::<L, BITS>(&weights[o], group, block) {
                        w[o] = values;
                    }
                }
                for r in 0..ROWS {
                    let Some(Block([low, high])) = inputs[r].get(block) else { break };
                    let (low, high) = (L::load(low), L::load(high));
                    for o in 0..OUTPUTS {
                        totals[o][r] =
                            totals[o][r].add_product(w[o][0], low).add_product(w[o][1], high);
                    }
                }
                block += 1;
            }
        }
        let mut sums = [[0.0; ROWS]; OUTPUTS];
        for o in 0..OUTPUTS {
            for r in 0..ROWS {
                sums[o][r] = totals[o][r].sum();
            }
        }
        sums
    }
}

/// The values of a block, in the order of [`PackedInputs`].
#[inline(always)]
unsafe fn unpacked<L: Lanes, const BITS: usize>(
    weights: &Weights,
    group: usize,
    block: usize,
) -> Option<[L; 2]> {
    let (&scale, &bias) = (weights.scales.get(group)?, weights.biases.get(group)?);
    let mut words = weights.codes.get(block * BITS..(block + 1) * BITS)?.as_chunks::<4>().0.iter();
    let mut bytes = || {
        let mut bytes = [0; LANES];
        for (bytes, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(words.next()?) {
            *bytes = word.to_le_bytes();
        }
        Some(bytes)
    };
    // SAFETY: as promised by the caller.
    unsafe {
        Some(match BITS {
            4 => L::of_halves(&bytes()?, scale, bias),
            _ => [L::of_bytes(&bytes()?, scale, bias), L::of_bytes(&bytes()?, scale, bias)],
        })
    }
}
