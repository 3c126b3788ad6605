//! Checkpoints in Hugging Face's and MLX's layout: `config.json` beside `*.safetensors`.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mlx_rs::Dtype;
use safetensors::tensor::{Dtype as FileDtype, Metadata};

use super::index::Index;
use super::store::{Encoding, Entry, Store};
use super::Checkpoint;
use crate::arch::config_json;
use crate::arch::config::{Config, Family, OUTPUT};
use crate::arch::{gemma4, qwen35};
use crate::{Error, Result};

/// Longer headers are refused, as by the safetensors format itself.
const MAX_HEADER: u64 = 100_000_000;

pub(super) fn open(folder: &Path) -> Result<(Config, Checkpoint)> {
    let config = config_json::read(&folder.join("config.json"))?;
    let index = Index::open(folder)?;
    let files = match &index {
        Some(index) => index.files()?,
        None => files(folder)?,
    };
    let mut store = Store::default();
    for file in files {
        list(&file, &mut store)?;
    }
    if let Some(index) = index {
        index.check(&store)?;
    }
    match &config.family {
        Family::Llama => {}
        Family::Gemma4(shape) => gemma4::rename(&mut store, &config, shape),
        Family::Qwen35(_) => qwen35::rename(&mut store, &config),
    }
    // Older converters stored the inverse frequencies; they follow from the configuration.
    store.retain(|name| !name.ends_with("rotary_emb.inv_freq"));
    if config.tied_embeddings {
        let output = format!("{}.", config.name(OUTPUT));
        store.retain(|name| !name.starts_with(&output));
    }
    Ok((config, Checkpoint::new(folder, store)?))
}

/// All safetensors files of the folder, in order of their names.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = |source| Error::Read { path: folder.to_path_buf(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(read)? {
        let path = entry.map_err(read)?.path();
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(Error::NotAModel { path: folder.to_path_buf() });
    }
    files.sort();
    Ok(files)
}

/// The tensors of one file, its header checked against its size.
pub(crate) fn list(path: &Path, store: &mut Store) -> Result<()> {
    let (begin, header) = header(path)?;
    let file: Arc<Path> = path.into();
    for (name, info) in header.tensors() {
        let rows = info.shape.first().copied().unwrap_or(1).max(1);
        let entry = Entry {
            file: Arc::clone(&file),
            start: begin + info.data_offsets.0 as u64,
            row_bytes: (info.data_offsets.1 - info.data_offsets.0) / rows,
            shape: info.shape.clone(),
            encoding: encoding(info.dtype),
            order: None,
            less_one: false,
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

/// Where the numbers begin, and what is said about them.
fn header(path: &Path) -> Result<(u64, Metadata)> {
    let read = |source| Error::Read { path: path.to_path_buf(), source };
    let broken = |reason: String| Error::Safetensors { path: path.to_path_buf(), reason };
    let mut file = File::open(path).map_err(read)?;
    let size = file.metadata().map_err(read)?.len();
    let mut length = [0; 8];
    file.read_exact(&mut length)
        .map_err(|_| broken(format!("{size} bytes, shorter than the length of a header")))?;
    let header_length = u64::from_le_bytes(length);
    if header_length > MAX_HEADER || header_length > size - 8 {
        return Err(broken(format!(
            "a header of {header_length} bytes is announced in a file of {size}"
        )));
    }
    let mut header = Vec::new();
    file.take(header_length).read_to_end(&mut header).map_err(read)?;
    // Deserializing also checks that the tensors lie end to end, each as large as its shape.
    let metadata: Metadata =
        serde_json::from_slice(&header).map_err(|error| broken(error.to_string()))?;
    let begin = 8 + header_length;
    let expected = begin + metadata.data_len() as u64;
    if expected != size {
        return Err(broken(format!("the header describes {expected} bytes, the file has {size}")));
    }
    Ok((begin, metadata))
}
