use mlx_rs::Dtype;

use super::store::{Entry, Store};
use crate::ext::float_format::FloatFormat;

/// What a model configuration says a tensor must be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Expected {
    /// `NAME.weight`, one-dimensional, floating point.
    Vector(usize),
    /// `NAME` itself, one-dimensional, floating point.
    Parameter(usize),
    /// `NAME.weight`, floating point or packed; packed also `NAME.scales`, and `NAME.biases` unless
    /// it is packed as small floats.
    Matrix { rows: usize, columns: usize },
    /// `NAME.weight`, floating point, `[channels, taps, 1]`: a depthwise convolution.
    Convolution { channels: usize, taps: usize },
}

impl Expected {
    /// How many values it has.
    pub fn weights(self) -> usize {
        match self {
            Self::Vector(length) | Self::Parameter(length) => length,
            Self::Matrix { rows, columns } => rows * columns,
            Self::Convolution { channels, taps } => channels * taps,
        }
    }

    /// The tensor that holds the values of `name`.
    pub fn tensor(self, name: &str) -> String {
        match self {
            Self::Parameter(_) => name.to_owned(),
            Self::Vector(_) | Self::Matrix { .. } | Self::Convolution { .. } => {
                format!("{name}.weight")
            }
        }
    }

    /// Compares it with `entry`, its tensor in `store`. Returns the names of the tensors that belong
    /// to it, or what was expected and what was found.
    pub fn compare(
        self,
        name: &str,
        entry: &Entry,
        store: &Store,
    ) -> Result<Vec<String>, (String, String)> {
        let float = matches!(
            entry.encoding.dtype(),
            Some(Dtype::Float32 | Dtype::Float16 | Dtype::Bfloat16)
        );
        let (fits, expected) = match self {
            Self::Vector(length) | Self::Parameter(length) => {
                (float && entry.shape == [length], format!("floats [{length}]"))
            }
            Self::Convolution { channels, taps } => (
                float && entry.shape == [channels, taps, 1],
                format!("floats [{channels}, {taps}, 1]"),
            ),
            Self::Matrix { rows, columns } => {
                let parts = ["scales", "biases"].map(|part| format!("{name}.{part}"));
                let packing = Packing::of(entry, parts.each_ref().map(|part| store.get(part)));
                if !float && packing.is_some_and(|p| p.rows == rows && p.fits(columns)) {
                    return Ok(parts.to_vec());
                }
                let expected = format!("floats [{rows}, {columns}] or their packed form");
                (float && entry.shape == [rows, columns], expected)
            }
        };
        if fits { Ok(Vec::new()) } else { Err((expected, entry.describe())) }
    }
}

/// The shape of a quantized matrix, from its arrays. With biases it is affinely quantized, without
/// them it consists of small floats.
struct Packing {
    rows: usize,
    words: usize,
    groups: usize,
    affine: bool,
}

impl Packing {
    fn of(packed: &Entry, parts: [Option<&Entry>; 2]) -> Option<Self> {
        let [scales, biases] = [parts[0]?, parts[1].unwrap_or(parts[0]?)];
        let affine = parts[1].is_some();
        let &[rows, words] = packed.shape.as_slice() else { return None };
        let &[scale_rows, groups] = scales.shape.as_slice() else { return None };
        let same = scale_rows == rows && biases.shape == scales.shape;
        let dtype = |entry: &Entry| entry.encoding.dtype();
        let types = dtype(packed) == Some(Dtype::Uint32) && dtype(scales) == dtype(biases);
        let scaled = dtype(scales).is_some_and(|dtype| (dtype == Dtype::Uint8) != affine);
        let sound = same && types && scaled && rows * words * groups > 0;
        sound.then_some(Self { rows, words, groups, affine })
    }

    /// Whether rows of `columns` weights are packed this way: by MLX, or in groups of 16 in a GGUF file.
    fn fits(&self, columns: usize) -> bool {
        let group = columns / self.groups;
        let bits = self.words * 32 / columns.max(1);
        let known = match self.affine {
            true => match group {
                16 => matches!(bits, 2 | 4 | 6 | 8),
                32 | 64 | 128 => matches!(bits, 2 | 3 | 4 | 5 | 6 | 8),
                _ => false,
            },
            false => FloatFormat::of(bits, group).is_some(),
        };
        known && group * self.groups == columns && bits * columns == self.words * 32
    }
}
