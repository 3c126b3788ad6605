//! What is served: the base model, the champion and adapters by name, each under a generation.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chat_format::ChatTokenizer;
use durable::Digest;
use models::{Adapter, Model};

use crate::error::{Error, Result};

/// The name of the model without an adapter.
pub(crate) const BASE: &str = "base";
/// The name of the model with the adapter that serves.
pub(crate) const CHAMPION: &str = "champion";
/// The name of the adapter that a night examines.
pub(crate) const CANDIDATE: &str = "candidate";

/// The base model: weights, tokenizer, chat template, digest.
#[derive(Debug)]
pub struct Base {
    pub(crate) model: Model,
    pub(crate) tokenizer: Arc<ChatTokenizer>,
    pub(crate) name: String,
    pub(crate) digest: Digest,
}

impl Base {
    /// Opens a `.gguf` file, or a folder with `config.json`, safetensors, tokenizer and chat template.
    ///
    /// # Errors
    /// If a part is missing or broken.
    pub fn open(model: impl AsRef<Path>) -> Result<Self> {
        let path = model.as_ref();
        let digest = models::model_digest(path)?;
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        Ok(Self {
            model: Model::open(path)?,
            tokenizer: Arc::new(ChatTokenizer::open(path)?),
            name: name.strip_suffix(".gguf").unwrap_or(&name).to_owned(),
            digest,
        })
    }

    /// The name of its file or folder, without `.gguf`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The digest of its file, or of the `sha256sum` listing of its files.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

/// The adapter that shall serve as champion.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Champion {
    /// The adapter's folder; without one, the base model serves.
    pub folder: Option<PathBuf>,
    /// A number that grows with every change of champion.
    pub generation: u64,
    /// The digest of the adapter's `sha256sum` listing, which its files must have.
    pub digest: Option<Digest>,
}

impl Champion {
    /// The adapter in this folder.
    pub fn new(folder: impl Into<PathBuf>, generation: u64) -> Self {
        Self { folder: Some(folder.into()), generation, digest: None }
    }

    /// The model without an adapter.
    pub fn base(generation: u64) -> Self {
        Self { folder: None, generation, digest: None }
    }

    /// Sets the digest that the adapter's files must have.
    pub fn digest(self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self }
    }
}

/// What answers a request. Requests keep the one that they began with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Served {
    /// Differs for all that were ever served.
    pub id: u64,
    /// By which requests ask for it.
    pub name: String,
    /// The champion's generation; 0 for others.
    pub generation: u64,
    /// Of the adapter's files; none for the base model.
    pub adapter: Option<Digest>,
    /// For `system_fingerprint`: base, adapter and generation.
    pub fingerprint: String,
    /// Seconds since 1970.
    pub since: i64,
}

/// What requests can ask for, by name.
#[derive(Debug)]
pub(crate) struct Catalog {
    base: Digest,
    base_name: String,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    served: Vec<Arc<Served>>,
    count: u64,
    /// Why the champion that should serve does not.
    problem: Option<String>,
}

impl Catalog {
    pub fn new(base: &Base) -> Self {
        let entries = Mutex::default();
        Self { base: base.digest, base_name: base.name.clone(), entries }
    }

    /// A new entry, which is not [published](Self::publish) yet.
    pub fn prepare(&self, name: &str, generation: u64, adapter: Option<Digest>) -> Arc<Served> {
        let mut entries = self.entries();
        entries.count += 1;
        let which = adapter.map_or_else(|| BASE.to_owned(), |adapter| adapter.short());
        Arc::new(Served {
            id: entries.count,
            name: name.to_owned(),
            generation,
            adapter,
            fingerprint: format!("fp_{}_{which}_{generation}", self.base.short()),
            since: jiff::Timestamp::now().as_second(),
        })
    }

    /// Serves an entry under its name, instead of the one before.
    pub fn publish(&self, entry: Arc<Served>) {
        let served = &mut self.entries().served;
        match served.iter_mut().find(|served| served.name == entry.name) {
            Some(served) => *served = entry,
            None => served.push(entry),
        }
    }

    /// Serves nothing under this name any more.
    pub fn withdraw(&self, name: &str) {
        self.entries().served.retain(|served| served.name != name);
    }

    /// What this name stands for; without a name, the champion. The base model also has the name of
    /// its file.
    pub fn find(&self, name: Option<&str>) -> Option<Arc<Served>> {
        let name = name.unwrap_or(CHAMPION);
        let name = if name == self.base_name { BASE } else { name };
        self.entries().served.iter().find(|served| served.name == name).cloned()
    }

    /// All, the champion first.
    pub fn list(&self) -> Vec<Arc<Served>> {
        let mut served = self.entries().served.clone();
        served.sort_by_key(|served| (served.name != CHAMPION, served.name != BASE, served.id));
        served
    }

    /// The names of all, for errors.
    pub fn names(&self) -> String {
        self.list().iter().map(|served| served.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// The digest of the base model.
    pub fn base(&self) -> Digest {
        self.base
    }

    /// Records why the champion that should serve does not, or that it does.
    pub fn report(&self, problem: Option<String>) {
        self.entries().problem = problem;
    }

    /// Why the champion that should serve does not.
    pub fn problem(&self) -> Option<String> {
        self.entries().problem.clone()
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        // The entries are valid between any two statements that change them.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Loads an adapter, if its files have the expected digest.
///
/// # Errors
/// [`Error::Digests`] if they have another one; if it cannot be read or does not fit the model.
pub(crate) fn load(champion: &Champion, model: &Model) -> Result<(Adapter, Option<Digest>)> {
    let Some(folder) = &champion.folder else { return Ok((Adapter::none(model), None)) };
    // As the registry of adapters computes it.
    let files = [folder.join("adapter_config.json"), Adapter::weights_file(folder)];
    let found = durable::listing_digest(&files)?;
    if let Some(expected) = champion.digest.filter(|expected| *expected != found) {
        return Err(Error::Digests { path: folder.clone(), expected, found });
    }
    Ok((Adapter::load(folder, model)?, Some(found)))
}
