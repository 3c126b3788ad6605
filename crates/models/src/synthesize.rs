use std::fs;
use std::path::Path;

use half::bf16;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::tensor::Dtype;
use serde_json::{Value, json};
use zerocopy::IntoBytes;

use crate::arch::registry::read_config;
use crate::checkpoint::{Expected, MLX_FORMAT, Planned, SafetensorsWriter, json as json_file};
use crate::{Error, Result};

/// How the matrices of a synthetic checkpoint are stored. Vectors are bf16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Storage {
    /// In bf16.
    Bf16,
    /// With MLX's affine quantization.
    Packed {
        /// Bits of a weight: 2, 3, 4, 5, 6 or 8.
        bits: usize,
        /// Weights that share a scale: 32, 64 or 128.
        group_size: usize,
    },
}

/// The size of a synthetic checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Synthesized {
    /// Number of weights.
    pub weights: usize,
    /// Bytes of the tensors on disk.
    pub bytes: u64,
}

/// Writes a checkpoint of random weights for any supported `config.json`, to measure what a model of that
/// size needs. Only a few megabytes are in memory at a time.
///
/// Weights are scaled so that hidden states keep their magnitude from layer to layer. `progress` is
/// called with the bytes written and the total.
///
/// # Errors
/// A configuration that [`Model::open`](crate::Model::open) would not accept, or whose widths are
/// not a multiple of the group size; a folder that cannot be written.
pub fn synthesize(
    config: &Path,
    folder: &Path,
    storage: Storage,
    seed: u64,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Synthesized> {
    let shape = read_config(config)?;
    let mut keys: Value = json_file::parse(config, &json_file::read(config)?)?;
    if let Storage::Packed { bits, group_size } = storage {
        keys["quantization"] = json!({ "bits": bits, "group_size": group_size });
    }
    let mut parts = Vec::new();
    for (name, expected) in shape.expected() {
        parts.extend(parts_of(&name, expected, storage)?);
    }
    fs::create_dir_all(folder)
        .map_err(|source| Error::Create { path: folder.to_path_buf(), source })?;
    let planned: Vec<Planned> = parts.iter().map(|part| part.planned.clone()).collect();
    let total = planned.iter().map(Planned::bytes).sum::<usize>() as u64;
    let mut file =
        SafetensorsWriter::create(&folder.join("model.safetensors"), MLX_FORMAT, &planned)?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut written = 0;
    for part in &parts {
        part.write(&mut rng, &mut |bytes| {
            written += bytes.len() as u64;
            progress(written, total);
            file.write(bytes)
        })?;
    }
    file.commit()?;
    durable::write_json(folder.join("config.json"), &keys)?;
    Ok(Synthesized { weights: shape.num_weights(), bytes: total })
}

/// One tensor and the distribution of its values.
struct Part {
    planned: Planned,
    values: Values,
}

enum Values {
    /// Uniform in `mean - reach..=mean + reach`, in bf16.
    Around { mean: f32, reach: f32 },
    /// Random bits.
    Bits,
}

fn parts_of(name: &str, expected: Expected, storage: Storage) -> Result<Vec<Part>> {
    let part = |suffix: &str, dtype, shape: &[usize], values| Part {
        planned: Planned { name: format!("{name}{suffix}"), dtype, shape: shape.to_vec() },
        values,
    };
    let norm = Values::Around { mean: 1.0, reach: 0.1 };
    let (rows, columns) = match expected {
        Expected::Vector(length) => return Ok(vec![part(".weight", Dtype::BF16, &[length], norm)]),
        Expected::Parameter(length) => return Ok(vec![part("", Dtype::BF16, &[length], norm)]),
        Expected::Convolution { channels, taps } => {
            let values = Values::Around { mean: 0.0, reach: (3.0 / taps as f32).sqrt() };
            return Ok(vec![part(".weight", Dtype::BF16, &[channels, taps, 1], values)]);
        }
        Expected::Matrix { rows, columns } => (rows, columns),
    };
    // Uniform with a variance of one over the number of inputs.
    let reach = (3.0 / columns as f32).sqrt();
    let (bits, group_size) = match storage {
        Storage::Bf16 => {
            let values = Values::Around { mean: 0.0, reach };
            return Ok(vec![part(".weight", Dtype::BF16, &[rows, columns], values)]);
        }
        Storage::Packed { bits, group_size } => (bits, group_size),
    };
    let sound = matches!(bits, 2..=6 | 8) && matches!(group_size, 32 | 64 | 128);
    if !sound || columns % group_size != 0 {
        return Err(Error::Argument {
            name: "storage",
            expected: format!(
                "2, 3, 4, 5, 6 or 8 bits in groups of 32, 64 or 128 that divide the {columns} \
                 inputs of {name}"
            ),
            found: format!("{bits} bits in groups of {group_size}"),
        });
    }
    let levels = (1u32 << bits) as f32 - 1.0;
    let scale = 2.0 * reach / levels;
    let around = |mean: f32| Values::Around { mean, reach: 0.1 * scale };
    let groups = [rows, columns / group_size];
    Ok(vec![
        part(".weight", Dtype::U32, &[rows, columns * bits / 32], Values::Bits),
        part(".scales", Dtype::BF16, &groups, around(scale)),
        part(".biases", Dtype::BF16, &groups, around(-reach)),
    ])
}

impl Part {
    /// Draws its values, a piece at a time.
    fn write(
        &self,
        rng: &mut ChaCha8Rng,
        write: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        const PIECE: usize = 1 << 20;
        let mut left = self.planned.bytes();
        while left > 0 {
            let size = left.min(PIECE);
            left -= size;
            match self.values {
                Values::Bits => {
                    let mut bytes = vec![0; size];
                    rng.fill_bytes(&mut bytes);
                    write(&bytes)?;
                }
                Values::Around { mean, reach } => {
                    let draw = |_| bf16::from_f32(mean + rng.random_range(-reach..=reach));
                    let values: Vec<bf16> = (0..size / 2).map(draw).collect();
                    write(values.as_bytes())?;
                }
            }
        }
        Ok(())
    }
}
