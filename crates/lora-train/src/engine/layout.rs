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
    /// Before and behind the layers.
    ends: Vec<Site>,
    /// What is adapted first of all.
    lowest: Lowest,
    /// The rank of the output matrix's update; zero without one.
    output_rank: usize,
    scale: f32,
    dropout: f32,
}

/// A part of the model that has its own updates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Place {
    /// The decoder layer of this number.
    Layer(usize),
    /// What stands before and behind the layers.
    Ends,
}

/// How far down gradients have to go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Lowest {
    /// To the embedding, below all layers.
    Embedding,
    /// To the layer of this number; that of all layers, where only the head is adapted.
    Layer(usize),
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
    /// Of the linear layer below `prefix`, if it does not say where it is by itself.
    fn new(
        config: &TrainConfig,
        spec: LinearSpec,
        kind: AdapterKind,
        prefix: Option<&str>,
    ) -> Self {
        let ranks = &config.nightshift.rank_pattern;
        let rank = ranks.get(spec.path).copied().unwrap_or(config.lora_parameters.rank);
        let module = prefix.map_or(spec.path.into(), |prefix| format!("{prefix}.{}", spec.path));
        let parts = spec.parts(kind, rank).into_iter();
        let names = parts.map(|(part, _)| format!("{module}.{part}")).collect();
        Self { spec, kind, rank, names }
    }

    fn shapes(&self) -> impl Iterator<Item = Vec<i32>> {
        self.spec.parts(self.kind, self.rank).into_iter().map(|(_, shape)| shape)
    }
}

impl Layout {
    /// What `config` asks to adapt in `model`.
    pub(crate) fn new(config: &TrainConfig, model: &Model) -> Result<Self> {
        let LoraParameters { keys, dropout, .. } = &config.lora_parameters;
        let mut layers = vec![Vec::new(); model.layers().len()];
        let mut known = Vec::new();
        for index in config.adapted_layers(model.layers().len())? {
            let Some(layer) = model.layers().get(index) else { continue };
            let prefix = model.config().layer_prefix(index);
            for spec in layer.linears() {
                if !known.contains(&spec.path) {
                    known.push(spec.path);
                }
                if keys.as_ref().is_none_or(|keys| keys.iter().any(|key| key == spec.path)) {
                    let kind = kind(config, &spec)?;
                    layers[index].push(Site::new(config, spec, kind, Some(&prefix)));
                }
            }
        }
        let mut ends = Vec::new();
        let specs = model.embedding_linears();
        for spec in &specs {
            // Only by name: without `keys` all linear layers of the decoder layers are adapted.
            if keys.iter().flatten().any(|key| key == spec.path) {
                ends.push(Site::new(config, *spec, kind_at_an_end(config, spec)?, None));
            }
        }
        let specs: Vec<&str> = specs.iter().map(|spec| spec.path).collect();
        let ranks = &config.nightshift.rank_pattern;
        let wanted = keys.iter().flatten().map(|key| ("lora_parameters.keys", key));
        let wanted = wanted.chain(ranks.keys().map(|key| ("nightshift.rank_pattern", key)));
        for (setting, key) in wanted {
            if !known.iter().chain(&specs).any(|path| path == key) {
                let (layers, ends) = (known.join(", "), specs.join(" or "));
                let expected = format!("linear layers of the adapted layers ({layers}) or {ends}");
                return Err(config.invalid(setting, expected, key));
            }
        }
        let lowest = match ends.iter().any(|site| Some(&site.spec.path) == specs.first()) {
            true => Lowest::Embedding,
            false => {
                let lowest = layers.iter().position(|sites| !sites.is_empty());
                Lowest::Layer(lowest.unwrap_or(layers.len()))
            }
        };
        // The output matrix is the last of the ends, be it the embedding too or not.
        let output = ends.iter().find(|site| Some(&site.spec.path) == specs.last());
        let output_rank = output.map_or(0, |site| site.rank);
        Ok(Self {
            layers,
            ends,
            lowest,
            output_rank,
            scale: config.scale() as f32,
            dropout: *dropout as f32,
        })
    }

    /// How far down gradients have to go.
    pub(crate) fn lowest(&self) -> Lowest {
        self.lowest
    }

    /// The lowest layer that is differentiated; the number of layers when none is.
    pub(crate) fn lowest_layer(&self) -> usize {
        match self.lowest {
            Lowest::Embedding => 0,
            Lowest::Layer(layer) => layer,
        }
    }

    /// The rank of the output matrix's update; zero without one.
    pub(crate) fn output_rank(&self) -> usize {
        self.output_rank
    }

    /// How many layers have an adapter.
    pub(crate) fn adapted_layers(&self) -> usize {
        self.layers.iter().filter(|sites| !sites.is_empty()).count()
    }

    /// Whether the lengths of rows are trained too (DoRA).
    pub(crate) fn has_magnitudes(&self) -> bool {
        self.layers.iter().flatten().any(|site| site.kind == AdapterKind::Dora)
    }

    fn sites(&self, place: Place) -> &[Site] {
        match place {
            Place::Layer(layer) => self.layers.get(layer).map_or(&[], Vec::as_slice),
            Place::Ends => &self.ends,
        }
    }

    fn places(&self) -> impl Iterator<Item = Place> {
        (0..self.layers.len()).map(Place::Layer).chain([Place::Ends])
    }

    /// Names of the factors at one place, in the order [`Self::updates`] takes them.
    pub(crate) fn names(&self, place: Place) -> impl Iterator<Item = &str> {
        self.sites(place).iter().flat_map(|site| &site.names).map(String::as_str)
    }

    /// Name and shape of every factor.
    pub(crate) fn shapes(&self) -> impl Iterator<Item = (&str, Vec<i32>)> {
        self.places().flat_map(|place| self.shapes_at(place))
    }

    /// Name and shape of every factor at one place.
    pub(crate) fn shapes_at(&self, place: Place) -> impl Iterator<Item = (&str, Vec<i32>)> {
        let sites = self.sites(place).iter();
        sites.flat_map(|site| site.names.iter().map(String::as_str).zip(site.shapes()))
    }

    /// An untrained adapter as mlx-lm starts one: `A` uniform within `1/sqrt(in)` of zero, `B` zero,
    /// magnitudes the lengths of the model's own rows, so that it changes nothing yet.
    pub(crate) fn untrained(&self, seed: u64, model: &Model) -> Result<Tensors> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut tensors = Tensors::new();
        for place in self.places() {
            for site in self.sites(place) {
                let bound = (site.spec.in_features as f32).sqrt().recip();
                let [a_shape, b_shape] = site.spec.factor_shapes(site.rank);
                let count = a_shape.iter().product::<i32>();
                let a = (0..count).map(|_| rng.random_range(-bound..=bound));
                let a = Array::from_iter::<_, f32>(a, &a_shape);
                let mut start = vec![a, Array::zeros::<f32>(&b_shape)?];
                if let (Place::Layer(layer), AdapterKind::Dora) = (place, site.kind) {
                    start.push(model.row_norms(layer, site.spec.path)?);
                }
                mlx_rs::transforms::eval(&start)?;
                tensors.extend(site.names.iter().cloned().zip(start));
            }
        }
        Ok(tensors)
    }

    /// The factors at one place out of all.
    pub(crate) fn factors(&self, place: Place, tensors: &Tensors) -> Result<Vec<Array>> {
        self.names(place)
            .map(|name| tensors.get(name).cloned().ok_or_else(|| missing(name)))
            .collect()
    }

    /// The updates at one place from its factors; with dropout if there is something to `draw` it
    /// from.
    pub(crate) fn updates(
        &self,
        place: Place,
        factors: &[Array],
        draw: Option<Draw>,
    ) -> Result<LayerAdapter> {
        let draw = draw.filter(|_| self.dropout > 0.0).map(|draw| match place {
            Place::Layer(layer) => draw.then(layer as u64),
            Place::Ends => draw.then(u64::MAX),
        });
        let mut factors = factors.iter().cloned();
        let loras = self.sites(place).iter().enumerate().map(|(index, site)| {
            let dropout = match draw {
                Some(draw) => {
                    let Draw(bits) = draw.then(index as u64);
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
        let updates = |place| self.updates(place, &self.factors(place, tensors)?, None);
        let layers =
            (0..self.layers.len()).map(Place::Layer).map(updates).collect::<Result<_>>()?;
        Ok(Adapter::new(layers).with_embeddings(updates(Place::Ends)?))
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

/// What is trained of embedding or output matrix.
fn kind_at_an_end(config: &TrainConfig, spec: &LinearSpec) -> Result<AdapterKind> {
    match config.fine_tune_type {
        FineTuneType::Lora | FineTuneType::Full => Ok(AdapterKind::Lora),
        FineTuneType::Dora => {
            let expected = format!("lora, or `keys` without {}", spec.path);
            Err(config.invalid("fine_tune_type", expected, "dora"))
        }
    }
}

fn missing(name: &str) -> Error {
    models::Error::Adapter { reason: format!("it has no tensor `{name}`") }.into()
}
