//! Models from the Hugging Face hub, in the cache that the hub's own tools use.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::path::{Path, PathBuf};

use durable::Digest;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};

use crate::error::io_error;
use crate::{Error, Progress, Result};

const CONFIG: &str = "config.json";
const INDEX: &str = "model.safetensors.index.json";
/// How often a broken download is resumed.
const RETRIES: usize = 5;

/// Whether the hub may be contacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Files that are not in the cache are downloaded.
    Allowed,
    /// Files that are not in the cache are errors.
    Offline,
}

impl Network {
    /// [`Offline`](Self::Offline) if `HF_HUB_OFFLINE` is set to anything but 0.
    pub fn from_env() -> Self {
        match env::var("HF_HUB_OFFLINE") {
            Ok(value) if !matches!(value.as_str(), "" | "0") => Self::Offline,
            _ => Self::Allowed,
        }
    }
}

/// A model on the hub.
#[derive(Clone, Debug)]
pub struct HubModel {
    repo: String,
    revision: String,
    cache: Cache,
    network: Network,
}

impl HubModel {
    /// The model `repo`, as `OWNER/NAME`, at a revision: a branch, a tag or a commit.
    ///
    /// Reads `HF_HOME`, `HF_ENDPOINT` and `HF_TOKEN`, like the hub's own tools.
    ///
    /// # Errors
    ///
    /// [`Error::HubName`] if a name is not valid.
    pub fn new(repo: &str, revision: &str, network: Network) -> Result<Self> {
        let named =
            matches!(repo.split_once('/'), Some((owner, name)) if is_word(owner) && is_word(name));
        if !named || !revision.split('/').all(is_word) {
            return Err(Error::HubName { found: format!("{repo}@{revision}") });
        }
        let (repo, revision) = (repo.to_owned(), revision.to_owned());
        Ok(Self { repo, revision, cache: Cache::from_env(), network })
    }

    /// The folder with all files needed to run the model: weights as safetensors, configuration,
    /// tokenizer, templates. Missing files are downloaded.
    ///
    /// An interrupted download is resumed. Large files are checked by the SHA-256 that the hub
    /// publishes. The configuration is downloaded last, so a folder that contains it is complete.
    ///
    /// # Errors
    ///
    /// [`Error::Hub`] if a download fails; [`Error::NotCached`] if the network is not allowed.
    pub fn folder(&self, progress: &mut dyn FnMut(&str, Progress)) -> Result<PathBuf> {
        if self.network == Network::Offline {
            return self.cached_folder();
        }
        let api = self.api()?;
        let failed = |error: ApiError| self.failed(None, error.to_string());
        let listed = api.repo(self.repo()).info().map_err(failed)?;
        let mut names: Vec<String> =
            listed.siblings.into_iter().map(|file| file.rfilename).collect();
        names.retain(|name| is_wanted(name));
        // `false` sorts first.
        names.sort_by_key(|name| name == CONFIG);
        if names.last().is_none_or(|name| name != CONFIG) {
            return Err(
                self.failed(None, format!("expected a {CONFIG} in the repository, found none"))
            );
        }
        // By commit, because a branch may move during the download.
        let at = Repo::with_revision(self.repo.clone(), RepoType::Model, listed.sha.clone());
        let mut path = PathBuf::new();
        for name in &names {
            path = self.download(&api, &at, name, progress)?;
        }
        let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
        let named = self.cache.repo(self.repo()).create_ref(&listed.sha);
        named.map_err(io_error(&folder, "record the revision"))?;
        Ok(folder)
    }

    /// One file of the model, such as a `.gguf`. It is downloaded if it is not in the cache.
    ///
    /// # Errors
    ///
    /// [`Error::Hub`] if the download fails; [`Error::NotCached`] if the network is not allowed.
    pub fn file(&self, name: &str, progress: &mut dyn FnMut(&str, Progress)) -> Result<PathBuf> {
        if !is_plain(name) {
            return Err(self.failed(Some(name), "expected a file name without folders".into()));
        }
        if let Some(path) = self.cache.repo(self.repo()).get(name) {
            return Ok(path);
        }
        if self.network == Network::Offline {
            return Err(self.missing(vec![name.to_owned()]));
        }
        self.download(&self.api()?, &self.repo(), name, progress)
    }

    fn repo(&self) -> Repo {
        Repo::with_revision(self.repo.clone(), RepoType::Model, self.revision.clone())
    }

    fn api(&self) -> Result<Api> {
        let token = env::var("HF_TOKEN").ok().filter(|token| !token.is_empty());
        let mut builder = ApiBuilder::from_env().with_progress(false).with_retries(RETRIES);
        if token.is_some() {
            builder = builder.with_token(token);
        }
        builder.build().map_err(|error| self.failed(None, error.to_string()))
    }

    fn download(
        &self,
        api: &Api,
        at: &Repo,
        name: &str,
        progress: &mut dyn FnMut(&str, Progress),
    ) -> Result<PathBuf> {
        if let Some(path) = self.cache.repo(at.clone()).get(name) {
            return Ok(path);
        }
        let failed = |error: ApiError| self.failed(Some(name), error.to_string());
        let repo = api.repo(at.clone());
        let expected = api.metadata(&repo.url(name)).map_err(failed)?;
        // Both become parts of paths.
        if ![expected.etag(), expected.commit_hash()].into_iter().all(is_word) {
            return Err(
                self.failed(Some(name), "the server sent an invalid ETag or commit hash".into())
            );
        }
        let adapter = ProgressAdapter { progress, name, now: Progress { bytes: 0, total: 0 } };
        let path = repo.download_with_progress(name, adapter).map_err(failed)?;
        self.verify(&path, name, expected.etag(), expected.size() as u64)?;
        Ok(path)
    }

    /// Checks a download. The ETag of a large file is its SHA-256; of other files only the length is known.
    fn verify(&self, path: &Path, name: &str, etag: &str, length: u64) -> Result<()> {
        let found = match etag.parse::<Digest>() {
            Ok(expected) => {
                let found = durable::sha256_file(path)?;
                (found != expected).then(|| format!("expected SHA-256 {expected}, found {found}"))
            }
            Err(_) => {
                let found = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
                (found != length).then(|| format!("expected {length} bytes, found {found}"))
            }
        };
        let Some(reason) = found else { return Ok(()) };
        // Removes both the snapshot's link and the file it points to.
        for path in [path.canonicalize().unwrap_or_default(), path.to_path_buf()] {
            let _ = std::fs::remove_file(path);
        }
        Err(self.failed(Some(name), reason))
    }

    fn cached_folder(&self) -> Result<PathBuf> {
        let cached = self.cache.repo(self.repo());
        let Some(config) = cached.get(CONFIG) else {
            return Err(self.missing(vec![CONFIG.into()]));
        };
        let weights = match cached.get(INDEX) {
            Some(index) => shards(&index),
            None => vec!["model.safetensors".to_owned()],
        };
        let missing: Vec<_> =
            weights.into_iter().filter(|name| cached.get(name).is_none()).collect();
        match missing.is_empty() {
            true => Ok(config.parent().map(Path::to_path_buf).unwrap_or_default()),
            false => Err(self.missing(missing)),
        }
    }

    fn failed(&self, file: Option<&str>, reason: String) -> Error {
        let file = file.map(|file| format!(": {file}")).unwrap_or_default();
        Error::Hub { what: format!("{}@{}{file}", self.repo, self.revision), reason }
    }

    fn missing(&self, files: Vec<String>) -> Error {
        Error::NotCached {
            what: format!("{}@{}", self.repo, self.revision),
            files: files.join(", "),
            folder: self.cache.path().clone(),
        }
    }
}

/// The files that an index names. None if the index is damaged; opening the model reports that.
fn shards(index: &Path) -> Vec<String> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let text = std::fs::read(index).unwrap_or_default();
    let index = serde_json::from_slice::<Index>(&text);
    let files = index.map(|index| index.weight_map.into_values().collect::<BTreeSet<_>>());
    files.unwrap_or_default().into_iter().collect()
}

/// Whether a name is safe as a component of a path.
fn is_word(name: &str) -> bool {
    let letters = name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    letters && name.chars().any(char::is_alphanumeric)
}

fn is_wanted(name: &str) -> bool {
    let wanted = [".safetensors", ".json", ".jinja", ".model"];
    let listed = ["merges.txt", "vocab.txt"];
    is_plain(name) && (wanted.iter().any(|end| name.ends_with(end)) || listed.contains(&name))
}

/// Whether the name has no folders, so that the file is next to the configuration.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', ':'])
}

/// Forwards the progress that hf-hub reports.
struct ProgressAdapter<'a> {
    progress: &'a mut dyn FnMut(&str, Progress),
    name: &'a str,
    now: Progress,
}

impl hf_hub::api::Progress for ProgressAdapter<'_> {
    fn init(&mut self, size: usize, _: &str) {
        self.now = Progress { bytes: 0, total: size as u64 };
        (self.progress)(self.name, self.now);
    }

    fn update(&mut self, size: usize) {
        self.now.bytes += size as u64;
        (self.progress)(self.name, self.now);
    }

    fn finish(&mut self) {}
}
