//! Quantized blocks as affine groups: `weight = scale * code + bias`.
//!
//! Every format below has this form, with groups of 16 or 32 consecutive weights: the symmetric ones with a
//! bias that is a multiple of the scale, IQ4's table of sixteen weights with codes of 8 bits. The layouts are
//! those of llama.cpp's `ggml-quants`.

use half::f16;

use crate::TensorType;

/// Groups in a block, at most.
const GROUPS: usize = 16;
/// Weights in a block, at most.
const WEIGHTS: usize = 256;

/// IQ4's weights by code, before the scale.
const IQ4: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// A quantized type whose blocks consist of affine groups.
///
/// Scales and biases are exact in f32, and so is `scale * code`; adding the bias rounds once, as it does
/// where the format computes `scale * code - minimum`. So weights computed in f32 are those of any reader
/// of the format that computes in f32, except for the sign of zeros.
///
/// ```
/// let affine = gguf::TensorType::Q4_0.affine().ok_or("not affine")?;
/// // A scale of 2 in f16, then the codes: 0 for the weights 1 to 15 and 17 to 31, 15 and 1 for the others.
/// let mut block = [0u8; 18];
/// block[..3].copy_from_slice(&[0, 0x40, 0x1f]);
/// assert_eq!((affine.bits(), affine.group()), (4, 32));
/// assert_eq!((affine.scales(&block), affine.biases(&block)), (vec![2.0], vec![-16.0]));
/// let weights = affine.weights(&block);
/// assert_eq!((weights[0], weights[1], weights[16]), (14.0, -16.0, -14.0));
/// # Ok::<(), &str>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Affine {
    kind: TensorType,
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(non_camel_case_types, reason = "the format's own names")]
enum Format {
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2_K,
    Q3_K,
    Q4_K,
    Q5_K,
    Q6_K,
    IQ4_NL,
    IQ4_XS,
}

impl TensorType {
    /// The type's affine groups, if it consists of them. Floating-point types, ternary ones, MXFP4, NVFP4
    /// and those with tables of more than one weight (IQ1 to IQ3) do not.
    pub fn affine(self) -> Option<Affine> {
        let format = match self {
            Self::Q4_0 => Format::Q4_0,
            Self::Q4_1 => Format::Q4_1,
            Self::Q5_0 => Format::Q5_0,
            Self::Q5_1 => Format::Q5_1,
            Self::Q8_0 => Format::Q8_0,
            Self::Q2_K => Format::Q2_K,
            Self::Q3_K => Format::Q3_K,
            Self::Q4_K => Format::Q4_K,
            Self::Q5_K => Format::Q5_K,
            Self::Q6_K => Format::Q6_K,
            Self::IQ4_NL => Format::IQ4_NL,
            Self::IQ4_XS => Format::IQ4_XS,
            _ => return None,
        };
        Some(Affine { kind: self, format })
    }
}

impl Affine {
    /// Weights in a group.
    pub fn group(self) -> usize {
        match self.format {
            Format::Q2_K | Format::Q3_K | Format::Q6_K => 16,
            _ => 32,
        }
    }

    /// Bits of a code. Those of a group fill whole 32-bit words, for which Q3_K has one bit more than in
    /// the file.
    pub fn bits(self) -> usize {
        match self.format {
            Format::Q2_K => 2,
            Format::Q3_K | Format::Q4_0 | Format::Q4_1 | Format::Q4_K => 4,
            Format::Q5_0 | Format::Q5_1 | Format::Q5_K => 5,
            Format::Q6_K => 6,
            Format::Q8_0 | Format::IQ4_NL | Format::IQ4_XS => 8,
        }
    }

    /// Whether scales and biases are f16 values, as in the file. Those of the types with two levels of
    /// scales are products, which have more digits.
    pub fn has_f16_scales(self) -> bool {
        self.block() == self.group()
    }

    /// The codes of whole blocks, in the order of the weights: a stream of bits that starts with the lowest
    /// bit of the first word.
    pub fn packed(self, blocks: &[u8]) -> Vec<u32> {
        let mut words = Vec::with_capacity(self.weights_in(blocks) * self.bits() / 32);
        for block in self.each(blocks) {
            let (mut held, mut count) = (0u64, 0);
            for &code in &self.codes(block)[..self.block()] {
                held |= u64::from(code) << count;
                count += self.bits();
                if count >= 32 {
                    words.push(held as u32);
                    held >>= 32;
                    count -= 32;
                }
            }
        }
        words
    }

    /// The scale of each group of whole blocks.
    pub fn scales(self, blocks: &[u8]) -> Vec<f32> {
        self.of_groups(blocks, |scales, _| scales)
    }

    /// The bias of each group of whole blocks.
    pub fn biases(self, blocks: &[u8]) -> Vec<f32> {
        self.of_groups(blocks, |_, biases| biases)
    }

    /// The weights of whole blocks.
    pub fn weights(self, blocks: &[u8]) -> Vec<f32> {
        let mut weights = Vec::with_capacity(self.weights_in(blocks));
        for block in self.each(blocks) {
            let (codes, (scales, biases)) = (self.codes(block), self.levels(block));
            let groups = codes[..self.block()].chunks(self.group()).zip(scales).zip(biases);
            for ((codes, scale), bias) in groups {
                weights.extend(codes.iter().map(|&code| scale * f32::from(code) + bias));
            }
        }
        weights
    }

    /// Weights in a block.
    fn block(self) -> usize {
        self.kind.block_elements() as usize
    }

    fn each(self, blocks: &[u8]) -> std::slice::ChunksExact<'_, u8> {
        blocks.chunks_exact(self.kind.block_bytes() as usize)
    }

    fn weights_in(self, blocks: &[u8]) -> usize {
        blocks.len() / self.kind.block_bytes() as usize * self.block()
    }

    fn of_groups(
        self,
        blocks: &[u8],
        choose: impl Fn([f32; GROUPS], [f32; GROUPS]) -> [f32; GROUPS],
    ) -> Vec<f32> {
        let groups = self.block() / self.group();
        let mut values = Vec::with_capacity(self.weights_in(blocks) / self.group());
        for block in self.each(blocks) {
            let (scales, biases) = self.levels(block);
            values.extend_from_slice(&choose(scales, biases)[..groups]);
        }
        values
    }

    /// The code of each weight of a block.
    fn codes(self, block: &[u8]) -> [u8; WEIGHTS] {
        match self.format {
            Format::Q4_0 => joined(fields(&block[2..], 16, 4)),
            Format::Q4_1 => joined(fields(&block[4..], 16, 4)),
            Format::Q5_0 => joined(with_high(&block[6..], (16, 4), &block[2..6], (1, 1))),
            Format::Q5_1 => joined(with_high(&block[8..], (16, 4), &block[4..8], (1, 1))),
            // Signed to unsigned: flip the sign bit.
            Format::Q8_0 => joined(block[2..].iter().map(|code| code ^ 0x80)),
            Format::Q2_K => joined(fields(&block[16..80], 32, 2)),
            Format::Q3_K => joined(with_high(&block[32..96], (32, 2), &block[..32], (32, 1))),
            Format::Q4_K => joined(fields(&block[16..], 32, 4)),
            Format::Q5_K => joined(with_high(&block[48..], (32, 4), &block[16..48], (32, 1))),
            Format::Q6_K => joined(with_high(&block[..128], (64, 4), &block[128..192], (32, 2))),
            Format::IQ4_NL => joined(fields(&block[2..], 16, 4).map(iq4_code)),
            Format::IQ4_XS => joined(fields(&block[8..], 16, 4).map(iq4_code)),
        }
    }

    /// Scale and bias of each group of a block.
    fn levels(self, block: &[u8]) -> ([f32; GROUPS], [f32; GROUPS]) {
        let same = |scales: [f32; GROUPS], zero: f32| (scales, scales.map(|scale| -zero * scale));
        let one = |zero: f32| same([half(block, 0); GROUPS], zero);
        match self.format {
            Format::Q4_0 => one(8.0),
            Format::Q5_0 => one(16.0),
            Format::Q8_0 | Format::IQ4_NL => one(128.0),
            Format::Q4_1 | Format::Q5_1 => ([half(block, 0); GROUPS], [half(block, 2); GROUPS]),
            Format::Q2_K => {
                let (scale, least) = (half(block, 80), half(block, 82));
                let scales = joined(block[..16].iter().map(|levels| levels & 0xf));
                let least_of = joined(block[..16].iter().map(|levels| levels >> 4));
                (times(scale, scales), times(-least, least_of))
            }
            Format::Q3_K => {
                let scales = with_high(&block[96..104], (8, 4), &block[104..108], (4, 2));
                same(signed(half(block, 108), joined(scales)), 4.0)
            }
            Format::Q4_K | Format::Q5_K => {
                let (scales, least_of) = levels_of_6_bits(&block[4..16]);
                (times(half(block, 0), scales), times(-half(block, 2), least_of))
            }
            Format::Q6_K => {
                let scales: [u8; GROUPS] = joined(block[192..208].iter().copied());
                let scale = half(block, 208);
                same(scales.map(|level| scale * f32::from(level as i8)), 32.0)
            }
            Format::IQ4_XS => {
                let scales = with_high(&block[4..8], (1, 4), &block[2..4], (1, 2));
                same(signed(half(block, 0), joined(scales)), 128.0)
            }
        }
    }
}

/// IQ4's weight of this code, from 1 to 241.
fn iq4_code(code: u8) -> u8 {
    (i16::from(IQ4[usize::from(code & 0xf)]) + 128) as u8
}

/// The numbers of so many `bits` in runs of so many bytes: the lowest bits of each byte of a run, then the
/// next ones of each, and so on.
fn fields(bytes: &[u8], run: usize, bits: usize) -> impl Iterator<Item = u8> {
    let mask = 0xff >> (8 - bits);
    bytes.chunks(run).flat_map(move |run| {
        let shifts = (0..8).step_by(bits);
        shifts.flat_map(move |shift| run.iter().map(move |byte| byte >> shift & mask))
    })
}

/// Numbers in two parts, each given by its bytes and by the run and the bits of its [`fields`].
fn with_high<'a>(
    low: &'a [u8],
    (low_run, low_bits): (usize, usize),
    high: &'a [u8],
    (high_run, high_bits): (usize, usize),
) -> impl Iterator<Item = u8> + 'a {
    let parts = fields(low, low_run, low_bits).zip(fields(high, high_run, high_bits));
    parts.map(move |(low, high)| low | high << low_bits)
}

/// Eight scales and eight minima of 6 bits in 12 bytes: the first four of each whole, below the two highest
/// bits of the others, whose lower halves share the last four bytes.
fn levels_of_6_bits(bytes: &[u8]) -> ([u8; GROUPS], [u8; GROUPS]) {
    let [first, second, shared] = [&bytes[..4], &bytes[4..8], &bytes[8..12]];
    let whole = |bytes: &[u8]| joined::<4>(bytes.iter().map(|byte| byte & 0x3f));
    let high = |bytes: &[u8]| joined::<4>(bytes.iter().map(|byte| byte >> 6 << 4));
    let level = |i: usize, whole: [u8; 4], high: [u8; 4], shift: u8| match i {
        0..4 => whole[i],
        4..8 => high[i - 4] | shared[i - 4] >> shift & 0xf,
        _ => 0,
    };
    let levels = |of: &[u8], shift: u8| {
        let (whole, high) = (whole(of), high(of));
        std::array::from_fn(|i| level(i, whole, high, shift))
    };
    (levels(first, 0), levels(second, 4))
}

fn times(scale: f32, levels: [u8; GROUPS]) -> [f32; GROUPS] {
    levels.map(|level| scale * f32::from(level))
}

/// With levels of 6 bits that are 32 too large.
fn signed(scale: f32, levels: [u8; GROUPS]) -> [f32; GROUPS] {
    levels.map(|level| scale * (f32::from(level) - 32.0))
}

/// The numbers, and zeros after them.
fn joined<const N: usize>(numbers: impl IntoIterator<Item = u8>) -> [u8; N] {
    let mut all = [0; N];
    all.iter_mut().zip(numbers).for_each(|(place, number)| *place = number);
    all
}

fn half(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}
