//! Which linear layers of a model an adapter updates, and the names and shapes of its tensors.

use mlx_rs::{Array, random};
use models::layers::{AdapterKind, Dropout, LayerAdapter, LinearSpec, Lora};
use models::{Adapter, Model};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::config::{FineTuneType, LoraParameters, TrainConfig};
use crate::{Error, Result, Tensors};

/// The adapted linear layers of a model.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// One list per decoder layer; empty for layers without an adapter.
    layers: Vec<Vec<AdaptedLinear>>,
    /// The input embedding and the output matrix, as far as they are adapted.
    embeddings: Vec<AdaptedLinear>,
    depth: GradientDepth,
    output_rank: usize,
    scale: f32,
    dropout: f32,
}

/// A part of the model whose updates are applied together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Block {
    /// The decoder layer of this index.
    Layer(usize),
    /// The input embedding and the output matrix.
    Embeddings,
}

/// How far down the backward pass goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum GradientDepth {
    /// To the input embedding.
    Embedding,
    /// To the layer of this index; the number of layers if only the output matrix is adapted.
    Layer(usize),
}

/// A seed for dropout masks, derived from a run's seed by mixing in what the mask is for: the update,
/// the first row of the micro-batch, the layer and the linear layer. Recomputation in the backward
/// pass, on any thread, therefore draws the same mask.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DropoutSeed(u64);

impl DropoutSeed {
    /// The seed of one update.
    pub(crate) fn new(run_seed: u64, step: u64) -> Self {
        Self(0).mix(run_seed).mix(step)
    }

    /// Mixes in a value by the finalizer of SplitMix64.
    pub(crate) fn mix(self, value: u64) -> Self {
        let mut bits = self.0.wrapping_add(value).wrapping_add(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self(bits ^ (bits >> 31))
    }
}

/// One adapted linear layer.
#[derive(Clone, Debug)]
struct AdaptedLinear {
    spec: LinearSpec,
    kind: AdapterKind,
    rank: usize,
    /// The names of its trained tensors in mlx-lm's adapter files.
    names: Vec<String>,
}

impl AdaptedLinear {
    /// `prefix` is the name of the decoder layer; `None` if the path of `spec` is complete.
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
    /// The layout that `config` asks for.
    ///
    /// # Errors
    /// [`Error::Setting`] if `config` names linear layers that `model` does not have or DoRA cannot
    /// adapt.
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
                    layers[index].push(AdaptedLinear::new(config, spec, kind, Some(&prefix)));
                }
            }
        }
        let mut embeddings = Vec::new();
        let specs = model.embedding_linears();
        for spec in &specs {
            // Absent `keys` mean all linear layers of the decoder layers, but no embeddings.
            if keys.iter().flatten().any(|key| key == spec.path) {
                let kind = embedding_kind(config, spec)?;
                embeddings.push(AdaptedLinear::new(config, *spec, kind, None));
            }
        }
        let specs: Vec<&str> = specs.iter().map(|spec| spec.path).collect();
        let ranks = &config.nightshift.rank_pattern;
        let wanted = keys.iter().flatten().map(|key| ("lora_parameters.keys", key));
        let wanted = wanted.chain(ranks.keys().map(|key| ("nightshift.rank_pattern", key)));
        for (setting, key) in wanted {
            if !known.iter().chain(&specs).any(|path| path == key) {
                let (layers, others) = (known.join(", "), specs.join(" or "));
                let expected =
                    format!("linear layers of the adapted layers ({layers}) or {others}");
                return Err(config.invalid(setting, expected, key));
            }
        }
        // `specs` are the embedding and the output matrix, or one matrix that is both.
        let adapted =
            |path: Option<&&str>| embeddings.iter().find(|linear| Some(&linear.spec.path) == path);
        let depth = match adapted(specs.first()) {
            Some(_) => GradientDepth::Embedding,
            None => {
                let lowest = layers.iter().position(|linears| !linears.is_empty());
                GradientDepth::Layer(lowest.unwrap_or(layers.len()))
            }
        };
        let output_rank = adapted(specs.last()).map_or(0, |linear| linear.rank);
        Ok(Self {
            layers,
            embeddings,
            depth,
            output_rank,
            scale: config.scale() as f32,
            dropout: *dropout as f32,
        })
    }

    /// The layout of the same model without an adapter.
    pub(crate) fn without_adapter(&self) -> Self {
        let layers = vec![Vec::new(); self.layers.len()];
        let depth = GradientDepth::Layer(layers.len());
        Self { layers, embeddings: Vec::new(), depth, output_rank: 0, ..self.clone() }
    }

    pub(crate) fn depth(&self) -> GradientDepth {
        self.depth
    }

    /// The lowest layer of the backward pass; the number of layers if there is none.
    pub(crate) fn lowest_layer(&self) -> usize {
        match self.depth {
            GradientDepth::Embedding => 0,
            GradientDepth::Layer(layer) => layer,
        }
    }

    /// The rank of the output matrix's update; 0 without one.
    pub(crate) fn output_rank(&self) -> usize {
        self.output_rank
    }

    /// The number of decoder layers with an adapter.
    pub(crate) fn adapted_layers(&self) -> usize {
        self.layers.iter().filter(|linears| !linears.is_empty()).count()
    }

    /// Whether magnitudes of weight rows are trained too (DoRA).
    pub(crate) fn has_magnitudes(&self) -> bool {
        self.layers.iter().flatten().any(|linear| linear.kind == AdapterKind::Dora)
    }

    fn linears(&self, block: Block) -> &[AdaptedLinear] {
        match block {
            Block::Layer(layer) => self.layers.get(layer).map_or(&[], Vec::as_slice),
            Block::Embeddings => &self.embeddings,
        }
    }

    fn blocks(&self) -> impl Iterator<Item = Block> {
        (0..self.layers.len()).map(Block::Layer).chain([Block::Embeddings])
    }

    /// The names of a block's factors, in the order that [`Self::updates`] expects.
    pub(crate) fn names(&self, block: Block) -> impl Iterator<Item = &str> {
        self.linears(block).iter().flat_map(|linear| &linear.names).map(String::as_str)
    }

    /// Name and shape of every factor.
    pub(crate) fn shapes(&self) -> impl Iterator<Item = (&str, Vec<i32>)> {
        self.blocks().flat_map(|block| self.shapes_at(block))
    }

    /// Name and shape of every factor of a block.
    pub(crate) fn shapes_at(&self, block: Block) -> impl Iterator<Item = (&str, Vec<i32>)> {
        let linears = self.linears(block).iter();
        linears.flat_map(|linear| linear.names.iter().map(String::as_str).zip(linear.shapes()))
    }

    /// An untrained adapter, initialized as by mlx-lm: `A` uniform in `±1/sqrt(in_features)`, `B` 0,
    /// magnitudes the norms of the model's own rows. It does not change the model's output.
    pub(crate) fn untrained(&self, seed: u64, model: &Model) -> Result<Tensors> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut tensors = Tensors::new();
        for block in self.blocks() {
            for linear in self.linears(block) {
                let bound = (linear.spec.in_features as f32).sqrt().recip();
                let [a_shape, b_shape] = linear.spec.factor_shapes(linear.rank);
                let count = a_shape.iter().product::<i32>();
                let a = (0..count).map(|_| rng.random_range(-bound..=bound));
                let a = Array::from_iter::<_, f32>(a, &a_shape);
                let mut start = vec![a, Array::zeros::<f32>(&b_shape)?];
                if let (Block::Layer(layer), AdapterKind::Dora) = (block, linear.kind) {
                    start.push(model.row_norms(layer, linear.spec.path)?);
                }
                mlx_rs::transforms::eval(&start)?;
                tensors.extend(linear.names.iter().cloned().zip(start));
            }
        }
        Ok(tensors)
    }

    /// The factors of a block.
    pub(crate) fn factors(&self, block: Block, tensors: &Tensors) -> Result<Vec<Array>> {
        self.names(block)
            .map(|name| tensors.get(name).cloned().ok_or_else(|| missing(name)))
            .collect()
    }

    /// The updates of a block with these factors, in training with dropout.
    pub(crate) fn updates(
        &self,
        block: Block,
        factors: &[Array],
        dropout: Option<DropoutSeed>,
    ) -> Result<LayerAdapter> {
        let seed = dropout.filter(|_| self.dropout > 0.0).map(|seed| match block {
            Block::Layer(layer) => seed.mix(layer as u64),
            Block::Embeddings => seed.mix(u64::MAX),
        });
        let mut factors = factors.iter().cloned();
        let loras = self.linears(block).iter().enumerate().map(|(index, linear)| {
            let dropout = match seed {
                Some(seed) => {
                    let DropoutSeed(bits) = seed.mix(index as u64);
                    Some(Dropout { rate: self.dropout, key: random::key(bits)? })
                }
                None => None,
            };
            let own: Vec<Array> = factors.by_ref().take(linear.names.len()).collect();
            let (a, b, magnitude) = match own.as_slice() {
                [a, b] => (a.clone(), b.clone(), None),
                [a, b, magnitude] => (a.clone(), b.clone(), Some(magnitude.clone())),
                _ => return Err(missing(linear.spec.path)),
            };
            Ok((linear.spec.path, Lora { a, b, scale: self.scale, magnitude, dropout }))
        });
        loras.collect()
    }

    /// The adapter of the whole model.
    pub(crate) fn adapter(&self, tensors: &Tensors) -> Result<Adapter> {
        let updates = |block| self.updates(block, &self.factors(block, tensors)?, None);
        let layers =
            (0..self.layers.len()).map(Block::Layer).map(updates).collect::<Result<_>>()?;
        Ok(Adapter::new(layers).with_embeddings(updates(Block::Embeddings)?))
    }
}

/// The kind of update of a linear layer.
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

/// The kind of update of the embedding or the output matrix.
fn embedding_kind(config: &TrainConfig, spec: &LinearSpec) -> Result<AdapterKind> {
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
