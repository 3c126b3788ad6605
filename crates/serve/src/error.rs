use std::net::SocketAddr;
use std::path::PathBuf;

/// A [`Result`](std::result::Result) with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a server does not start, or an adapter is not served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The model or the adapter cannot be loaded, or does not fit.
    #[error(transparent)]
    Model(#[from] models::Error),
    /// The tokenizer or the chat template cannot be loaded.
    #[error(transparent)]
    Tokenizer(#[from] chat_format::Error),
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] durable::Error),
    /// Other machines could reach the server without a token.
    #[error(
        "address: expected one of this machine (127.0.0.1) or a token in {variable}, found {address} \
         without a token"
    )]
    Open {
        /// The address.
        address: SocketAddr,
        /// The environment variable for the token.
        variable: &'static str,
    },
    /// An option has a value that makes no sense.
    #[error("{name}: expected {expected}, found {found}")]
    Option {
        /// The option.
        name: &'static str,
        /// What was expected.
        expected: &'static str,
        /// What was found.
        found: String,
    },
    /// The address cannot be listened on, or a thread cannot be started.
    #[error("{address}: cannot {action}: {source}")]
    Start {
        /// The address.
        address: SocketAddr,
        /// What failed.
        action: &'static str,
        /// The cause.
        source: std::io::Error,
    },
    /// An adapter's files are not those that were announced.
    #[error("{}: expected an adapter with the digest {expected}, found {found}", path.display())]
    Digests {
        /// The adapter's folder.
        path: PathBuf,
        /// The digest that was announced.
        expected: durable::Digest,
        /// The digest of the files.
        found: durable::Digest,
    },
    /// A file that says what to serve is not understood.
    #[error("{}: expected {expected}, found {found}", path.display())]
    Contract {
        /// The file.
        path: PathBuf,
        /// What was expected.
        expected: &'static str,
        /// What was found.
        found: String,
    },
    /// The thread that owns the model has stopped.
    #[error("expected a running server, found a stopped one")]
    Stopped,
}
