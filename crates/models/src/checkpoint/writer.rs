//! Safetensors files written tensor by tensor: none has to be in memory beside the next.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use mlx_rs::error::Exception;
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

/// A safetensors file in the making. It appears under its name when it is whole; dropped before,
/// it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct SafetensorsWriter {
    path: PathBuf,
    file: durable::Writer,
    /// Bytes of tensors still to come.
    left: usize,
}

impl SafetensorsWriter {
    /// Starts a file that will have these tensors, in this order.
    pub fn create(path: &Path, tensors: &[Planned]) -> Result<Self> {
        let broken = |reason: String| Error::Safetensors { path: path.to_path_buf(), reason };
        let mut end = 0;
        let infos = tensors.iter().map(|tensor| {
            let begin = end;
            end += tensor.bytes();
            let Planned { name, dtype, shape } = tensor.clone();
            (name, TensorInfo { dtype, shape, data_offsets: (begin, end) })
        });
        // mlx-lm looks for this to tell its own files from PyTorch's.
        let format = HashMap::from([("format".to_owned(), "mlx".to_owned())]);
        let header = Metadata::new(Some(format), infos.collect());
        let header = header.map_err(|error| broken(error.to_string()))?;
        let mut header = serde_json::to_vec(&header).map_err(|error| broken(error.to_string()))?;
        // The tensors begin at a multiple of eight bytes.
        header.resize(header.len().next_multiple_of(8), b' ');
        let mut writer =
            Self { path: path.to_path_buf(), file: durable::Writer::create(path)?, left: end };
        writer.put(&(header.len() as u64).to_le_bytes())?;
        writer.put(&header)?;
        Ok(writer)
    }

    /// Writes the bytes that come next.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.left = self.left.checked_sub(bytes.len()).ok_or_else(|| Error::Safetensors {
            path: self.path.clone(),
            reason: "more bytes than were announced".into(),
        })?;
        self.put(bytes)
    }

    /// Makes it a file, if all its tensors are written.
    pub fn commit(self) -> Result<()> {
        match self.left {
            0 => Ok(self.file.commit()?),
            left => Err(Error::Safetensors {
                path: self.path,
                reason: format!("{left} bytes fewer than were announced"),
            }),
        }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.file
            .write_all(bytes)
            .map_err(|source| Error::Create { path: self.path.clone(), source })
    }
}

/// The bytes of an array, as a file has them.
pub(crate) fn bytes_of(array: &Array) -> Result<Vec<u8>> {
    fn bytes<T: IntoBytes + Immutable>(values: &[T]) -> Vec<u8> {
        values.as_bytes().to_vec()
    }
    let array = array.contiguous()?;
    let bytes = match array.dtype() {
        Dtype::Uint32 => array.try_as_slice::<u32>().map(bytes),
        Dtype::Float16 => array.try_as_slice::<f16>().map(bytes),
        Dtype::Bfloat16 => array.try_as_slice::<bf16>().map(bytes),
        _ => array.try_as_slice::<f32>().map(bytes),
    };
    bytes.map_err(|error| Error::Mlx(Exception::custom(error.to_string())))
}
