#![doc = include_str!("../README.md")]

mod digest;
mod error;
mod log;
mod write;

pub use digest::{Digest, ParseDigestError, digest, listing_digest, sha256_file};
pub use error::{Error, Result};
pub use log::append_line;
pub use write::{Writer, write, write_json};
