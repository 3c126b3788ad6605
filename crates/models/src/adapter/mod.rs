//! Adapters on disk: loading, saving, fusing into a model, exporting to other formats.

pub(crate) mod export;
pub(crate) mod fuse;
mod mlx_lm;
mod peft;
mod stored;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value};

use crate::checkpoint::{json, write_safetensors};
use crate::nn::{AdapterKind, LayerAdapter, Lora};
use crate::{Adapter, Error, Model, Result};
use stored::ConfigKeys;

const TENSORS: &str = "adapters.safetensors";
const CONFIG: &str = "adapter_config.json";

/// The part of mlx-lm's `adapter_config.json` that says how to apply the tensors.
#[derive(Clone, Debug, Serialize)]
struct AdapterConfig {
    fine_tune_type: AdapterKind,
    num_layers: i64,
    lora_parameters: LoraParameters,
    /// By path, the ranks that differ from `lora_parameters.rank`. Not a key of mlx-lm, which takes the
    /// factors as they are.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    rank_pattern: BTreeMap<String, usize>,
}

#[derive(Clone, Debug, Serialize)]
struct LoraParameters {
    rank: usize,
    scale: f32,
    dropout: f32,
    keys: Vec<String>,
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

    /// Reads the adapter in `folder`: one of mlx-lm (`adapters.safetensors`), or of PEFT
    /// (`adapter_model.safetensors`), whose factors are transposed.
    ///
    /// # Errors
    /// [`Error::Config`] for an `adapter_config.json` with values that are not supported;
    /// [`Error::Tensors`] with every tensor that does not fit `model`: unexpected, without the other
    /// factor, or of another shape. Tensors and shapes are named as in mlx-lm.
    pub fn load(folder: impl AsRef<Path>, model: &Model) -> Result<Self> {
        let folder = folder.as_ref();
        let path = folder.join(CONFIG);
        let text = json::read(&path)?;
        let keys: Map<String, Value> = json::parse(&path, &text)?;
        let config = ConfigKeys { path: &path, keys: &keys };
        // Each program's configuration has a key that the other's does not have.
        let stored = if keys.contains_key(peft::TYPE) {
            peft::read(folder, config, model)?
        } else if keys.contains_key(mlx_lm::PARAMETERS) {
            mlx_lm::read(folder, config, &text)?
        } else {
            let expected = "it in an adapter of mlx-lm, or `peft_type` in one of PEFT";
            return config.refuse(mlx_lm::PARAMETERS, expected, "neither");
        };
        stored.into_adapter(model)
    }

    /// The file of the tensors of the adapter in `folder`: mlx-lm's, or PEFT's if only that is there.
    pub fn weights_file(folder: &Path) -> PathBuf {
        let [own, peft] = [TENSORS, peft::TENSORS].map(|name| folder.join(name));
        if peft.is_file() && !own.is_file() { peft } else { own }
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
        notes: &Map<String, Value>,
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
        if let Value::Object(own) = serde_json::to_value(config).map_err(json)? {
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
            lora_parameters: LoraParameters { rank, scale, dropout: 0.0, keys },
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
