//! From files to named tensors: every source ends in the same names and layout, MLX's and Hugging
//! Face's, so that a family is written once.

mod blocks;

mod gguf_file;
mod index;
pub(crate) mod safetensors_files;
pub(crate) mod store;
pub(crate) mod writer;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mlx_rs::{Array, Dtype};
use safetensors::tensor::Dtype as FileDtype;

use crate::arch::config::Config;
use crate::error::Differences;
use crate::ext::float_format::FloatFormat;
use crate::nn::experts::Gathered;
use crate::nn::linear::{Kernels, Linear, Weight, WeightResidency};
use crate::{Error, Result};
use store::{Entry, Store};

/// What the configuration says a tensor must be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Expected {
    /// `NAME.weight`, one-dimensional, floating point.
    Vector(usize),
    /// `NAME` itself, one-dimensional, floating point.
    Parameter(usize),
    /// `NAME.weight`, floating point or packed; packed also `NAME.scales`, and `NAME.biases` unless
    /// what is packed are floats.
    Matrix { rows: usize, columns: usize },
    /// `NAME.weight`, floating point, `[channels, taps, 1]`: each channel is convolved by itself.
    Convolution { channels: usize, taps: usize },
}

impl Expected {
    /// How many numbers it has.
    pub fn weights(self) -> usize {
        match self {
            Self::Vector(length) | Self::Parameter(length) => length,
            Self::Matrix { rows, columns } => rows * columns,
            Self::Convolution { channels, taps } => channels * taps,
        }
    }
}

/// Reads the configuration and the tensors at `path`: a `.gguf` file, or a folder with
/// `config.json` and `*.safetensors`.
pub(crate) fn open(path: &Path) -> Result<(Config, Checkpoint)> {
    if path.is_file() && path.extension().is_some_and(|extension| extension == "gguf") {
        gguf_file::open(path)
    } else if path.join("config.json").is_file() {
        safetensors_files::open(path)
    } else if path.exists() {
        Err(Error::NotAModel { path: path.to_path_buf() })
    } else {
        let source = std::io::Error::from(std::io::ErrorKind::NotFound);
        Err(Error::Read { path: path.to_path_buf(), source })
    }
}

/// The tensors of a checkpoint. They stay in their files: reading one twice is possible, and any
/// thread may do it.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    path: PathBuf,
    store: Store,
    /// Input widths of the matrices, by name; from the configuration.
    widths: BTreeMap<String, usize>,
    kernels: Kernels,
}

impl Checkpoint {
    pub fn new(path: &Path, store: Store) -> Result<Self> {
        let kernels = Kernels::of_default_device()?;
        Ok(Self { path: path.to_path_buf(), store, widths: BTreeMap::new(), kernels })
    }

    /// Compares all tensors with those expected, before the first is taken.
    pub fn check(&mut self, expected: &BTreeMap<String, Expected>) -> Result<()> {
        let mut differences = Differences::default();
        let mut known = Vec::new();
        for (name, &expected) in expected {
            let weight = match expected {
                Expected::Parameter(_) => name.clone(),
                _ => format!("{name}.weight"),
            };
            let Some(entry) = self.store.get(&weight) else {
                differences.missing.push(weight);
                continue;
            };
            match self.mismatch(name, entry, expected) {
                Ok(companions) => known.extend(companions),
                Err((expected, found)) => {
                    known.extend(["scales", "biases"].map(|part| format!("{name}.{part}")));
                    differences.mismatched.push((weight.clone(), expected, found));
                }
            }
            known.push(weight);
            if let Expected::Matrix { columns, .. } = expected {
                self.widths.insert(name.clone(), columns);
            }
        }
        let names = self.store.iter().map(|(name, _)| name.to_owned());
        differences.unexpected = names.filter(|name| !known.contains(name)).collect();
        differences.into_result(&self.path)
    }

    /// The names of the tensors that belong to `NAME.weight`, or what was expected and found.
    fn mismatch(
        &self,
        name: &str,
        entry: &Entry,
        expected: Expected,
    ) -> std::result::Result<Vec<String>, (String, String)> {
        let float = matches!(
            entry.encoding.dtype(),
            Some(Dtype::Float32 | Dtype::Float16 | Dtype::Bfloat16)
        );
        match expected {
            Expected::Vector(length) | Expected::Parameter(length) => {
                match float && entry.shape == [length] {
                    true => Ok(Vec::new()),
                    false => Err((format!("floats [{length}]"), entry.describe())),
                }
            }
            Expected::Convolution { channels, taps } => {
                match float && entry.shape == [channels, taps, 1] {
                    true => Ok(Vec::new()),
                    false => Err((format!("floats [{channels}, {taps}, 1]"), entry.describe())),
                }
            }
            Expected::Matrix { rows, columns } if float && entry.shape == [rows, columns] => {
                Ok(Vec::new())
            }
            Expected::Matrix { rows, columns } => {
                let parts = ["scales", "biases"].map(|part| format!("{name}.{part}"));
                let layout = Packing::of(entry, parts.each_ref().map(|part| self.store.get(part)));
                match layout {
                    Some(layout) if layout.rows == rows && layout.fits(columns) => {
                        Ok(parts.to_vec())
                    }
                    _ => Err((
                        format!("floats [{rows}, {columns}] or their packed form"),
                        entry.describe(),
                    )),
                }
            }
        }
    }

    /// How many rows the matrix `name` has.
    pub fn rows(&self, name: &str) -> usize {
        let entry = self.store.get(&format!("{name}.weight"));
        entry.and_then(|entry| entry.shape.first().copied()).unwrap_or_default()
    }

    /// The type of the matrix `name` as whoever made it computed with it.
    pub fn float_type(&self, name: &str) -> Dtype {
        let entry = |part: &str| self.store.get(&format!("{name}.{part}"));
        let entry = entry("scales").or_else(|| entry("weight"));
        match entry.and_then(|entry| entry.encoding.dtype()) {
            // Scales that are no floats leave it open; MLX takes them for those of bf16.
            Some(Dtype::Uint8) => Dtype::Bfloat16,
            dtype => dtype.unwrap_or(Dtype::Float32),
        }
    }

    /// The names of all tensors.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.store.iter().map(|(name, _)| name)
    }

    /// Type and shape of a tensor, as a safetensors file has them.
    pub fn form(&self, name: &str) -> Option<(FileDtype, Vec<usize>)> {
        let entry = self.store.get(name)?;
        let dtype = match entry.encoding.dtype()? {
            Dtype::Uint32 => FileDtype::U32,
            Dtype::Uint8 => FileDtype::U8,
            Dtype::Float16 => FileDtype::F16,
            Dtype::Bfloat16 => FileDtype::BF16,
            _ => FileDtype::F32,
        };
        Some((dtype, entry.shape.clone()))
    }

    /// Rows and columns of the matrix `name`, unpacked.
    pub fn matrix_shape(&self, name: &str) -> Option<[usize; 2]> {
        Some([self.rows(name), *self.widths.get(name)?])
    }

    /// Reads the tensor of this name.
    pub fn read(&self, name: &str) -> Result<Array> {
        self.store.read(name)
    }

    /// Reads `NAME.weight` and what belongs to it, as they are in the file.
    pub fn read_module(&self, name: &str) -> Result<Weight> {
        self.weight(name, |name| self.store.read(name))
    }

    /// How products are computed on this device.
    pub fn kernels(&self) -> Kernels {
        self.kernels
    }

    /// Bytes of the tensors whose names begin with `prefix`, as they are in the files.
    pub fn bytes_below(&self, prefix: &str) -> u64 {
        self.store.below(prefix).map(|(_, entry)| entry.bytes()).sum()
    }

    /// Its tensors, each to be read when it is taken, with matrices to be held like this.
    pub fn tensors(self: &Arc<Self>, residency: WeightResidency) -> Tensors {
        Tensors { checkpoint: Arc::clone(self), read: BTreeMap::new(), residency }
    }

    /// Reads every tensor whose name begins with `prefix`. No MLX operation is asked for, so one
    /// thread may read and another build with what was read.
    pub fn read_below(self: &Arc<Self>, prefix: &str) -> Result<Tensors> {
        let read = |(name, _): (&str, _)| Ok((name.to_owned(), self.store.read(name)?));
        let read = self.store.below(prefix).map(read).collect::<Result<_>>()?;
        Ok(Tensors { read, ..self.tensors(WeightResidency::Packed) })
    }

    /// Reads some rows of the matrix `name`, in the file's form and order.
    pub fn read_rows(&self, name: &str, rows: &[Range<usize>]) -> Result<Weight> {
        self.weight(name, |name| self.store.read_rows(name, rows))
    }

    /// The matrix `NAME.weight` and what belongs to it.
    fn weight(&self, name: &str, mut read: impl FnMut(&str) -> Result<Array>) -> Result<Weight> {
        let weight = read(&format!("{name}.weight"))?;
        let [scales, biases] = ["scales", "biases"].map(|part| format!("{name}.{part}"));
        if self.store.get(&scales).is_none() {
            return Ok(Weight::Dense(weight));
        }
        let scales = read(&scales)?;
        let width = self.widths.get(name).copied().unwrap_or_default() as i32;
        let group_size = width / scales.dim(-1).max(1);
        let bits = weight.dim(-1) * 32 / width.max(1);
        if scales.dtype() == Dtype::Uint8
            && let Some(format) = FloatFormat::of(bits as usize, group_size as usize)
        {
            return Ok(Weight::Floats { packed: weight, scales, format });
        }
        let biases = read(&biases)?;
        Ok(Weight::Quantized { packed: weight, scales, biases, group_size, bits })
    }
}

/// Tensors of a checkpoint, taken one by one as what they belong to is built.
#[derive(Debug)]
pub(crate) struct Tensors {
    checkpoint: Arc<Checkpoint>,
    /// Those that were read already.
    read: BTreeMap<String, Array>,
    residency: WeightResidency,
}

impl Tensors {
    /// Takes `NAME.weight`, a vector or whatever else is no matrix.
    pub fn vector(&mut self, name: &str) -> Result<Array> {
        Ok(self.take(&format!("{name}.weight"))?.as_dtype(self.checkpoint.kernels.dtype())?)
    }

    /// Takes `NAME` itself, a vector.
    pub fn parameter(&mut self, name: &str) -> Result<Array> {
        Ok(self.take(name)?.as_dtype(self.checkpoint.kernels.dtype())?)
    }

    /// Takes `NAME` itself, a vector, in f32 whatever the device computes in.
    pub fn precise(&mut self, name: &str) -> Result<Array> {
        Ok(self.take(name)?.as_dtype(Dtype::Float32)?)
    }

    /// Takes the matrix `NAME.weight` and what belongs to it: matrices of so many experts, one below
    /// the other.
    pub fn gathered(&mut self, name: &str, experts: usize) -> Result<Gathered> {
        let kernels = self.checkpoint.kernels;
        let weight = self.weight(name)?.prepare(kernels, self.residency)?;
        Gathered::new(weight, experts, kernels)
    }

    /// Takes the matrix `NAME.weight` and what belongs to it.
    pub fn linear(&mut self, name: &str) -> Result<Linear> {
        let kernels = self.checkpoint.kernels;
        let weight = match self.residency {
            WeightResidency::Streamed => {
                let checkpoint = Arc::clone(&self.checkpoint);
                Weight::OnDisk { checkpoint, name: name.into() }
            }
            residency => self.weight(name)?.prepare(kernels, residency)?,
        };
        Ok(Linear::new(weight, kernels))
    }

    fn weight(&mut self, name: &str) -> Result<Weight> {
        let checkpoint = Arc::clone(&self.checkpoint);
        checkpoint.weight(name, |name| self.take(name))
    }

    fn take(&mut self, name: &str) -> Result<Array> {
        match self.read.remove(name) {
            Some(array) => Ok(array),
            None => self.checkpoint.store.read(name),
        }
    }
}

/// The shape of a quantized matrix, read off its arrays: with biases it is affine, without them its
/// numbers are floats.
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

    /// Whether rows of `columns` weights can be packed this way by MLX.
    fn fits(&self, columns: usize) -> bool {
        let group = columns / self.groups;
        let bits = self.words * 32 / columns.max(1);
        let known = match self.affine {
            true => matches!(group, 32 | 64 | 128) && matches!(bits, 2 | 3 | 4 | 5 | 6 | 8),
            false => FloatFormat::of(bits, group).is_some(),
        };
        known && group * self.groups == columns && bits * columns == self.words * 32
    }
}
