//! Checkpoint files as named tensors: GGUF and safetensors, read when they are asked for, and written.
//!
//! All sources are brought into one set of names and layouts, those of MLX and Hugging Face.

mod expected;
mod gguf_file;
mod index;
pub(crate) mod json;
mod matrix;
mod model_files;
mod safetensors_files;
mod source;
mod store;
mod weight_files;
mod writer;

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::path::Path;

use mlx_rs::{Array, Dtype};
use safetensors::tensor::Dtype as FileDtype;

use crate::Result;
use crate::error::Differences;
use crate::ext::float_format::FloatFormat;

pub(crate) use expected::Expected;
pub(crate) use gguf_file::list as list_gguf;
pub(crate) use matrix::Matrix;
pub use model_files::{model_digest, model_files};
pub(crate) use safetensors_files::{list as list_safetensors, list_folder};
pub(crate) use source::WeightSource;
pub(crate) use store::Store;
pub use writer::write_safetensors;
pub(crate) use writer::{MLX_FORMAT, Planned, SafetensorsWriter, bytes_of};

/// The tensors of a checkpoint. They stay in their files: a tensor can be read more than once, from
/// any thread.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    store: Store,
    /// Input widths of the matrices, by name; from the configuration.
    widths: BTreeMap<String, usize>,
}

impl Checkpoint {
    /// The tensors of `store`, compared with those expected. `path` is named in errors.
    ///
    /// # Errors
    /// [`Error::Tensors`](crate::Error::Tensors) with every tensor that is missing, unexpected, there
    /// twice, or of another shape or type.
    pub fn new(path: &Path, store: Store, expected: &BTreeMap<String, Expected>) -> Result<Self> {
        let mut differences = Differences::default();
        let mut known = HashSet::new();
        let mut widths = BTreeMap::new();
        for (name, &expected) in expected {
            let tensor = expected.tensor(name);
            let Some(entry) = store.get(&tensor) else {
                differences.missing.push(tensor);
                continue;
            };
            match expected.compare(name, entry, &store) {
                Ok(parts) => known.extend(parts),
                Err((expected, found)) => {
                    known.extend(["scales", "biases"].map(|part| format!("{name}.{part}")));
                    differences.mismatched.push((tensor.clone(), expected, found));
                }
            }
            known.insert(tensor);
            if let Expected::Matrix { columns, .. } = expected {
                widths.insert(name.clone(), columns);
            }
        }
        differences.doubled.extend(store.doubled().iter().map(|(name, files)| {
            let [first, second] = files.each_ref().map(|file| file.to_path_buf());
            (name.clone(), first, second)
        }));
        let names = store.iter().map(|(name, _)| name.to_owned());
        differences.unexpected = names.filter(|name| !known.contains(name)).collect();
        differences.into_result(path)?;
        Ok(Self { store, widths })
    }

    /// The names of all tensors.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.store.iter().map(|(name, _)| name)
    }

    /// Type and shape of a tensor, as in a safetensors file.
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
        let weight = self.store.get(&format!("{name}.weight"))?;
        Some([*weight.shape.first()?, *self.widths.get(name)?])
    }
}

impl WeightSource for Checkpoint {
    fn tensor(&self, name: &str) -> Result<Array> {
        self.store.read(name)
    }

    fn tensors_below(&self, prefix: &str) -> Result<BTreeMap<String, Array>> {
        let read = |(name, _): (&str, _)| Ok((name.to_owned(), self.store.read(name)?));
        self.store.below(prefix).map(read).collect()
    }

    fn assemble(&self, name: &str, read: &mut dyn FnMut(&str) -> Result<Array>) -> Result<Matrix> {
        let weight = read(&format!("{name}.weight"))?;
        let [scales, biases] = ["scales", "biases"].map(|part| format!("{name}.{part}"));
        if self.store.get(&scales).is_none() {
            return Ok(Matrix::Dense(weight));
        }
        let scales = read(&scales)?;
        let width = self.widths.get(name).copied().unwrap_or_default() as i32;
        let group_size = width / scales.dim(-1).max(1);
        let bits = weight.dim(-1) * 32 / width.max(1);
        if scales.dtype() == Dtype::Uint8
            && let Some(format) = FloatFormat::of(bits as usize, group_size as usize)
        {
            return Ok(Matrix::Floats { packed: weight, scales, format });
        }
        let biases = read(&biases)?;
        Ok(Matrix::Quantized { packed: weight, scales, biases, group_size, bits })
    }

    fn matrix_rows(&self, name: &str, rows: &[Range<usize>]) -> Result<Matrix> {
        self.assemble(name, &mut |name| self.store.read_rows(name, rows))
    }

    fn float_type(&self, name: &str) -> Dtype {
        let entry = |part: &str| self.store.get(&format!("{name}.{part}"));
        let entry = entry("scales").or_else(|| entry("weight"));
        match entry.and_then(|entry| entry.encoding.dtype()) {
            // Integer scales, of small floats, do not tell; MLX computes these in bf16.
            Some(Dtype::Uint8) => Dtype::Bfloat16,
            dtype => dtype.unwrap_or(Dtype::Float32),
        }
    }

    fn bytes_below(&self, prefix: &str) -> u64 {
        self.store.below(prefix).map(|(_, entry)| entry.bytes()).sum()
    }
}
