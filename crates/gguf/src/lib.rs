//! Reads and checks the header of a GGUF file, and decodes quantized blocks.
//!
//! A GGUF file is one model: key/value metadata (architecture, sizes, the whole tokenizer), a table of
//! tensors, then the tensor data. This crate reads the first two and *validates everything against the size of
//! the file*, so the file may be sliced by [`Tensor::range`] without a further check. A header is untrusted
//! input: no count or length in it decides how much memory is allocated, and a damaged file is an [`Error`]
//! that names the place, never a panic. [`Parts`] is a model in one file or in several. Tensor data is decoded by
//! [`Affine`].
//!
//! ```no_run
//! let file = gguf::Gguf::open("model.gguf")?;
//! println!("{}", file.metadata().str("general.architecture")?);
//! for tensor in file.tensors() {
//!     println!("{} {} {:?} {:?}", tensor.name, tensor.kind, tensor.dims, tensor.range);
//! }
//! # Ok::<(), gguf::Error>(())
//! ```

mod affine;
mod error;
mod metadata;
mod parts;
mod reader;
mod tensor;

use std::path::{Path, PathBuf};

pub use affine::Affine;
pub use error::{Error, Result};
pub use metadata::{Metadata, Value};
pub use parts::Parts;
pub use tensor::{Tensor, TensorType};

/// The checked header of one GGUF file.
#[derive(Debug, Clone)]
pub struct Gguf {
    path: PathBuf,
    version: u32,
    metadata: Metadata,
    tensors: Vec<Tensor>,
}

impl Gguf {
    /// Reads and checks the header of the file at `path`.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, and a header that is not valid.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        reader::read(path.as_ref())
    }

    /// The file this header came from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The format's version: 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The key/value pairs.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Every tensor, in the file's order. Names are unique; ranges lie inside the file and do not overlap.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// The tensor called `name`.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }
}
