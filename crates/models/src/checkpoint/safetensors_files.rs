//! Tensors in safetensors files.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use mlx_rs::Dtype;
use safetensors::tensor::{Dtype as FileDtype, Metadata};

use super::index::Index;
use super::store::{Encoding, Entry, Piece, Store};
use super::weight_files::weight_files;
use crate::{Error, Result};

/// The first bytes of the text that a clone without Git LFS has in place of a large file.
const LFS_POINTER: &[u8; 8] = b"version ";

/// Longer headers are refused, as by the safetensors format itself.
const MAX_HEADER: u64 = 100_000_000;

/// The tensors of the model in `folder`: of the files that its index names, or else of the files that
/// [`weight_files`] selects.
pub(crate) fn list_folder(folder: &Path) -> Result<Store> {
    let index = Index::open(folder)?;
    let files = match &index {
        Some(index) => index.files()?,
        None => weight_files(folder)?,
    };
    let mut store = Store::default();
    for file in files {
        add(&file, &mut store, |name| {
            index.as_ref().is_none_or(|index| index.allows(name, &file))
        })?;
    }
    if let Some(index) = index {
        index.check(&store)?;
    }
    Ok(store)
}

/// The tensors of one file.
pub(crate) fn list(path: &Path) -> Result<Store> {
    let mut store = Store::default();
    add(path, &mut store, |_| true)?;
    Ok(store)
}

/// Adds the tensors of a file that `keep`, after checking its header against its size.
fn add(path: &Path, store: &mut Store, keep: impl Fn(&str) -> bool) -> Result<()> {
    let (begin, header) = header(path)?;
    let file: Arc<Path> = path.into();
    for (name, info) in header.tensors() {
        if !keep(&name) {
            continue;
        }
        let rows = info.shape.first().copied().unwrap_or(1).max(1);
        let entry = Entry {
            pieces: vec![Piece {
                file: Arc::clone(&file),
                start: begin + info.data_offsets.0 as u64,
                rows: None,
            }],
            row_bytes: (info.data_offsets.1 - info.data_offsets.0) / rows,
            shape: info.shape.clone(),
            encoding: encoding(info.dtype),
            order: None,
            add_one: false,
        };
        store.insert(name, entry);
    }
    Ok(())
}

fn encoding(dtype: FileDtype) -> Encoding {
    match dtype {
        FileDtype::F32 => Encoding::Plain(Dtype::Float32),
        FileDtype::F16 => Encoding::Plain(Dtype::Float16),
        FileDtype::BF16 => Encoding::Plain(Dtype::Bfloat16),
        FileDtype::U32 => Encoding::Plain(Dtype::Uint32),
        FileDtype::U8 => Encoding::Plain(Dtype::Uint8),
        other => Encoding::Unknown(other.to_string()),
    }
}

/// The offset of the tensor data, and the header.
fn header(path: &Path) -> Result<(u64, Metadata)> {
    let read = |source| Error::Read { path: path.to_path_buf(), source };
    let broken = |reason: String| Error::Safetensors { path: path.to_path_buf(), reason };
    let mut file = File::open(path).map_err(read)?;
    let size = file.metadata().map_err(read)?.len();
    let mut length = [0; 8];
    file.read_exact(&mut length)
        .map_err(|_| broken(format!("{size} bytes, shorter than the length of a header")))?;
    let header_length = u64::from_le_bytes(length);
    if &length == LFS_POINTER {
        return Err(broken("a Git LFS pointer; run `git lfs pull` to get the file itself".into()));
    }
    if header_length > MAX_HEADER || header_length > size - 8 {
        return Err(broken(format!("a header of {header_length} bytes in a file of {size}")));
    }
    let mut header = Vec::new();
    file.take(header_length).read_to_end(&mut header).map_err(read)?;
    // Deserializing also checks that tensors are contiguous and as large as their shapes say.
    let metadata: Metadata =
        serde_json::from_slice(&header).map_err(|error| broken(error.to_string()))?;
    let begin = 8 + header_length;
    let expected = begin + metadata.data_len() as u64;
    if expected != size {
        return Err(broken(format!("the header describes {expected} bytes, the file has {size}")));
    }
    Ok((begin, metadata))
}
