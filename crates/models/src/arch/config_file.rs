//! Helpers to read and check configurations.

use std::path::Path;

use crate::{Error, Result};

/// No size may be larger: far above any model, and small enough that products of two fit MLX's indices.
const MOST: usize = 1 << 24;

/// In `layer_types`, a layer that attends to everything before it.
pub(super) const FULL_ATTENTION: &str = "full_attention";

/// Keys that were read from a file, which errors name.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConfigFile<'a, T> {
    pub path: &'a Path,
    pub keys: &'a T,
}

/// How a file says which of two kinds each layer is of.
#[derive(Debug)]
pub(super) struct LayerTypes<'a, K> {
    /// The number of layers.
    pub count: usize,
    /// `layer_types`: the kind of each, by name.
    pub named: Option<&'a [String]>,
    /// Without that, a key and its value `n`: every `n`th layer is of the second kind.
    pub interval: (&'a str, usize),
    pub kinds: [(&'a str, K); 2],
}

impl<T> ConfigFile<'_, T> {
    /// A size from 1 to 2^24.
    pub fn size(&self, key: &str, value: impl Into<Option<usize>>) -> Result<usize> {
        self.size_to(MOST, key, value)
    }

    /// A size from 1 to `most`.
    pub fn size_to(
        &self,
        most: usize,
        key: &str,
        value: impl Into<Option<usize>>,
    ) -> Result<usize> {
        let expected = format!("a size from 1 to {most}");
        match value.into() {
            Some(size) if (1..=most).contains(&size) => Ok(size),
            Some(size) => self.refuse(key, &expected, size),
            None => self.refuse(key, &expected, "nothing"),
        }
    }

    /// A finite number above 0.
    pub fn positive(&self, key: &str, value: Option<f64>) -> Result<f64> {
        const EXPECTED: &str = "a positive number";
        match value {
            Some(number) if number > 0.0 && number.is_finite() => Ok(number),
            Some(number) => self.refuse(key, EXPECTED, number),
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
            return self.refuse("layer_types", &format!("{count}, one per layer"), names.len());
        }
        let kind = |name: &String| match kinds.iter().find(|(known, _)| known == name) {
            Some(&(_, kind)) => Ok(kind),
            None => self.refuse("layer_types", &format!("{first} or {second}"), name),
        };
        names.iter().map(kind).collect()
    }

    /// Refuses a key unless it has the one value that is supported.
    pub fn require<V>(&self, key: &str, supported: V, found: V) -> Result<()>
    where
        V: PartialEq + ToString,
    {
        if found == supported {
            return Ok(());
        }
        self.refuse(key, &supported.to_string(), found)
    }

    /// The error for a key: what was expected and what was found.
    pub fn refuse<R>(&self, key: &str, expected: &str, found: impl ToString) -> Result<R> {
        let (key, expected, found) = (key.to_owned(), expected.to_owned(), found.to_string());
        Err(Error::Config { path: self.path.to_path_buf(), key, expected, found })
    }
}
