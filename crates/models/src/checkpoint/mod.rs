//! From files to named tensors: every source ends in the same names and layout, MLX's and Hugging
//! Face's, so that a family is written once.

mod config_json;
mod gguf_file;
pub(crate) mod safetensors_files;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mlx_rs::{Array, Dtype};

use crate::config::Config;
use crate::error::Differences;
use crate::linear::{Kernels, Linear, Weight, WeightResidency};
use crate::{Error, Result};

/// What the configuration says a tensor must be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Expected {
    /// `NAME.weight`, one-dimensional, floating point.
    Vector(usize),
    /// `NAME.weight`, floating point or packed; packed also `NAME.scales` and `NAME.biases`.
    Matrix { rows: usize, columns: usize },
}

/// Reads the configuration and the tensors at `path`: a `.gguf` file, or a folder with
/// `config.json` and `*.safetensors`.
pub(crate) fn open(path: &Path) -> Result<(Config, Tensors)> {
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

/// The tensors of a checkpoint, taken one by one as the model is built.
#[derive(Debug)]
pub(crate) struct Tensors {
    path: PathBuf,
    arrays: BTreeMap<String, Array>,
    /// Input widths of the matrices, by name; from the configuration.
    widths: BTreeMap<String, usize>,
    /// `order[name]`: row `i` of the matrix in memory is row `order[i]` of that in the file.
    orders: BTreeMap<String, Array>,
    kernels: Kernels,
    residency: WeightResidency,
}

impl Tensors {
    pub fn new(path: &Path, arrays: BTreeMap<String, Array>) -> Result<Self> {
        Ok(Self {
            path: path.to_path_buf(),
            arrays,
            widths: BTreeMap::new(),
            orders: BTreeMap::new(),
            kernels: Kernels::of_default_device()?,
            residency: WeightResidency::Packed,
        })
    }

    /// Compares all tensors with those expected, before the first is taken.
    pub fn check(&mut self, expected: &BTreeMap<String, Expected>) -> Result<()> {
        let mut differences = Differences::default();
        let mut known = Vec::new();
        for (name, &expected) in expected {
            let weight = format!("{name}.weight");
            let Some(array) = self.arrays.get(&weight) else {
                differences.missing.push(weight);
                continue;
            };
            match self.mismatch(name, array, expected) {
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
        let unexpected = self.arrays.keys().filter(|&name| !known.contains(name));
        differences.unexpected = unexpected.cloned().collect();
        differences.into_result(&self.path)
    }

    /// The names of the tensors that belong to `NAME.weight`, or what was expected and found.
    fn mismatch(
        &self,
        name: &str,
        array: &Array,
        expected: Expected,
    ) -> std::result::Result<Vec<String>, (String, String)> {
        let found = |array: &Array| format!("{:?} {:?}", array.dtype(), array.shape());
        let float = matches!(array.dtype(), Dtype::Float32 | Dtype::Float16 | Dtype::Bfloat16);
        let fits = |shape: &[usize]| {
            array.ndim() == shape.len()
                && shape.iter().zip(array.shape()).all(|(&e, &f)| usize::try_from(f) == Ok(e))
        };
        match expected {
            Expected::Vector(length) if float && fits(&[length]) => Ok(Vec::new()),
            Expected::Vector(length) => Err((format!("floats [{length}]"), found(array))),
            Expected::Matrix { rows, columns } if float && fits(&[rows, columns]) => Ok(Vec::new()),
            Expected::Matrix { rows, columns } => {
                let parts = ["scales", "biases"].map(|part| format!("{name}.{part}"));
                let layout = Packing::of(array, parts.each_ref().map(|p| self.arrays.get(p)));
                match layout {
                    Some(layout) if layout.rows == rows && layout.fits(columns) => {
                        Ok(parts.to_vec())
                    }
                    _ => Err((
                        format!("floats [{rows}, {columns}] or their packed form"),
                        found(array),
                    )),
                }
            }
        }
    }

    /// How the model will hold its weights: decides [`WeightResidency::Auto`] by their number.
    pub fn settle(&mut self, wish: WeightResidency, weights: usize) {
        self.residency = self.kernels.residency(wish, weights);
    }

    /// The matrix `name` will have its rows in another order than in the file.
    pub fn reorder(&mut self, name: String, order: Array) {
        self.orders.insert(name, order);
    }

    /// How products are computed on this device.
    pub fn kernels(&self) -> Kernels {
        self.kernels
    }

    /// Takes `NAME.weight`, a vector.
    pub fn vector(&mut self, name: &str) -> Result<Array> {
        Ok(self.take(&format!("{name}.weight"))?.as_dtype(self.kernels.dtype())?)
    }

    /// Takes `NAME.weight` and what belongs to it.
    pub fn linear(&mut self, name: &str) -> Result<Linear> {
        let weight = self.take(&format!("{name}.weight"))?;
        let weight = match self.arrays.remove(&format!("{name}.scales")) {
            None => Weight::Dense(weight),
            Some(scales) => {
                let biases = self.take(&format!("{name}.biases"))?;
                let width = self.widths.get(name).copied().unwrap_or_default() as i32;
                let group_size = width / scales.dim(-1).max(1);
                let bits = weight.dim(-1) * 32 / width.max(1);
                Weight::Quantized { packed: weight, scales, biases, group_size, bits }
            }
        };
        let weight = match self.orders.get(name) {
            Some(order) => weight.reorder_rows(order)?,
            None => weight,
        };
        Ok(Linear::new(weight.prepare(self.kernels, self.residency)?, self.kernels))
    }

    fn take(&mut self, name: &str) -> Result<Array> {
        self.arrays.remove(name).ok_or_else(|| Error::Tensors {
            path: self.path.clone(),
            differences: Differences { missing: vec![name.to_owned()], ..Default::default() },
        })
    }
}

/// The shape of an affinely quantized matrix, read off its three arrays.
struct Packing {
    rows: usize,
    words: usize,
    groups: usize,
}

impl Packing {
    fn of(packed: &Array, parts: [Option<&Array>; 2]) -> Option<Self> {
        let [scales, biases] = [parts[0]?, parts[1]?];
        let &[rows, words] = packed.shape() else { return None };
        let &[scale_rows, groups] = scales.shape() else { return None };
        let same = scale_rows == rows && biases.shape() == scales.shape();
        let types = packed.dtype() == Dtype::Uint32 && scales.dtype() == biases.dtype();
        let count = |n: i32| usize::try_from(n).ok().filter(|&n| n > 0);
        (same && types).then_some(())?;
        Some(Self { rows: count(rows)?, words: count(words)?, groups: count(groups)? })
    }

    /// Whether rows of `columns` weights can be packed this way by MLX.
    fn fits(&self, columns: usize) -> bool {
        let group = columns / self.groups;
        let bits = self.words * 32 / columns.max(1);
        matches!(group, 32 | 64 | 128)
            && group * self.groups == columns
            && matches!(bits, 2 | 3 | 4 | 5 | 6 | 8)
            && bits * columns == self.words * 32
    }
}
