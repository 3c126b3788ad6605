//! Where an adapter sits in a model, and what its tensors are called.

use mlx_rs::{Array, random};
use models::{Adapter, AdapterKind, Dropout, LayerAdapter, LinearSpec, Lora, Model};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::config::{FineTuneType, LoraParameters, TrainConfig};
use crate::{Error, Result, Tensors};

/// The adapted linear layers of a model.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// By layer of the model; empty where nothing is adapted.
    layers: Vec<Vec<Site>>,
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
    kind: AdapterKind,
    rank: usize,
    /// Names of what is trained, as in mlx-lm's adapter files.
    names: Vec<String>,
}

impl Site {
    fn shapes(&self) -> impl Iterator<Item = Vec<i32>> {
        self.spec.parts(self.kind, self.rank).into_iter().map(|(_, shape)| shape)
    }
}

impl Layout {
    /// What `config` asks to adapt in `model`.
    pub(crate) fn new(config: &TrainConfig, model: &Model) -> Result<Self> {
        let LoraParameters { rank, keys, dropout, .. } = &config.lora_parameters;
        let ranks = &config.nightshift.rank_pattern;
        let mut layers = vec![Vec::new(); model.layers().len()];
        let mut known = Vec::new();
        for index in config.adapted_layers(model.layers().len())? {
            let Some(layer) = model.layers().get(index) else { continue };
            let prefix = model.config().layer_prefix(index);
            for spec in layer.linears() {
                if !known.contains(&spec.path) {
                    known.push(spec.path);
                }
                if keys.as_ref().is_some_and(|keys| !keys.iter().any(|key| key == spec.path)) {
                    continue;
                }
                let rank = ranks.get(spec.path).copied().unwrap_or(*rank);
                let kind = kind(config, &spec)?;
                let parts = spec.parts(kind, rank).into_iter();
                let names = parts.map(|(part, _)| format!("{prefix}.{}.{part}", spec.path));
                layers[index].push(Site { spec, kind, rank, names: names.collect() });
            }
        }
        let wanted = keys.iter().flatten().map(|key| ("lora_parameters.keys", key));
        let wanted = wanted.chain(ranks.keys().map(|key| ("nightshift.rank_pattern", key)));
        for (setting, key) in wanted {
            if !known.contains(&key.as_str()) {
                let expected =
                    format!("linear layers of the adapted layers ({})", known.join(", "));
                return Err(config.invalid(setting, expected, key));
            }
        }
        Ok(Self { layers, scale: config.scale() as f32, dropout: *dropout as f32 })
    }

    /// The lowest layer with an adapter; the number of layers when there is none.
    pub(crate) fn lowest(&self) -> usize {
        self.layers.iter().position(|sites| !sites.is_empty()).unwrap_or(self.layers.len())
    }

    /// How many layers have an adapter.
    pub(crate) fn adapted_layers(&self) -> usize {
        self.layers.iter().filter(|sites| !sites.is_empty()).count()
    }

    /// Whether the lengths of rows are trained too (DoRA).
    pub(crate) fn has_magnitudes(&self) -> bool {
        self.layers.iter().flatten().any(|site| site.kind == AdapterKind::Dora)
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
        let sites = self.layers.iter().flatten();
        sites.flat_map(|site| site.names.iter().map(String::as_str).zip(site.shapes()))
    }

    /// An untrained adapter as mlx-lm starts one: `A` uniform within `1/sqrt(in)` of zero, `B` zero,
    /// magnitudes the lengths of the model's own rows, so that it changes nothing yet.
    pub(crate) fn untrained(&self, seed: u64, model: &Model) -> Result<Tensors> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut tensors = Tensors::new();
        for (layer, sites) in self.layers.iter().enumerate() {
            for site in sites {
                let bound = (site.spec.in_features as f32).sqrt().recip();
                let [a_shape, b_shape] = site.spec.factor_shapes(site.rank);
                let count = a_shape.iter().product::<i32>();
                let a = (0..count).map(|_| rng.random_range(-bound..=bound));
                let a = Array::from_iter::<_, f32>(a, &a_shape);
                let mut start = vec![a, Array::zeros::<f32>(&b_shape)?];
                if site.kind == AdapterKind::Dora {
                    start.push(model.row_norms(layer, site.spec.path)?);
                }
                mlx_rs::transforms::eval(&start)?;
                tensors.extend(site.names.iter().cloned().zip(start));
            }
        }
        Ok(tensors)
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
        let mut factors = factors.iter().cloned();
        let sites = self.layers.get(layer).into_iter().flatten().enumerate();
        let loras = sites.map(|(index, site)| {
            let dropout = match draw.filter(|_| self.dropout > 0.0) {
                Some(draw) => {
                    let Draw(bits) = draw.then(layer as u64).then(index as u64);
                    Some(Dropout { rate: self.dropout, key: random::key(bits)? })
                }
                None => None,
            };
            let own: Vec<Array> = factors.by_ref().take(site.names.len()).collect();
            let (a, b, magnitude) = match own.as_slice() {
                [a, b] => (a.clone(), b.clone(), None),
                [a, b, magnitude] => (a.clone(), b.clone(), Some(magnitude.clone())),
                _ => return Err(missing(site.spec.path)),
            };
            Ok((site.spec.path, Lora { a, b, scale: self.scale, magnitude, dropout }))
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

/// What is trained of a linear layer.
fn kind(config: &TrainConfig, spec: &LinearSpec) -> Result<AdapterKind> {
    match (config.fine_tune_type, spec.experts) {
        (FineTuneType::Dora, None) => Ok(AdapterKind::Dora),
        (FineTuneType::Dora, Some(_)) => {
            let expected = format!("lora, or `keys` without {}, which stacks experts", spec.path);
            Err(config.invalid("fine_tune_type", expected, "dora"))
        }
        (FineTuneType::Lora | FineTuneType::Full, _) => Ok(AdapterKind::Lora),
    }
}

fn missing(name: &str) -> Error {
    models::Error::Adapter { reason: format!("it has no tensor `{name}`") }.into()
}
