//! What the readers of the families' configurations have in common.

use std::path::Path;

use serde::de::DeserializeOwned;

use crate::arch::config::Config;
use crate::{Error, Result};

/// What `layer_types` calls a layer that attends to everything before it.
pub(crate) const FULL_ATTENTION: &str = "full_attention";

/// A configuration as it was read, and where from: what is wrong with it names the file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConfigFile<'a, T> {
    pub path: &'a Path,
    pub keys: &'a T,
}

/// The two kinds of layers that a family has, and where a file says which layer is which.
#[derive(Debug)]
pub(crate) struct LayerTypes<'a, K> {
    /// How many layers there are.
    pub count: usize,
    /// `layer_types`: the kind of each, by name.
    pub named: Option<&'a [String]>,
    /// Without that: a key that says how many layers apart those of the second kind are.
    pub interval: (&'a str, usize),
    pub kinds: [(&'a str, K); 2],
}

/// What `text`, the content of `path`, says in JSON.
pub(crate) fn parse<T: DeserializeOwned>(path: &Path, text: &[u8]) -> Result<T> {
    serde_json::from_slice(text).map_err(|source| Error::Json { path: path.to_path_buf(), source })
}

impl<T> ConfigFile<'_, T> {
    /// A size within reason.
    pub fn size(&self, key: &str, value: impl Into<Option<usize>>) -> Result<usize> {
        const EXPECTED: &str = "a size from 1 to 16,777,216";
        match value.into() {
            Some(size) if (1..=Config::MOST).contains(&size) => Ok(size),
            Some(size) => self.refuse(key, EXPECTED, size),
            None => self.refuse(key, EXPECTED, "nothing"),
        }
    }

    /// The kind of each layer.
    pub fn layer_kinds<K: Copy>(&self, types: &LayerTypes<'_, K>) -> Result<Vec<K>> {
        let LayerTypes { count, named, interval: (key, interval), kinds } = *types;
        let [(first, usual), (second, rare)] = kinds;
        let Some(names) = named else {
            let interval = self.size(key, interval)?;
            let is_rare = |index: usize| (index + 1).is_multiple_of(interval);
            return Ok((0..count).map(|i| if is_rare(i) { rare } else { usual }).collect());
        };
        if names.len() != count {
            return self.refuse("layer_types", &format!("{count}, one a layer"), names.len());
        }
        let kind = |name: &String| match kinds.iter().find(|(known, _)| known == name) {
            Some(&(_, kind)) => Ok(kind),
            None => self.refuse("layer_types", &format!("{first} or {second}"), name),
        };
        names.iter().map(kind).collect()
    }

    /// The error that this key is not as it must be.
    pub fn refuse<R>(&self, key: &str, expected: &str, found: impl ToString) -> Result<R> {
        let (key, expected, found) = (key.to_owned(), expected.to_owned(), found.to_string());
        Err(Error::Config { path: self.path.to_path_buf(), key, expected, found })
    }
}
