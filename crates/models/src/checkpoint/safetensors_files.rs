//! Checkpoints in Hugging Face's and MLX's layout: `config.json` beside `*.safetensors`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use mlx_rs::Array;
use safetensors::tensor::Metadata;

use super::{Tensors, config_json};
use crate::config::Config;
use crate::{Error, Result};

/// Longer headers are refused, as by the safetensors format itself.
const MAX_HEADER: u64 = 100_000_000;

pub(super) fn open(folder: &Path) -> Result<(Config, Tensors)> {
    let config = config_json::read(&folder.join("config.json"))?;
    let mut arrays = BTreeMap::new();
    for file in files(folder)? {
        arrays.extend(load(&file)?);
    }
    // Older converters stored the inverse frequencies; they follow from the configuration.
    arrays.retain(|name, _| !name.ends_with("rotary_emb.inv_freq"));
    if config.tied_embeddings {
        arrays.retain(|name, _| !name.starts_with("lm_head."));
    }
    Ok((config, Tensors::new(folder, arrays)?))
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

/// The tensors of one file. Its header is checked before MLX, which trusts it, sees the file.
pub(crate) fn load(path: &Path) -> Result<BTreeMap<String, Array>> {
    check_header(path)?;
    let arrays = Array::load_safetensors(path).map_err(|error| Error::Safetensors {
        path: path.to_path_buf(),
        reason: error.to_string(),
    })?;
    Ok(arrays.into_iter().collect())
}

fn check_header(path: &Path) -> Result<()> {
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
    let expected = 8 + header_length + metadata.data_len() as u64;
    if expected != size {
        return Err(broken(format!("the header describes {expected} bytes, the file has {size}")));
    }
    Ok(())
}
