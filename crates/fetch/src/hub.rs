//! Models from the Hugging Face hub, in the cache that the hub's own tools use.

use std::path::{Path, PathBuf};

use durable::Digest;
use hf_hub::api::RepoInfo;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};

use crate::hub_cache::{CONFIG, CachedModel, is_word};
use crate::hub_settings::{HubSettings, is_offline};
use crate::{Error, Progress, Result};

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
    /// [`Offline`](Self::Offline) if `HF_HUB_OFFLINE`, or else `TRANSFORMERS_OFFLINE`, is 1, on, yes or
    /// true.
    pub fn from_env() -> Self {
        if is_offline() { Self::Offline } else { Self::Allowed }
    }
}

/// The folder in which models of the hub are cached, as `HF_HUB_CACHE` and `HF_HOME` say.
///
/// # Errors
/// [`Error::NoHubCache`] without a home folder.
pub fn hub_cache() -> Result<PathBuf> {
    Ok(HubSettings::from_env()?.cache)
}

/// A model on the hub.
#[derive(Clone, Debug)]
pub struct HubModel {
    repo: String,
    revision: String,
    settings: HubSettings,
    network: Network,
}

impl HubModel {
    /// The model `repo`, as `OWNER/NAME`, at a revision: a branch, a tag or a commit.
    ///
    /// Reads the variables of the hub's own tools: `HF_HUB_CACHE`, `HF_HOME`, `XDG_CACHE_HOME`,
    /// `HF_ENDPOINT`, `HF_TOKEN` and `HF_TOKEN_PATH`.
    ///
    /// # Errors
    ///
    /// [`Error::HubName`] if a name is not valid; [`Error::NoHubCache`] without a home folder.
    pub fn new(repo: &str, revision: &str, network: Network) -> Result<Self> {
        let named =
            matches!(repo.split_once('/'), Some((owner, name)) if is_word(owner) && is_word(name));
        if !named || !revision.split('/').all(is_word) {
            return Err(Error::HubName { found: format!("{repo}@{revision}") });
        }
        let (repo, revision) = (repo.to_owned(), revision.to_owned());
        Ok(Self { repo, revision, settings: HubSettings::from_env()?, network })
    }

    /// The folder with all files needed to run the model: weights as safetensors, configuration,
    /// tokenizer, templates. Missing files are downloaded.
    ///
    /// An interrupted download is resumed. Large files are checked by the SHA-256 that the hub
    /// publishes. The configuration is downloaded last, so a folder that contains it is complete. If the
    /// hub cannot be asked, a complete copy in the cache is used, with a warning.
    ///
    /// # Errors
    ///
    /// [`Error::Hub`] if a download fails; [`Error::NotCached`] if the network is not allowed.
    pub fn folder(&self, progress: &mut dyn FnMut(&str, Progress)) -> Result<PathBuf> {
        if self.network == Network::Offline {
            return self.cached().complete(&self.revision).map_err(|files| self.missing(files));
        }
        let api = self.api()?;
        match api.repo(self.repo()).info() {
            Ok(listed) => self.download_all(&api, listed, progress),
            Err(error) => {
                let found = self.cached().complete(&self.revision);
                let Some(copy) = found.ok().filter(|_| !is_not_found(&error)) else {
                    return Err(self.failed(None, error.to_string()));
                };
                tracing::warn!(
                    "{}@{}: the hub could not be asked ({error}); using the copy in {}, which may be out of date",
                    self.repo,
                    self.revision,
                    copy.display()
                );
                Ok(copy)
            }
        }
    }

    /// One file of the model, such as a `.gguf`, and if it is the first of several (as
    /// `NAME-00001-of-00003.gguf`) the others too. Files that are not in the cache are downloaded. The
    /// path of the first.
    ///
    /// # Errors
    ///
    /// [`Error::Hub`] if the download fails; [`Error::NotCached`] if the network is not allowed.
    pub fn file(&self, name: &str, progress: &mut dyn FnMut(&str, Progress)) -> Result<PathBuf> {
        if !is_plain(name) {
            return Err(self.failed(Some(name), "expected a file name without folders".into()));
        }
        let (cached, names) = (self.cached(), parts(name));
        let missing = names.iter().filter(|name| cached.file(&self.revision, name).is_none());
        let missing: Vec<String> = missing.cloned().collect();
        if self.network == Network::Offline && !missing.is_empty() {
            return Err(self.missing(missing));
        }
        if !missing.is_empty() {
            let api = self.api()?;
            for name in &missing {
                self.download(&api, &self.repo(), name, progress)?;
            }
        }
        let lost = || self.failed(Some(name), "the download is not in the cache".into());
        cached.file(&self.revision, name).ok_or_else(lost)
    }

    fn download_all(
        &self,
        api: &Api,
        listed: RepoInfo,
        progress: &mut dyn FnMut(&str, Progress),
    ) -> Result<PathBuf> {
        if !is_word(&listed.sha) {
            return Err(self.failed(None, "the server sent an invalid commit hash".into()));
        }
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
            path = self.download(api, &at, name, progress)?;
        }
        self.cached().set_commit(&self.revision, &listed.sha)?;
        Ok(path.parent().map(Path::to_path_buf).unwrap_or_default())
    }

    fn cached(&self) -> CachedModel {
        CachedModel::new(&self.settings.cache, &self.repo)
    }

    fn repo(&self) -> Repo {
        Repo::with_revision(self.repo.clone(), RepoType::Model, self.revision.clone())
    }

    fn api(&self) -> Result<Api> {
        let HubSettings { cache, endpoint, token } = self.settings.clone();
        let builder = ApiBuilder::from_cache(Cache::new(cache)).with_endpoint(endpoint);
        let token = token.map(|token| token.0);
        let builder = builder.with_token(token).with_progress(false).with_retries(RETRIES);
        builder.build().map_err(|error| self.failed(None, error.to_string()))
    }

    fn download(
        &self,
        api: &Api,
        at: &Repo,
        name: &str,
        progress: &mut dyn FnMut(&str, Progress),
    ) -> Result<PathBuf> {
        if let Some(path) = self.cached().file(at.revision(), name) {
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

    fn failed(&self, file: Option<&str>, reason: String) -> Error {
        let file = file.map(|file| format!(": {file}")).unwrap_or_default();
        Error::Hub { what: format!("{}@{}{file}", self.repo, self.revision), reason }
    }

    fn missing(&self, files: Vec<String>) -> Error {
        Error::NotCached {
            what: format!("{}@{}", self.repo, self.revision),
            files: files.join(", "),
            folder: self.settings.cache.clone(),
        }
    }
}

/// Whether the hub answered that there is no such model or revision.
fn is_not_found(error: &ApiError) -> bool {
    let ApiError::RequestError(error) = error else { return false };
    matches!(**error, ureq::Error::StatusCode(404))
}

/// The names of all parts of a file whose name is that of the first part; otherwise the name alone.
fn parts(name: &str) -> Vec<String> {
    let split = || {
        let (stem, count) = name.strip_suffix(".gguf")?.rsplit_once("-00001-of-")?;
        let digits = count.len() == 5 && count.bytes().all(|byte| byte.is_ascii_digit());
        Some((stem, count.parse::<u32>().ok().filter(|count| digits && *count > 0)?))
    };
    match split() {
        Some((stem, count)) => {
            (1..=count).map(|part| format!("{stem}-{part:05}-of-{count:05}.gguf")).collect()
        }
        None => vec![name.to_owned()],
    }
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
