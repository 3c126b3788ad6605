//! The file that says what serves: `home/serving/BASE.json`.

use std::path::{Path, PathBuf};

use durable::Digest;
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::served::Champion;

/// What should serve, as a promotion writes it. Unknown keys are ignored: later versions may add some.
///
/// ```json
/// {
///   "version": 1,
///   "base": { "path": "/models/base.gguf", "sha256": "..." },
///   "adapter": { "folder": "adapters/DIGEST", "digest": "DIGEST" },
///   "generation": 7,
///   "candidate": { "folder": "nights/ID/adapter", "digest": "DIGEST" }
/// }
/// ```
///
/// `adapter` is null where the base model serves. `candidate` is there while a night examines an adapter by the server's
/// weights: requests may ask for it by that name. `folder` is below the home, the folder above that of
/// this file, so that a copied home works elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Contract {
    /// The base model's file or folder.
    pub base: PathBuf,
    /// The digest of its files.
    pub base_digest: Digest,
    /// What should serve as champion.
    pub champion: Champion,
    /// What is examined.
    pub candidate: Option<Champion>,
}

#[derive(Deserialize)]
struct File {
    version: u32,
    base: BaseKeys,
    adapter: Option<AdapterKeys>,
    generation: u64,
    candidate: Option<AdapterKeys>,
}

#[derive(Deserialize)]
struct BaseKeys {
    path: PathBuf,
    sha256: Digest,
}

#[derive(Deserialize)]
struct AdapterKeys {
    folder: PathBuf,
    digest: Digest,
}

impl Contract {
    /// The version that is understood.
    pub const VERSION: u32 = 1;

    /// Reads the file.
    ///
    /// # Errors
    /// [`Error::Contract`] if it cannot be read, is of another version or has other keys.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = std::fs::read(path)
            .map_err(|error| refuse(path, "a file that says what serves", error.to_string()))?;
        Self::parse(path, &bytes)
    }

    pub(crate) fn parse(path: &Path, bytes: &[u8]) -> Result<Self> {
        let expected = "the keys version, base, adapter and generation";
        let file: File = serde_json::from_slice(bytes)
            .map_err(|error| refuse(path, expected, error.to_string()))?;
        if file.version != Self::VERSION {
            return Err(refuse(path, "version 1", format!("version {}", file.version)));
        }
        let home = path.parent().and_then(Path::parent).unwrap_or(Path::new("."));
        let adapter = |AdapterKeys { folder, digest }, generation| {
            Champion::new(home.join(folder), generation).digest(digest)
        };
        let generation = file.generation;
        Ok(Self {
            base: file.base.path,
            base_digest: file.base.sha256,
            champion: match file.adapter {
                None => Champion::base(generation),
                Some(keys) => adapter(keys, generation),
            },
            candidate: file.candidate.map(|keys| adapter(keys, 0)),
        })
    }
}

fn refuse(path: &Path, expected: &'static str, found: String) -> Error {
    Error::Contract { path: path.to_owned(), expected, found }
}
