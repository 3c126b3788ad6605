use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use mlx_rs::{Array, Dtype, random, transforms};
use safetensors::tensor::{Dtype as FileDtype, TensorView};
use serde::{Deserialize, Serialize};

use crate::checkpoint::safetensors_files;
use crate::checkpoint::store::Store;
use crate::error::Differences;
use crate::layer::Layer;
use crate::{Error, Model, Result};

const TENSORS: &str = "adapters.safetensors";
const CONFIG: &str = "adapter_config.json";

/// A low-rank update of one linear layer: `y = W x + scale * ((x A) B)`.
#[derive(Clone, Debug)]
pub struct Lora {
    /// `A`: `[in, rank]`, f32; of stacked experts `[experts, rank, in]`.
    pub a: Array,
    /// `B`: `[rank, out]`, f32; of stacked experts `[experts, out, rank]`.
    pub b: Array,
    /// The strength, used as it is (not divided by the rank).
    pub scale: f32,
    /// What is left out of `x` before `A` in training; absent otherwise.
    pub dropout: Option<Dropout>,
}

/// Inverted dropout: each value is zero with probability `rate`, else divided by `1 - rate`.
#[derive(Clone, Debug)]
pub struct Dropout {
    /// The probability, below 1.
    pub rate: f32,
    /// MLX's random key. The same key leaves out the same values: a layer can be computed again.
    pub key: Array,
}

impl Dropout {
    fn apply(&self, x: &Array) -> Result<Array> {
        let keep = 1.0 - self.rate;
        let kept = random::bernoulli(&Array::from_f32(keep), x.shape(), &self.key)?;
        let factors = kept.as_dtype(x.dtype())?.multiply(Array::from_f32(keep.recip()))?;
        Ok(x.multiply(factors.as_dtype(x.dtype())?)?)
    }
}

impl Lora {
    /// `scale * ((x A) B)`, the scale applied where the array is smallest.
    pub(crate) fn delta(&self, x: &Array) -> Result<Array> {
        let low = self.dropped(x)?.matmul(&self.a)?;
        let low = low.multiply(Array::from_f32(self.scale))?;
        Ok(low.matmul(&self.b)?)
    }

    fn rank(&self) -> i32 {
        // The stacked factors of experts are the transposes of the others.
        if self.a.ndim() == 3 { self.a.dim(1) } else { self.a.dim(-1) }
    }

    /// What is left of `x` after dropout, if there is any.
    pub(crate) fn dropped(&self, x: &Array) -> Result<Array> {
        self.dropout.as_ref().map_or_else(|| Ok(x.clone()), |dropout| dropout.apply(x))
    }
}

/// The updates of one layer, by the path of the linear layer they belong to (see
/// [`LinearSpec`](crate::LinearSpec)).
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

/// The updates of all layers.
///
/// On disk it has mlx-lm's layout, and either program loads what the other wrote:
/// `adapters.safetensors` with `model.layers.{i}.{path}.lora_a` and `.lora_b` in f32, beside
/// `adapter_config.json`. Rows of `q_proj` and `k_proj` are in the original checkpoint's order,
/// also when the model was opened from a GGUF file, which permutes them.
#[derive(Clone, Debug)]
pub struct Adapter {
    layers: Vec<LayerAdapter>,
}

/// The part of `adapter_config.json` that decides what the numbers mean.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct AdapterConfig {
    fine_tune_type: String,
    num_layers: i64,
    lora_parameters: LoraParameters,
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
        Self { layers: vec![LayerAdapter::default(); model.layers().len()] }
    }

    /// An adapter of these layers, first to last, one for each layer of the model.
    pub fn new(layers: Vec<LayerAdapter>) -> Self {
        Self { layers }
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
        let LoraParameters { rank, scale, .. } = config.lora_parameters;
        let path = folder.join(TENSORS);
        let mut store = Store::default();
        safetensors_files::list(&path, &mut store)?;
        let mut arrays = store.read_all()?;
        let mut differences = Differences::default();
        let mut layers = Vec::with_capacity(model.layers().len());
        for (index, layer) in model.layers().iter().enumerate() {
            let prefix = model.config().layer_prefix(index);
            let updates = take_layer(&mut arrays, &prefix, layer, rank, scale, &mut differences)?;
            layers.push(updates);
        }
        differences.unexpected = arrays.into_keys().collect();
        differences.into_result(&path)?;
        let adapter = Self { layers };
        transforms::eval(adapter.arrays())?;
        Ok(adapter)
    }

    /// Writes the adapter into `folder`, which must exist. `notes` are further keys for
    /// `adapter_config.json`, the run's settings for instance.
    ///
    /// # Errors
    /// [`Error::Adapter`] when the updates differ in rank or strength, which the layout cannot say.
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
        for (index, layer) in self.for_model(model)?.iter().enumerate() {
            let prefix = model.config().layer_prefix(index);
            for (linear, lora) in layer.iter() {
                tensors.push((format!("{prefix}.{linear}.lora_a"), bytes(&lora.a)?));
                tensors.push((format!("{prefix}.{linear}.lora_b"), bytes(&lora.b)?));
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

    /// Rank and scale, the same for all updates.
    pub(crate) fn strength(&self) -> Result<(usize, f32)> {
        let updates = || self.layers.iter().flat_map(LayerAdapter::iter);
        let Some((first_path, first)) = updates().next() else {
            return Err(Error::Adapter { reason: "it updates no layer at all".into() });
        };
        let (rank, scale) = (first.rank(), first.scale);
        if let Some((path, lora)) =
            updates().find(|(_, lora)| lora.rank() != rank || lora.scale != scale)
        {
            let (other_rank, other_scale) = (lora.rank(), lora.scale);
            return Err(Error::Adapter {
                reason: format!(
                    "one rank and scale expected, found {rank} and {scale} at {first_path}, \
                     {other_rank} and {other_scale} at {path}"
                ),
            });
        }
        Ok((rank as usize, scale))
    }

    /// What `adapter_config.json` has to say about these updates.
    fn config(&self) -> Result<AdapterConfig> {
        let (rank, scale) = self.strength()?;
        let untouched = self.layers.iter().take_while(|layer| layer.is_empty()).count();
        let updates = self.layers.iter().flat_map(LayerAdapter::iter);
        let keys: BTreeSet<String> = updates.map(|(path, _)| path.to_owned()).collect();
        Ok(AdapterConfig {
            fine_tune_type: "lora".into(),
            num_layers: (self.layers.len() - untouched) as i64,
            lora_parameters: LoraParameters {
                rank,
                scale,
                dropout: 0.0,
                keys: Some(keys.into_iter().collect()),
            },
        })
    }

    fn arrays(&self) -> impl Iterator<Item = &Array> {
        self.layers.iter().flat_map(LayerAdapter::iter).flat_map(|(_, lora)| [&lora.a, &lora.b])
    }
}

impl AdapterConfig {
    fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read(path)
            .map_err(|source| Error::Read { path: path.to_path_buf(), source })?;
        let config: Self = serde_json::from_slice(&text)
            .map_err(|source| Error::Json { path: path.to_path_buf(), source })?;
        if config.fine_tune_type != "lora" {
            return Err(Error::Config {
                path: path.to_path_buf(),
                key: "fine_tune_type".into(),
                expected: "lora".into(),
                found: config.fine_tune_type,
            });
        }
        Ok(config)
    }
}

/// Takes the updates of one layer out of `arrays`, noting what does not fit.
fn take_layer(
    arrays: &mut BTreeMap<String, Array>,
    prefix: &str,
    layer: &Layer,
    rank: usize,
    scale: f32,
    differences: &mut Differences,
) -> Result<LayerAdapter> {
    let mut updates = Vec::new();
    for spec in layer.linears() {
        let names = ["lora_a", "lora_b"].map(|part| format!("{prefix}.{}.{part}", spec.path));
        let shapes = spec.factor_shapes(rank);
        let found = names.each_ref().map(|name| arrays.remove(name));
        for ((name, shape), found) in names.iter().zip(&shapes).zip(&found) {
            match found {
                Some(array) if *array.shape() == **shape => {}
                Some(array) => differences.mismatched.push((
                    name.clone(),
                    format!("{shape:?}"),
                    format!("{:?}", array.shape()),
                )),
                None => {}
            }
        }
        match found {
            [Some(a), Some(b)] => {
                let (a, b) = (a.as_dtype(Dtype::Float32)?, b.as_dtype(Dtype::Float32)?);
                updates.push((spec.path, Lora { a, b, scale, dropout: None }));
            }
            [None, None] => {}
            [Some(_), None] => differences.missing.push(names[1].clone()),
            [None, Some(_)] => differences.missing.push(names[0].clone()),
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
