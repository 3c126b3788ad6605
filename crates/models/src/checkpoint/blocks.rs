//! GGUF's quantized blocks of 32 weights, as the three arrays of MLX's affine quantization.
//!
//! Both store `w = scale * q + bias`. GGUF stores block after block, MLX one array each of packed
//! weights, scales and biases. Q4_0 and Q8_0 imply the bias: `-8 * scale` and `-128 * scale`.

use half::f16;
use mlx_rs::Dtype;

/// Weights in a block, and so MLX's group size.
pub(crate) const GROUP: usize = 32;

/// The block types that MLX's packed form represents exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Block {
    /// Scale, then 4 bits per weight with an offset of 8.
    Q4_0,
    /// Scale and bias, then 4 bits per weight.
    Q4_1,
    /// Scale, then 8 signed bits per weight.
    Q8_0,
}

/// One of the three arrays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Packed,
    Scales,
    Biases,
}

impl Part {
    /// The type of its values.
    pub fn dtype(self) -> Dtype {
        match self {
            Self::Packed => Dtype::Uint32,
            Self::Scales | Self::Biases => Dtype::Float16,
        }
    }
}

impl Block {
    /// The packed words of whole blocks.
    pub fn packed(self, bytes: &[u8]) -> Vec<u32> {
        bytes.chunks_exact(self.bytes()).flat_map(|bytes| self.words(bytes)).collect()
    }

    /// The scale of each of them.
    pub fn scales(self, bytes: &[u8]) -> Vec<f16> {
        bytes.chunks_exact(self.bytes()).map(|bytes| half(bytes, 0)).collect()
    }

    /// The bias of each of them.
    pub fn biases(self, bytes: &[u8]) -> Vec<f16> {
        bytes.chunks_exact(self.bytes()).map(|bytes| self.bias(bytes)).collect()
    }

    /// Bits of a weight.
    pub fn bits(self) -> usize {
        match self {
            Self::Q4_0 | Self::Q4_1 => 4,
            Self::Q8_0 => 8,
        }
    }

    /// Bytes of a block.
    pub fn bytes(self) -> usize {
        self.header() + GROUP * self.bits() / 8
    }

    /// Bytes before the weights.
    fn header(self) -> usize {
        match self {
            Self::Q4_0 | Self::Q8_0 => 2,
            Self::Q4_1 => 4,
        }
    }

    fn bias(self, bytes: &[u8]) -> f16 {
        // Exact: a power of two times the scale.
        match self {
            Self::Q4_0 => f16::from_f32(-8.0 * half(bytes, 0).to_f32()),
            Self::Q4_1 => half(bytes, 2),
            Self::Q8_0 => f16::from_f32(-128.0 * half(bytes, 0).to_f32()),
        }
    }

    /// The weights as MLX packs them: in order, the first in the lowest bits.
    fn words(self, bytes: &[u8]) -> Vec<u32> {
        let weights = &bytes[self.header()..];
        let bytes: Vec<u8> = match self {
            // Signed to unsigned: flip the sign bit.
            Self::Q8_0 => weights.iter().map(|weight| weight ^ 0x80).collect(),
            // Weight `i` is in the low half of byte `i`, weight `16 + i` in its high half.
            Self::Q4_0 | Self::Q4_1 => {
                let pairs = weights.as_chunks::<2>().0;
                let low = pairs.iter().map(|[a, b]| (a & 0xf) | (b & 0xf) << 4);
                let high = pairs.iter().map(|[a, b]| (a >> 4) | (b & 0xf0));
                low.chain(high).collect()
            }
        };
        bytes.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).collect()
    }
}

fn half(bytes: &[u8], at: usize) -> f16 {
    let pair = bytes.get(at..at + 2).and_then(|pair| pair.try_into().ok());
    f16::from_le_bytes(pair.unwrap_or_default())
}
