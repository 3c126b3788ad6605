//! The base model of a night: its path, digest, and how it is computed.

use std::path::PathBuf;

use chat_format::{ChatTokenizer, Message, RenderOptions};
use durable::Digest;
use models::{Model, WeightResidency};
use serde::Serialize;

use crate::config::ModelSource;
use crate::error::Result;
use crate::nights;

/// The base model of a night, identified by all that its outputs depend on besides the prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct BaseModel {
    /// Digest of the file, or of the `sha256sum` listing of the files of a folder or a split model.
    pub sha256: Digest,
    /// How it is computed (device and kernels): [`Model::arithmetic`].
    pub arithmetic: String,
    /// Digest of a rendered prompt: another one on each night, if the chat template prints the date.
    rendering: Digest,
    /// Its path; not part of its identity.
    #[serde(skip)]
    pub path: PathBuf,
}

impl BaseModel {
    /// Finds the model for the night with the id `night`, fetching the demo model if needed, computes its digest, and reads
    /// its headers.
    pub fn locate(
        source: &ModelSource,
        night: &str,
        on_fetch: &mut dyn FnMut(u64, u64),
    ) -> Result<Self> {
        let path = path_of(source, on_fetch)?;
        let arithmetic = Model::open_with(&path, WeightResidency::Streamed)?.arithmetic();
        let rendering = rendering(&nights::tokenizer(night, &path)?);
        Ok(Self { sha256: models::model_digest(&path)?, arithmetic, rendering, path })
    }

    /// Finds the model without reading it. The digest is that of its path, which is enough for the
    /// stage keys of a preflight.
    pub fn unread(source: &ModelSource, on_fetch: &mut dyn FnMut(u64, u64)) -> Result<Self> {
        let path = path_of(source, on_fetch)?;
        Ok(Self::of_digest(durable::digest(path.as_os_str().as_encoded_bytes()), path))
    }

    /// A model that is only named, never run.
    pub fn of_digest(sha256: Digest, path: PathBuf) -> Self {
        Self { sha256, arithmetic: String::new(), rendering: durable::digest(""), path }
    }

    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or(self.path.as_os_str()).to_string_lossy().into_owned()
    }
}

/// The digest of a prompt that shows template and date.
pub(crate) fn rendering(tokenizer: &ChatTokenizer) -> Digest {
    let probe = [Message::system("s"), Message::user("?")];
    let tokens = tokenizer.prompt_tokens(&probe, &RenderOptions::default());
    let shown = tokens.map_or_else(|error| error.to_string(), |tokens| format!("{tokens:?}"));
    durable::digest(shown)
}

/// Its path, without reading it; the demo model is fetched if needed.
pub(crate) fn path_of(source: &ModelSource, on_fetch: &mut dyn FnMut(u64, u64)) -> Result<PathBuf> {
    Ok(match source {
        ModelSource::Path(path) => path.clone(),
        ModelSource::Demo => fetch::demo_model(&mut |p| on_fetch(p.bytes, p.total))?,
    })
}
