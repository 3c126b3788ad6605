//! Writes safetensors files tensor by tensor, with one tensor in memory at a time.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use mlx_rs::{Array, Dtype};
use safetensors::tensor::{Dtype as FileDtype, Metadata, TensorInfo};
use zerocopy::{Immutable, IntoBytes};

use crate::{Error, Result};

/// A tensor that will be written.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub name: String,
    pub dtype: FileDtype,
    pub shape: Vec<usize>,
}

impl Planned {
    /// Its size in the file.
    pub fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bitsize() / 8
    }
}

/// The metadata by which mlx-lm tells its own files from PyTorch's.
pub(crate) const MLX_FORMAT: &[(&str, &str)] = &[("format", "mlx")];

/// A safetensors file that is being written. It appears under its name on [`commit`](Self::commit);
/// dropped before, it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct SafetensorsWriter {
    path: PathBuf,
    file: durable::Writer,
    /// Bytes of tensors not yet written.
    left: usize,
}

impl SafetensorsWriter {
    /// Starts a file that will have this metadata in its header and these tensors, in this order.
    pub fn create(path: &Path, metadata: &[(&str, &str)], tensors: &[Planned]) -> Result<Self> {
        let broken = |reason: String| Error::Safetensors { path: path.to_path_buf(), reason };
        let mut end = 0;
        let infos = tensors.iter().map(|tensor| {
            let begin = end;
            end += tensor.bytes();
            let Planned { name, dtype, shape } = tensor.clone();
            (name, TensorInfo { dtype, shape, data_offsets: (begin, end) })
        });
        let metadata = (!metadata.is_empty()).then(|| {
            let owned = |&(key, value): &(&str, &str)| (key.to_owned(), value.to_owned());
            metadata.iter().map(owned).collect::<HashMap<_, _>>()
        });
        let header = Metadata::new(metadata, infos.collect());
        let header = header.map_err(|error| broken(error.to_string()))?;
        let mut header = serde_json::to_vec(&header).map_err(|error| broken(error.to_string()))?;
        // Tensor data is aligned to eight bytes.
        header.resize(header.len().next_multiple_of(8), b' ');
        let mut writer =
            Self { path: path.to_path_buf(), file: durable::Writer::create(path)?, left: end };
        writer.put(&(header.len() as u64).to_le_bytes())?;
        writer.put(&header)?;
        Ok(writer)
    }

    /// Writes the next bytes of tensor data.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.left = self.left.checked_sub(bytes.len()).ok_or_else(|| Error::Safetensors {
            path: self.path.clone(),
            reason: "more bytes of tensors than its header describes".into(),
        })?;
        self.put(bytes)
    }

    /// Gives the file its name, if all its tensors are written.
    pub fn commit(self) -> Result<()> {
        match self.left {
            0 => Ok(self.file.commit()?),
            left => Err(Error::Safetensors {
                path: self.path,
                reason: format!("{left} bytes of tensors fewer than its header describes"),
            }),
        }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.file
            .write_all(bytes)
            .map_err(|source| Error::Create { path: self.path.clone(), source })
    }
}

/// The values of an array as little-endian bytes in row-major order.
pub(crate) fn bytes_of(array: &Array) -> Result<Vec<u8>> {
    fn bytes<T: IntoBytes + Immutable>(values: &[T]) -> Vec<u8> {
        values.as_bytes().to_vec()
    }
    let array = array.contiguous()?;
    Ok(match array.dtype() {
        Dtype::Uint32 => bytes(array.try_as_slice::<u32>()?),
        Dtype::Uint8 => bytes(array.try_as_slice::<u8>()?),
        Dtype::Float16 => bytes(array.try_as_slice::<f16>()?),
        Dtype::Bfloat16 => bytes(array.try_as_slice::<bf16>()?),
        _ => bytes(array.try_as_slice::<f32>()?),
    })
}

/// Writes a safetensors file of these arrays in this order, atomically and with one array at a time
/// in memory. Arrays of u32 are stored as they are, all others as f32.
///
/// # Errors
/// If the file cannot be written, two arrays have the same name, or MLX cannot evaluate one.
pub fn write_safetensors(
    path: &Path,
    metadata: &[(&str, &str)],
    arrays: &[(String, Array)],
) -> Result<()> {
    let planned = arrays.iter().map(|(name, array)| Planned {
        name: name.clone(),
        dtype: match array.dtype() {
            Dtype::Uint32 => FileDtype::U32,
            _ => FileDtype::F32,
        },
        shape: array.shape().iter().map(|&n| n as usize).collect(),
    });
    let mut file = SafetensorsWriter::create(path, metadata, &planned.collect::<Vec<_>>())?;
    for (_, array) in arrays {
        file.write(&match array.dtype() {
            Dtype::Uint32 => bytes_of(array)?,
            _ => bytes_of(&array.as_dtype(Dtype::Float32)?)?,
        })?;
    }
    file.commit()
}
