//! Finds the family of a model's files by name, and opens them.

use std::path::Path;

use gguf::Parts;
use serde::Deserialize;

use super::FAMILIES;
use super::config::Config;
use super::config_file::ConfigFile;
use crate::checkpoint::{Checkpoint, Store, json, list_folder};
use crate::ext::float_format::FloatFormat;
use crate::{Error, Result};

/// The architectures that [`Model::open`](crate::Model::open) accepts, as `model_type` in `config.json`
/// names them.
pub fn supported_architectures() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().flat_map(|family| family.model_types).copied()
}

/// The architectures of GGUF files that [`Model::open`](crate::Model::open) accepts, as
/// `general.architecture` names them. A Mistral's files are those of a `llama`.
pub fn gguf_architectures() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().flat_map(|family| family.gguf).map(|gguf| gguf.layout.architecture)
}

/// Opens the files of a model: a `.gguf` file, or a folder with `config.json` and `*.safetensors`.
pub(crate) fn open(path: &Path) -> Result<(Config, Checkpoint)> {
    let (config, store) =
        if path.is_file() && path.extension().is_some_and(|extension| extension == "gguf") {
            open_gguf(path)?
        } else if path.join("config.json").is_file() {
            open_folder(path)?
        } else if path.exists() {
            return Err(Error::NotAModel { path: path.to_path_buf() });
        } else {
            let source = std::io::Error::from(std::io::ErrorKind::NotFound);
            return Err(Error::Read { path: path.to_path_buf(), source });
        };
    let checkpoint = Checkpoint::new(path, store, &config.expected())?;
    Ok((config, checkpoint))
}

fn open_gguf(path: &Path) -> Result<(Config, Store)> {
    // The reader checks every count, length and offset against the file's size.
    let parts = Parts::open(path)?;
    let found = parts.metadata().str("general.architecture")?;
    let mut registrations = FAMILIES.iter().flat_map(|family| family.gguf);
    match registrations.find(|gguf| gguf.layout.architecture == found) {
        Some(gguf) => (gguf.open)(&parts, gguf.layout),
        None => Err(unsupported(path, found, gguf_architectures())),
    }
}

fn open_folder(folder: &Path) -> Result<(Config, Store)> {
    let config = read_config(&folder.join("config.json"))?;
    let mut store = list_folder(folder)?;
    config.normalize(&mut store);
    Ok((config, store))
}

/// Reads a `config.json`.
pub(crate) fn read_config(path: &Path) -> Result<Config> {
    let text = json::read(path)?;
    let named: Named = json::parse(path, &text)?;
    let mut families = FAMILIES.iter();
    let name = named.model_type.as_str();
    let Some(family) = families.find(|family| family.model_types.contains(&name)) else {
        return Err(unsupported(path, name, supported_architectures()));
    };
    let file = ConfigFile { path, keys: &named };
    file.check_quantization()?;
    file.check_method()?;
    (family.config)(path, name, &text)
}

/// The error for a file of an architecture that is not supported.
pub(crate) fn unsupported(
    path: &Path,
    found: &str,
    supported: impl Iterator<Item = &'static str>,
) -> Error {
    let supported = supported.collect::<Vec<_>>().join(", ");
    Error::UnsupportedArchitecture { path: path.to_path_buf(), found: found.to_owned(), supported }
}

/// The keys of `config.json` that all families share.
#[derive(Deserialize)]
struct Named {
    model_type: String,
    #[serde(default)]
    quantization: serde_json::Value,
    #[serde(default)]
    quantization_config: serde_json::Value,
}

impl ConfigFile<'_, Named> {
    /// Refuses the quantization of other programs (bitsandbytes, GPTQ, AWQ, FP8, ...), which
    /// transformers names. mlx_lm writes its own under this key too, without a method.
    fn check_method(&self) -> Result<()> {
        const EXPECTED: &str = "no quantization, or MLX's (use the original checkpoint, or convert that with \
                                mlx_lm.convert)";
        match self.keys.quantization_config.get("quant_method").and_then(|method| method.as_str()) {
            Some(method) => self.refuse("quantization_config.quant_method", EXPECTED, method),
            None => Ok(()),
        }
    }

    /// Refuses quantization modes that are not supported. Mode, bits and group size of each module
    /// follow from its tensors, so the entries of modules are checked for their mode only.
    fn check_quantization(&self) -> Result<()> {
        let quantization = &self.keys.quantization;
        let modules = quantization.as_object().into_iter().flatten();
        let nested = modules.filter_map(|(key, value)| {
            Some((format!("quantization.{key}.mode"), value.get("mode")?))
        });
        let own = quantization.get("mode").map(|mode| ("quantization.mode".to_owned(), mode));
        let known = |mode: &str| FloatFormat::MODES.contains(&mode);
        match nested.chain(own).find(|(_, mode)| !mode.as_str().is_some_and(known)) {
            None => Ok(()),
            Some((key, found)) => {
                self.refuse(&key, &format!("one of {}", FloatFormat::MODES.join(", ")), found)
            }
        }
    }
}
