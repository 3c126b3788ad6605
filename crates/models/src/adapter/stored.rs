//! What the files of an adapter hold, of mlx-lm or of PEFT, and whether it fits a model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mlx_rs::{Array, Dtype, transforms};
use serde_json::{Map, Value};

use crate::error::Differences;
use crate::nn::{AdapterKind, LayerAdapter, LinearSpec, Lora, dora_unsupported};
use crate::{Adapter, Error, Model, Result};

/// An adapter as it is on disk, with the names and shapes of mlx-lm.
pub(super) struct Stored {
    /// The file of the tensors, for errors.
    pub path: PathBuf,
    pub kind: AdapterKind,
    pub arrays: BTreeMap<String, Array>,
    pub strength: StrengthOf,
}

/// The strength of the update of a module, given its whole name and its path below the layer.
pub(super) type StrengthOf = Box<dyn Fn(&str, &str) -> Strength>;

/// The rank of an update, and the factor it is multiplied by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Strength {
    pub rank: usize,
    pub scale: f32,
}

/// The keys of an `adapter_config.json`.
#[derive(Clone, Copy)]
pub(super) struct ConfigKeys<'a> {
    pub path: &'a Path,
    pub keys: &'a Map<String, Value>,
}

impl ConfigKeys<'_> {
    /// The error for a key.
    pub fn refuse<R>(self, key: &str, expected: &str, found: impl ToString) -> Result<R> {
        let (path, key) = (self.path.to_path_buf(), key.to_owned());
        Err(Error::Config { path, key, expected: expected.to_owned(), found: found.to_string() })
    }
}

impl Stored {
    /// The adapter, if all tensors fit `model`.
    pub fn into_adapter(mut self, model: &Model) -> Result<Adapter> {
        let mut differences = Differences::default();
        let mut layers = Vec::with_capacity(model.layers().len());
        for (index, layer) in model.layers().iter().enumerate() {
            let prefix = model.config().layer_prefix(index);
            layers.push(self.take(Some(&prefix), &layer.linears(), &mut differences)?);
        }
        let linears = model.embedding_linears();
        if self.kind == AdapterKind::Dora {
            let adapted = |path| self.arrays.keys().any(|name| name.starts_with(path));
            if let Some(spec) = linears.iter().find(|spec| adapted(spec.path)) {
                return Err(dora_unsupported(spec.path));
            }
        }
        let embeddings = self.take(None, &linears, &mut differences)?;
        differences.unexpected = self.arrays.into_keys().collect();
        differences.into_result(&self.path)?;
        let adapter = Adapter::new(layers).with_embeddings(embeddings);
        let arrays = adapter.updates().flat_map(|(_, lora)| lora.parts());
        transforms::eval(arrays.map(|(_, array)| array))?;
        Ok(adapter)
    }

    /// Removes the updates of these linear layers from the arrays. Mismatches go to `differences`.
    fn take(
        &mut self,
        prefix: Option<&str>,
        specs: &[LinearSpec],
        differences: &mut Differences,
    ) -> Result<LayerAdapter> {
        let mut updates = Vec::new();
        for spec in specs {
            let module =
                prefix.map_or(spec.path.into(), |prefix| format!("{prefix}.{}", spec.path));
            let Strength { rank, scale } = (self.strength)(&module, spec.path);
            let mut found = Vec::new();
            let mut missing = Vec::new();
            for (part, shape) in spec.parts(self.kind, rank) {
                let name = format!("{module}.{part}");
                let Some(array) = self.arrays.remove(&name) else {
                    missing.push(name);
                    continue;
                };
                if array.shape() != shape {
                    let (expected, found) = (format!("{shape:?}"), format!("{:?}", array.shape()));
                    differences.mismatched.push((name, expected, found));
                }
                found.push(array.as_dtype(Dtype::Float32)?);
            }
            if !found.is_empty() {
                differences.missing.extend(missing);
            }
            let mut found = found.into_iter();
            if let (Some(a), Some(b)) = (found.next(), found.next()) {
                let lora = Lora { a, b, scale, magnitude: found.next(), dropout: None };
                updates.push((spec.path, lora));
            }
        }
        Ok(updates.into_iter().collect())
    }
}
