//! Adapters on disk: loading, saving, fusing into a model, exporting to other formats.

pub(crate) mod export;
pub(crate) mod fuse;

use std::collections::BTreeMap;
use std::path::Path;

use mlx_rs::{Array, Dtype, transforms};
use serde::{Deserialize, Serialize};

use crate::checkpoint::{Store, json, list_safetensors, write_safetensors};
use crate::error::Differences;
use crate::nn::adapter::LayerAdapter;
use crate::nn::linear_spec::LinearSpec;
use crate::nn::lora::{AdapterKind, Lora, dora_unsupported};
use crate::{Adapter, Error, Model, Result};

const TENSORS: &str = "adapters.safetensors";
const CONFIG: &str = "adapter_config.json";

/// The part of `adapter_config.json` that says how to apply the tensors.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct AdapterConfig {
    fine_tune_type: AdapterKind,
    num_layers: i64,
    lora_parameters: LoraParameters,
    /// By path, the ranks that differ from `lora_parameters.rank`. Not a key of mlx-lm, which takes the
    /// factors as they are.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    rank_pattern: BTreeMap<String, usize>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct LoraParameters {
    rank: usize,
    scale: f32,
    #[serde(default)]
    dropout: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<Vec<String>>,
}

impl Adapter {
    /// The adapter that changes nothing.
    pub fn none(model: &Model) -> Self {
        Self::new(vec![LayerAdapter::default(); model.layers().len()])
    }

    /// The updates by layer, if they fit the number of the model's layers.
    pub(crate) fn for_model(&self, model: &Model) -> Result<&[LayerAdapter]> {
        self.for_layers(model.layers().len())
    }

    /// The adapter in `folder`; without a folder, [`none`](Self::none).
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn open(folder: Option<&Path>, model: &Model) -> Result<Self> {
        folder.map_or_else(|| Ok(Self::none(model)), |folder| Self::load(folder, model))
    }

    /// Reads the adapter in `folder`.
    ///
    /// # Errors
    /// [`Error::Tensors`] with every tensor that does not fit `model`: unexpected, without the other
    /// factor, or of another shape.
    pub fn load(folder: impl AsRef<Path>, model: &Model) -> Result<Self> {
        let folder = folder.as_ref();
        let config = AdapterConfig::load(&folder.join(CONFIG))?;
        let path = folder.join(TENSORS);
        let mut store = Store::default();
        list_safetensors(&path, &mut store)?;
        let mut arrays = store.read_all()?;
        let mut differences = Differences::default();
        let mut layers = Vec::with_capacity(model.layers().len());
        for (index, layer) in model.layers().iter().enumerate() {
            let prefix = model.config().layer_prefix(index);
            let specs = layer.linears();
            layers.push(take(&mut arrays, Some(&prefix), &specs, &config, &mut differences)?);
        }
        let linears = model.embedding_linears();
        if config.fine_tune_type == AdapterKind::Dora {
            let adapted = |path| arrays.keys().any(|name| name.starts_with(path));
            if let Some(spec) = linears.iter().find(|spec| adapted(spec.path)) {
                return Err(dora_unsupported(spec.path));
            }
        }
        let embeddings = take(&mut arrays, None, &linears, &config, &mut differences)?;
        differences.unexpected = arrays.into_keys().collect();
        differences.into_result(&path)?;
        let adapter = Self::new(layers).with_embeddings(embeddings);
        let arrays = adapter.updates().flat_map(|(_, lora)| lora.parts());
        transforms::eval(arrays.map(|(_, array)| array))?;
        Ok(adapter)
    }

    /// Writes the adapter into `folder`, which must exist. `notes` are further keys for
    /// `adapter_config.json`, for instance the run's settings.
    ///
    /// # Errors
    /// [`Error::Adapter`] if updates differ in scale, only some are DoRA, or the rank of one path
    /// differs between layers: the layout cannot express that.
    pub fn save(
        &self,
        folder: impl AsRef<Path>,
        model: &Model,
        notes: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<()> {
        let folder = folder.as_ref();
        let path = folder.join(TENSORS);
        let config = self.config()?;
        let mut tensors = Vec::new();
        let mut add = |module: &str, lora: &Lora| {
            let parts =
                lora.parts().map(|(part, array)| (format!("{module}.{part}"), array.clone()));
            tensors.extend(parts);
        };
        for (index, layer) in self.for_model(model)?.iter().enumerate() {
            let prefix = model.config().layer_prefix(index);
            layer.iter().for_each(|(path, lora)| add(&format!("{prefix}.{path}"), lora));
        }
        self.embeddings().iter().for_each(|(path, lora)| add(path, lora));
        tensors.sort_by(|(a, _), (b, _)| a.cmp(b));

        let json = |source| Error::Json { path: folder.join(CONFIG), source };
        let mut keys = notes.clone();
        if let serde_json::Value::Object(own) = serde_json::to_value(config).map_err(json)? {
            keys.extend(own);
        }
        durable::write_json(folder.join(CONFIG), &keys)?;
        write_safetensors(&path, &[], &tensors)
    }

    /// The properties that all updates must share on disk.
    fn shared(&self) -> Result<Shared> {
        let mut updates = self.updates();
        let Some((first_path, first)) = updates.next() else {
            return Err(Error::Adapter {
                reason: "expected an update of at least one layer, found none".into(),
            });
        };
        let mut shared = Shared {
            rank: first.rank(),
            ranks: BTreeMap::from([(first_path.to_owned(), first.rank())]),
            scale: first.scale,
            kind: first.kind(),
        };
        for (path, lora) in updates {
            let rank = *shared.ranks.entry(path.to_owned()).or_insert(lora.rank());
            let expected = (rank, shared.scale, shared.kind);
            let found = (lora.rank(), lora.scale, lora.kind());
            if found != expected {
                let reason = format!(
                    "{path}: expected rank, scale and type {expected:?} like other updates, found {found:?}"
                );
                return Err(Error::Adapter { reason });
            }
        }
        Ok(shared)
    }

    /// The content of `adapter_config.json`.
    fn config(&self) -> Result<AdapterConfig> {
        let Shared { rank, ranks, scale, kind } = self.shared()?;
        let untouched = self.layers().iter().take_while(|layer| layer.is_empty()).count();
        let keys = ranks.keys().cloned().collect();
        Ok(AdapterConfig {
            fine_tune_type: kind,
            num_layers: (self.layers().len() - untouched) as i64,
            lora_parameters: LoraParameters { rank, scale, dropout: 0.0, keys: Some(keys) },
            rank_pattern: ranks.into_iter().filter(|(_, other)| *other != rank).collect(),
        })
    }
}

/// The properties that all updates of an adapter share.
struct Shared {
    /// Of the first update.
    rank: usize,
    /// By path.
    ranks: BTreeMap<String, usize>,
    scale: f32,
    kind: AdapterKind,
}

impl AdapterConfig {
    fn load(path: &Path) -> Result<Self> {
        json::parse(path, &json::read(path)?)
    }
}

/// Removes the updates of these linear layers from `arrays`. Mismatches go to `differences`.
fn take(
    arrays: &mut BTreeMap<String, Array>,
    prefix: Option<&str>,
    specs: &[LinearSpec],
    config: &AdapterConfig,
    differences: &mut Differences,
) -> Result<LayerAdapter> {
    let LoraParameters { rank, scale, .. } = config.lora_parameters;
    let mut updates = Vec::new();
    for spec in specs {
        let rank = config.rank_pattern.get(spec.path).copied().unwrap_or(rank);
        let module = prefix.map_or(spec.path.into(), |prefix| format!("{prefix}.{}", spec.path));
        let mut found = Vec::new();
        let mut missing = Vec::new();
        for (part, shape) in spec.parts(config.fine_tune_type, rank) {
            let name = format!("{module}.{part}");
            let Some(array) = arrays.remove(&name) else {
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
