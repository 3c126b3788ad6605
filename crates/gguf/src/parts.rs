//! Models in several files, as llama.cpp's `llama-gguf-split` writes them.

use std::collections::HashMap;
use std::path::Path;

use crate::{Error, Gguf, Metadata, Result, Tensor};

const NUMBER: &str = "split.no";
const COUNT: &str = "split.count";
const TENSORS: &str = "split.tensors.count";

/// The headers of all files of a model: of one, or of `NAME-00001-of-00003.gguf` and so on.
///
/// Invariant: all parts that the header of the first announces are there, in order, and no tensor is in
/// two of them.
///
/// ```no_run
/// let model = gguf::Parts::open("model-00001-of-00003.gguf")?;
/// for part in model.files() {
///     println!("{}: {} tensors", part.path().display(), part.tensors().len());
/// }
/// # Ok::<(), gguf::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Parts {
    first: Gguf,
    others: Vec<Gguf>,
}

impl Parts {
    /// Reads and checks the header of the file at `path`, and if it is the first part of a split model,
    /// those of the other parts in its folder.
    ///
    /// # Errors
    ///
    /// Those of [`Gguf::open`]; [`Error::NotFirstPart`] and [`Error::PartName`] for a file from which the
    /// others are not found; [`Error::MissingPart`]; [`Error::PartMismatch`] and [`Error::InTwoParts`] for
    /// parts that do not belong together.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let first = Gguf::open(path)?;
        let count = optional(&first, COUNT)?.unwrap_or(1);
        let others = if count > 1 { other_parts(&first, count)? } else { Vec::new() };
        let parts = Self { first, others };
        parts.check()?;
        Ok(parts)
    }

    /// The path of the first file.
    pub fn path(&self) -> &Path {
        self.first.path()
    }

    /// The metadata of the model, which the first file has.
    pub fn metadata(&self) -> &Metadata {
        self.first.metadata()
    }

    /// The headers of the files, in order.
    pub fn files(&self) -> impl Iterator<Item = &Gguf> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// The tensor called `name`, in whichever file it is.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.files().find_map(|file| file.tensor(name))
    }

    /// Checks the number of tensors, and that each is in one file.
    fn check(&self) -> Result<()> {
        let mut places: HashMap<&str, &Path> = HashMap::new();
        for file in self.files() {
            for tensor in file.tensors() {
                if let Some(other) = places.insert(&tensor.name, file.path()) {
                    let (path, tensor) = (file.path().into(), tensor.name.clone());
                    return Err(Error::InTwoParts { path, tensor, other: other.into() });
                }
            }
        }
        let found = places.len() as u64;
        match optional(&self.first, TENSORS)?.map(u64::from) {
            Some(expected) if expected != found => {
                Err(Error::PartMismatch { path: self.path().into(), key: TENSORS, expected, found })
            }
            _ => Ok(()),
        }
    }
}

fn optional(file: &Gguf, key: &str) -> Result<Option<u32>> {
    let metadata = file.metadata();
    if metadata.has(key) { metadata.u32(key).map(Some) } else { Ok(None) }
}

/// The parts after the first.
fn other_parts(first: &Gguf, count: u32) -> Result<Vec<Gguf>> {
    let path = first.path();
    let number = first.metadata().u32(NUMBER)?;
    // A name is the only link between the parts.
    let Some(stem) = stem(path, number, count) else {
        return Err(Error::PartName { path: path.into(), ending: ending(number, count) });
    };
    if number != 0 {
        let first = path.with_file_name(stem.to_owned() + &ending(0, count));
        return Err(Error::NotFirstPart { path: path.into(), part: number + 1, count, first });
    }
    let part = |number: u32| {
        let path = path.with_file_name(stem.to_owned() + &ending(number, count));
        if !path.is_file() {
            return Err(Error::MissingPart { path, part: number + 1, count });
        }
        let part = Gguf::open(path)?;
        for (key, expected) in [(NUMBER, number), (COUNT, count)] {
            let found = part.metadata().u32(key)?;
            if found != expected {
                let (path, expected, found) = (part.path, expected.into(), found.into());
                return Err(Error::PartMismatch { path, key, expected, found });
            }
        }
        Ok(part)
    };
    (1..count).map(part).collect()
}

/// How the name of a part ends; `number` counts from 0, the name from 1.
fn ending(number: u32, count: u32) -> String {
    format!("-{:05}-of-{count:05}.gguf", u64::from(number) + 1)
}

/// The name of the part at `path` without its ending.
fn stem(path: &Path, number: u32, count: u32) -> Option<&str> {
    path.file_name()?.to_str()?.strip_suffix(&ending(number, count))
}
