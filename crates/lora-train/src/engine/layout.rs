//! Where an adapter sits in a model, and what its tensors are called.

use mlx_rs::{Array, random};
use models::{Adapter, Dropout, LayerAdapter, LinearSpec, Lora, Model};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::config::TrainConfig;
use crate::{Error, Result, Tensors};

/// The adapted linear layers of a model.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// By layer of the model; empty where nothing is adapted.
    layers: Vec<Vec<Site>>,
    rank: usize,
    scale: f32,
    dropout: f32,
}

/// What the dropout of one micro-batch is drawn from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draw(u64);

impl Draw {
    /// For a run of this seed, at this update, for the micro-batch that begins with this row: the
    /// same whichever lane computes it, and however often.
    pub(crate) fn new(seed: u64, step: u64, row: usize) -> Self {
        Self(0).then(seed).then(step).then(row as u64)
    }

    /// The constants and shifts of SplitMix64.
    fn then(self, value: u64) -> Self {
        let mut bits = self.0.wrapping_add(value).wrapping_add(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self(bits ^ (bits >> 31))
    }
}

/// One adapted linear layer.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    spec: LinearSpec,
    /// Names of the two factors, as in mlx-lm's adapter files.
    names: [String; 2],
}

impl Layout {
    /// What `config` asks to adapt in `model`.
    pub(crate) fn new(config: &TrainConfig, model: &Model) -> Result<Self> {
        let adapted = config.adapted_layers(model.layers().len())?;
        let keys = config.lora_parameters.keys.as_deref();
        let mut layers = vec![Vec::new(); model.layers().len()];
        let mut known = Vec::new();
        for index in adapted {
            let Some(layer) = model.layers().get(index) else { continue };
            let prefix = model.config().layer_prefix(index);
            for spec in layer.linears() {
                if !known.contains(&spec.path) {
                    known.push(spec.path);
                }
                if keys.is_some_and(|keys| !keys.iter().any(|key| key == spec.path)) {
                    continue;
                }
                let names =
                    ["lora_a", "lora_b"].map(|part| format!("{prefix}.{}.{part}", spec.path));
                layers[index].push(Site { spec, names });
            }
        }
        if let Some(key) = keys.into_iter().flatten().find(|key| !known.contains(&key.as_str())) {
            let expected = format!("linear layers of the adapted layers ({})", known.join(", "));
            return Err(config.invalid("lora_parameters.keys", expected, key));
        }
        let rank = config.lora_parameters.rank;
        let dropout = config.lora_parameters.dropout as f32;
        Ok(Self { layers, rank, scale: config.scale() as f32, dropout })
    }

    /// The lowest layer with an adapter; the number of layers when there is none.
    pub(crate) fn lowest(&self) -> usize {
        self.layers.iter().position(|sites| !sites.is_empty()).unwrap_or(self.layers.len())
    }

    /// How many layers have an adapter.
    pub(crate) fn adapted_layers(&self) -> usize {
        self.layers.iter().filter(|sites| !sites.is_empty()).count()
    }

    /// Names of the factors of one layer, in the order [`Self::layer`] takes them.
    pub(crate) fn names(&self, layer: usize) -> impl Iterator<Item = &str> {
        self.layers
            .get(layer)
            .into_iter()
            .flatten()
            .flat_map(|site| &site.names)
            .map(String::as_str)
    }

    /// Name and shape of every factor.
    pub(crate) fn shapes(&self) -> impl Iterator<Item = (&str, Vec<i32>)> {
        self.layers.iter().flatten().flat_map(|site| {
            site.names.iter().map(String::as_str).zip(site.spec.factor_shapes(self.rank))
        })
    }

    /// An untrained adapter as mlx-lm starts one: `A` uniform within `1/sqrt(in)` of zero, `B` zero,
    /// so that it changes nothing yet.
    pub(crate) fn untrained(&self, seed: u64) -> Tensors {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut tensors = Tensors::new();
        for site in self.layers.iter().flatten() {
            let bound = (site.spec.in_features as f32).sqrt().recip();
            let [a_shape, b_shape] = site.spec.factor_shapes(self.rank);
            let count = |shape: &[i32]| shape.iter().product::<i32>();
            let a = (0..count(&a_shape)).map(|_| rng.random_range(-bound..=bound));
            let b = (0..count(&b_shape)).map(|_| 0.0);
            let [a_name, b_name] = site.names.clone();
            tensors.insert(a_name, Array::from_iter::<_, f32>(a, &a_shape));
            tensors.insert(b_name, Array::from_iter::<_, f32>(b, &b_shape));
        }
        tensors
    }

    /// The factors of one layer out of all.
    pub(crate) fn factors(&self, layer: usize, tensors: &Tensors) -> Result<Vec<Array>> {
        self.names(layer)
            .map(|name| tensors.get(name).cloned().ok_or_else(|| missing(name)))
            .collect()
    }

    /// The adapter of one layer from its factors; with dropout if there is something to `draw` it
    /// from.
    pub(crate) fn layer(
        &self,
        layer: usize,
        factors: &[Array],
        draw: Option<Draw>,
    ) -> Result<LayerAdapter> {
        let sites = self.layers.get(layer).into_iter().flatten();
        let loras = sites.zip(factors.chunks_exact(2)).enumerate().map(|(index, (site, pair))| {
            let dropout = match draw.filter(|_| self.dropout > 0.0) {
                Some(draw) => {
                    let Draw(bits) = draw.then(layer as u64).then(index as u64);
                    Some(Dropout { rate: self.dropout, key: random::key(bits)? })
                }
                None => None,
            };
            let lora = Lora { a: pair[0].clone(), b: pair[1].clone(), scale: self.scale, dropout };
            Ok((site.spec.path, lora))
        });
        loras.collect()
    }

    /// The adapter of the whole model.
    pub(crate) fn adapter(&self, tensors: &Tensors) -> Result<Adapter> {
        let layers = (0..self.layers.len())
            .map(|layer| self.layer(layer, &self.factors(layer, tensors)?, None))
            .collect::<Result<_>>()?;
        Ok(Adapter::new(layers))
    }
}

fn missing(name: &str) -> Error {
    models::Error::Adapter { reason: format!("it has no tensor `{name}`") }.into()
}
