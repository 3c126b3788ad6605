pub(crate) mod export;
pub(crate) mod fuse;

use std::collections::BTreeMap;
use std::path::Path;

use mlx_rs::{Array, Dtype, transforms};
use safetensors::tensor::{Dtype as FileDtype, TensorView};
use serde::{Deserialize, Serialize};

use crate::nn::adapter_parts::AdapterKind;
use crate::checkpoint::safetensors_files;
use crate::checkpoint::store::Store;
use crate::nn::embeddings::dora;
use crate::error::Differences;
use crate::{Error, LinearSpec, Lora, Model, Result};

const TENSORS: &str = "adapters.safetensors";
const CONFIG: &str = "adapter_config.json";

/// The updates of one layer, or of what stands before and behind the layers, by the path of the
/// linear layer they belong to (see [`LinearSpec`](crate::LinearSpec)).
#[derive(Clone, Debug, Default)]
pub struct LayerAdapter {
    linears: BTreeMap<String, Lora>,
}

impl LayerAdapter {
    /// The update of the linear layer at `path`, if it has one.
    pub fn get(&self, path: &str) -> Option<&Lora> {
        self.linears.get(path)
    }

    /// All updates, in the order of their paths.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Lora)> {
        self.linears.iter().map(|(path, lora)| (path.as_str(), lora))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.linears.is_empty()
    }
}

impl<P: Into<String>> FromIterator<(P, Lora)> for LayerAdapter {
    fn from_iter<I: IntoIterator<Item = (P, Lora)>>(updates: I) -> Self {
        let linears = updates.into_iter().map(|(path, lora)| (path.into(), lora)).collect();
        Self { linears }
    }
}

/// The updates of all layers, and of what stands before and behind them.
///
/// On disk it has mlx-lm's layout, and either program loads what the other wrote:
/// `adapters.safetensors` with `model.layers.{i}.{path}.lora_a` and `.lora_b` (and `.m` of DoRA) in
/// f32, `model.embed_tokens.lora_a` and `lm_head.lora_a` likewise, beside `adapter_config.json`. Rows of `q_proj` and `k_proj` are in the original checkpoint's order,
/// also when the model was opened from a GGUF file, which permutes them.
#[derive(Clone, Debug)]
pub struct Adapter {
    layers: Vec<LayerAdapter>,
    ends: LayerAdapter,
}

/// The part of `adapter_config.json` that decides what the numbers mean.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct AdapterConfig {
    fine_tune_type: AdapterKind,
    num_layers: i64,
    lora_parameters: LoraParameters,
    /// Ours: by path, the ranks that differ from that of the parameters. mlx-lm takes the factors
    /// as they are.
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

    /// An adapter of these layers, first to last, one for each layer of the model.
    pub fn new(layers: Vec<LayerAdapter>) -> Self {
        Self { layers, ends: LayerAdapter::default() }
    }

    /// The same with these updates of what stands before and behind the layers (see
    /// [`Model::ends`]). That of the embedding is one of the output matrix too where they are tied.
    pub fn with_ends(self, ends: LayerAdapter) -> Self {
        Self { ends, ..self }
    }

    /// The updates of what stands before and behind the layers.
    pub fn ends(&self) -> &LayerAdapter {
        &self.ends
    }

    /// The updates by layer.
    pub fn layers(&self) -> &[LayerAdapter] {
        &self.layers
    }

    /// The layers, if there are as many as `model` has.
    pub(crate) fn for_model(&self, model: &Model) -> Result<&[LayerAdapter]> {
        if self.layers.len() == model.layers().len() {
            return Ok(&self.layers);
        }
        let (expected, found) = (model.layers().len(), self.layers.len());
        let reason = format!("the model has {expected} layers, the adapter {found}");
        Err(Error::Adapter { reason })
    }

    /// The adapter in `folder`, or without one [`none`](Self::none).
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn open(folder: Option<&Path>, model: &Model) -> Result<Self> {
        folder.map_or_else(|| Ok(Self::none(model)), |folder| Self::load(folder, model))
    }

    /// Reads the adapter in `folder`.
    ///
    /// # Errors
    /// [`Error::Tensors`] listing every tensor that `model` has no place for, that lacks its other
    /// half, or whose shape differs.
    pub fn load(folder: impl AsRef<Path>, model: &Model) -> Result<Self> {
        let folder = folder.as_ref();
        let config = AdapterConfig::load(&folder.join(CONFIG))?;
        let path = folder.join(TENSORS);
        let mut store = Store::default();
        safetensors_files::list(&path, &mut store)?;
        let mut arrays = store.read_all()?;
        let mut differences = Differences::default();
        let mut layers = Vec::with_capacity(model.layers().len());
        for (index, layer) in model.layers().iter().enumerate() {
            let prefix = model.config().layer_prefix(index);
            let specs = layer.linears();
            layers.push(take(&mut arrays, Some(&prefix), &specs, &config, &mut differences)?);
        }
        let ends = model.ends();
        if config.fine_tune_type == AdapterKind::Dora {
            let adapted = |path| arrays.keys().any(|name| name.starts_with(path));
            ends.iter()
                .find(|spec| adapted(spec.path))
                .map_or(Ok(()), |spec| Err(dora(spec.path)))?;
        }
        let ends = take(&mut arrays, None, &ends, &config, &mut differences)?;
        differences.unexpected = arrays.into_keys().collect();
        differences.into_result(&path)?;
        let adapter = Self { layers, ends };
        transforms::eval(adapter.arrays())?;
        Ok(adapter)
    }

    /// Writes the adapter into `folder`, which must exist. `notes` are further keys for
    /// `adapter_config.json`, the run's settings for instance.
    ///
    /// # Errors
    /// [`Error::Adapter`] when the updates differ in strength, only some have a magnitude, or those
    /// of one path differ in rank from layer to layer: the layout cannot say that.
    pub fn save(
        &self,
        folder: impl AsRef<Path>,
        model: &Model,
        notes: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<()> {
        let folder = folder.as_ref();
        let path = folder.join(TENSORS);
        let config = self.config()?;
        let mut updates = Vec::new();
        for (index, layer) in self.for_model(model)?.iter().enumerate() {
            let prefix = model.config().layer_prefix(index);
            updates.extend(layer.iter().map(|(path, lora)| (format!("{prefix}.{path}"), lora)));
        }
        updates.extend(self.ends.iter().map(|(path, lora)| (path.to_owned(), lora)));
        let mut tensors = Vec::new();
        for (module, lora) in updates {
            for (part, array) in lora.parts() {
                tensors.push((format!("{module}.{part}"), bytes(array)?));
            }
        }
        let broken =
            |error: safetensors::SafeTensorError| Error::Adapter { reason: error.to_string() };
        let views = (tensors.iter())
            .map(|(name, (shape, bytes))| {
                Ok((name, TensorView::new(FileDtype::F32, shape.clone(), bytes).map_err(broken)?))
            })
            .collect::<Result<Vec<_>>>()?;
        let file = safetensors::serialize(views, None).map_err(broken)?;

        let json = |source| Error::Json { path: folder.join(CONFIG), source };
        let mut keys = notes.clone();
        if let serde_json::Value::Object(own) = serde_json::to_value(config).map_err(json)? {
            keys.extend(own);
        }
        durable::write_json(folder.join(CONFIG), &keys)?;
        Ok(durable::write(path, file)?)
    }

    /// What the layout says once for all updates.
    pub(crate) fn strength(&self) -> Result<Strength> {
        let mut updates = self.updates();
        let Some((first_path, first)) = updates.next() else {
            return Err(Error::Adapter { reason: "it updates no layer at all".into() });
        };
        let mut strength = Strength {
            rank: first.rank(),
            ranks: BTreeMap::from([(first_path.to_owned(), first.rank())]),
            scale: first.scale,
            kind: first.kind(),
        };
        for (path, lora) in updates {
            let rank = *strength.ranks.entry(path.to_owned()).or_insert(lora.rank());
            let expected = (rank, strength.scale, strength.kind);
            let found = (lora.rank(), lora.scale, lora.kind());
            if found != expected {
                let reason = format!(
                    "{path}: expected rank, scale and type {expected:?}, as before, found {found:?}"
                );
                return Err(Error::Adapter { reason });
            }
        }
        Ok(strength)
    }

    /// What `adapter_config.json` has to say about these updates.
    fn config(&self) -> Result<AdapterConfig> {
        let Strength { rank, ranks, scale, kind } = self.strength()?;
        let untouched = self.layers.iter().take_while(|layer| layer.is_empty()).count();
        let keys = ranks.keys().cloned().collect();
        Ok(AdapterConfig {
            fine_tune_type: kind,
            num_layers: (self.layers.len() - untouched) as i64,
            lora_parameters: LoraParameters { rank, scale, dropout: 0.0, keys: Some(keys) },
            rank_pattern: ranks.into_iter().filter(|(_, other)| *other != rank).collect(),
        })
    }

    fn updates(&self) -> impl Iterator<Item = (&str, &Lora)> {
        self.layers.iter().chain([&self.ends]).flat_map(LayerAdapter::iter)
    }

    fn arrays(&self) -> impl Iterator<Item = &Array> {
        self.updates().flat_map(|(_, lora)| lora.parts()).map(|(_, array)| array)
    }
}

/// What all updates of an adapter have in common.
pub(crate) struct Strength {
    /// Of the first update.
    pub rank: usize,
    /// By path.
    pub ranks: BTreeMap<String, usize>,
    pub scale: f32,
    pub kind: AdapterKind,
}

impl AdapterConfig {
    fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read(path)
            .map_err(|source| Error::Read { path: path.to_path_buf(), source })?;
        serde_json::from_slice(&text)
            .map_err(|source| Error::Json { path: path.to_path_buf(), source })
    }
}

/// Takes the updates of these linear layers out of `arrays`, noting what does not fit.
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

/// Shape and little-endian bytes of an f32 array.
fn bytes(array: &Array) -> Result<(Vec<usize>, Vec<u8>)> {
    let array = array.as_dtype(Dtype::Float32)?.contiguous()?;
    let values: Vec<f32> =
        array.to_vec_exact().map_err(|error| Error::Adapter { reason: error.to_string() })?;
    let shape = array.shape().iter().map(|&n| n as usize).collect();
    Ok((shape, values.into_iter().flat_map(f32::to_le_bytes).collect()))
}
