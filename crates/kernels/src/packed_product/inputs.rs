/// Values that are unpacked together.
pub(super) const BLOCK: usize = 32;

/// Rows of inputs in the order in which [`packed_product`](super::packed_product) unpacks a matrix.
#[derive(Clone, Debug)]
pub struct PackedInputs {
    blocks: Vec<Block>,
    /// Blocks in a row.
    blocks_per_row: usize,
}

/// Aligned, so that neither half lies in two cache lines.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct Block(pub [[f32; BLOCK / 2]; 2]);

impl PackedInputs {
    /// Prepares rows of `width` values, a multiple of 32, for a matrix with codes of so many bits.
    pub fn new(rows: &[f32], width: usize, bits: usize) -> Self {
        // A byte holds two codes of 4 bits, of which all lower ones are unpacked before all upper ones.
        let place =
            |half: usize, i: usize| if bits == 4 { 2 * i + half } else { half * BLOCK / 2 + i };
        let block = |values: &[f32; BLOCK]| {
            let half = |half| std::array::from_fn(|i| values[place(half, i)]);
            Block([half(0), half(1)])
        };
        let (blocks, _) = rows.as_chunks::<BLOCK>();
        Self { blocks: blocks.iter().map(block).collect(), blocks_per_row: width / BLOCK }
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.blocks.len().checked_div(self.blocks_per_row).unwrap_or_default()
    }

    /// Values in a row.
    pub(super) fn width(&self) -> usize {
        self.blocks_per_row * BLOCK
    }

    pub(super) fn row(&self, row: usize) -> &[Block] {
        let start = row * self.blocks_per_row;
        self.blocks.get(start..start + self.blocks_per_row).unwrap_or_default()
    }
}
