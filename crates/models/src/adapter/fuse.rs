use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use mlx_rs::{Array, Dtype, ops, transforms};
use safetensors::tensor::Dtype as FileDtype;
use serde_json::Value;

use crate::arch::registry;
use crate::backend::WeightResidency;
use crate::checkpoint::{
    Checkpoint, MLX_FORMAT, Matrix, Planned, SafetensorsWriter, WeightSource, bytes_of, json,
    model_files,
};
use crate::nn::Lora;
use crate::{Adapter, Error, Model, Result};

/// How the matrices of a fused model are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FusedWeights {
    /// In the form they had: a quantized matrix with an update is quantized again, which loses a part
    /// of the update (see [`LogitError`]).
    AsBefore,
    /// Dequantized, in the type of the scales: only rounding to that type is lost.
    Dense,
}

/// Writes the model in the folder `model`, with `adapter` merged into its weights, into the new folder
/// `out`.
///
/// Updates are merged in f32, matrix by matrix, so that a model larger than the memory can be
/// fused. `config.json` is written last: a folder without it is not finished.
///
/// # Errors
/// A model that is not a folder of safetensors, an `out` that exists, or an adapter that does not
/// fit.
pub fn fuse(model: &Path, adapter: &Path, out: &Path, weights: FusedWeights) -> Result<()> {
    if !model.join("config.json").is_file() {
        return Err(Error::NotAFolder { path: model.to_path_buf() });
    }
    let opened = Model::open_with(model, WeightResidency::Streamed)?;
    let adapter = Adapter::load(adapter, &opened)?;
    let (_, checkpoint) = registry::open(model)?;
    fs::create_dir(out).map_err(|source| Error::Create { path: out.to_path_buf(), source })?;

    let fusion = Fusion { model: &opened, adapter: &adapter, checkpoint: &checkpoint, weights };
    let modules = fusion.modules();
    let others: Vec<&str> = fusion.others().collect();
    let plain = others.iter().filter_map(|name| fusion.plain(name));
    let planned = modules.iter().flat_map(|module| fusion.planned(module)).chain(plain);
    let planned: Vec<Planned> = planned.collect();
    let mut file = SafetensorsWriter::create(&out.join("model.safetensors"), MLX_FORMAT, &planned)?;
    for module in &modules {
        for array in fusion.arrays(module)? {
            file.write(&bytes_of(&array)?)?;
        }
    }
    for name in others {
        file.write(&bytes_of(&checkpoint.tensor(name)?)?)?;
    }
    file.commit()?;
    copy_companions(model, out)?;
    write_config(model, out, weights)
}

/// The inputs of a fusion.
struct Fusion<'a> {
    model: &'a Model,
    adapter: &'a Adapter,
    checkpoint: &'a Checkpoint,
    weights: FusedWeights,
}

impl Fusion<'_> {
    /// The modules with a `.weight`, sorted by name.
    fn modules(&self) -> BTreeSet<String> {
        let names = self.checkpoint.names();
        names.filter_map(|name| name.strip_suffix(".weight").map(str::to_owned)).collect()
    }

    /// All other tensors.
    fn others(&self) -> impl Iterator<Item = &str> {
        const PARTS: [&str; 3] = [".weight", ".scales", ".biases"];
        self.checkpoint.names().filter(|name| !PARTS.iter().any(|part| name.ends_with(part)))
    }

    /// A tensor that is copied.
    fn plain(&self, name: &str) -> Option<Planned> {
        let (dtype, shape) = self.checkpoint.form(name)?;
        Some(Planned { name: name.to_owned(), dtype, shape })
    }

    /// The tensors of a fused module, in the order of [`arrays`](Self::arrays).
    fn planned(&self, module: &str) -> Vec<Planned> {
        let part = |suffix: &str| self.plain(&format!("{module}.{suffix}"));
        let (weight, scales) = (part("weight"), part("scales"));
        let mut planned: Vec<_> =
            match (self.weights, self.checkpoint.matrix_shape(module), &scales) {
                (FusedWeights::Dense, Some(shape), Some(scales)) => {
                    let name = format!("{module}.weight");
                    let dtype = match scales.dtype {
                        FileDtype::U8 => FileDtype::BF16,
                        dtype => dtype,
                    };
                    vec![Planned { name, dtype, shape: shape.to_vec() }]
                }
                _ => [weight, scales, part("biases")].into_iter().flatten().collect(),
            };
        if let Some(experts) = self.experts(module) {
            // Stacks are read as one matrix and written as stacks.
            for tensor in &mut planned {
                if let &[rows, columns] = tensor.shape.as_slice() {
                    tensor.shape = vec![experts, rows / experts, columns];
                }
            }
        }
        planned
    }

    /// The number of experts stacked in a module, if any.
    fn experts(&self, module: &str) -> Option<usize> {
        let (layer, path) = self.place(module)?;
        let linears = self.model.layers().get(layer)?.linears();
        linears.into_iter().find(|spec| spec.path == path)?.experts
    }

    /// The layer of a module and its path below the layer; `None` outside the layers.
    fn place<'m>(&self, module: &'m str) -> Option<(usize, &'m str)> {
        (0..self.model.layers().len()).find_map(|layer| {
            let prefix = self.model.config().layer_prefix(layer);
            Some((layer, module.strip_prefix(&prefix)?.strip_prefix('.')?))
        })
    }

    fn arrays(&self, module: &str) -> Result<Vec<Array>> {
        let weight = self.checkpoint.matrix(module)?;
        let update = self.update(module)?;
        let is_dense = matches!(weight, Matrix::Dense(_));
        if update.is_none() && (is_dense || self.weights == FusedWeights::AsBefore) {
            return Ok(weight.arrays().into_iter().cloned().collect());
        }
        let merged = || -> Result<Array> {
            let dense = weight.dense(self.model.backend(), Dtype::Float32)?;
            update.as_ref().map_or_else(|| Ok(dense.clone()), |update| update.merged(&dense))
        };
        let arrays = match (&weight, self.weights) {
            (Matrix::Dense(array), _) => vec![merged()?.as_dtype(array.dtype())?],
            (Matrix::Quantized { scales, .. }, FusedWeights::Dense) => {
                vec![merged()?.as_dtype(scales.dtype())?]
            }
            (Matrix::Quantized { scales, group_size, bits, .. }, FusedWeights::AsBefore) => {
                let dtype = scales.dtype();
                let (packed, scales, biases) = ops::quantize(&merged()?, *group_size, *bits)?;
                vec![packed, scales.as_dtype(dtype)?, biases.as_dtype(dtype)?]
            }
            (Matrix::Floats { .. }, FusedWeights::Dense) => {
                vec![merged()?.as_dtype(Dtype::Bfloat16)?]
            }
            (Matrix::Floats { .. }, FusedWeights::AsBefore) => {
                let reason = format!(
                    "{module}: expected affine quantization, found small floats, which cannot be \
                     quantized again: fuse into dense weights"
                );
                return Err(Error::Adapter { reason });
            }
        };
        transforms::eval(&arrays)?;
        Ok(arrays)
    }

    /// The adapter's update of a module.
    fn update(&self, module: &str) -> Result<Option<Lora>> {
        let update = match self.place(module) {
            Some((layer, path)) => self.adapter.layers().get(layer).and_then(|all| all.get(path)),
            None => self.adapter.embeddings().get(module),
        };
        let [embedding, _] = self.model.config().embedding_names();
        match update {
            // The rows of an embedding are its inputs, those of other matrices their outputs.
            Some(update) if module == embedding => update.transposed().map(Some),
            update => Ok(update.cloned()),
        }
    }
}

/// Copies all files except weights and configuration: tokenizer, chat template and others.
fn copy_companions(model: &Path, out: &Path) -> Result<()> {
    for path in model_files(model)? {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let weights = name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json");
        if !weights && name != "config.json" {
            durable::write(out.join(name), json::read(&path)?)?;
        }
    }
    Ok(())
}

fn write_config(model: &Path, out: &Path, weights: FusedWeights) -> Result<()> {
    let path = model.join("config.json");
    let mut config: Value = json::parse(&path, &json::read(&path)?)?;
    if let (FusedWeights::Dense, Some(keys)) = (weights, config.as_object_mut()) {
        keys.retain(|key, _| key != "quantization" && key != "quantization_config");
    }
    Ok(durable::write_json(out.join("config.json"), &config)?)
}

/// The difference between the logits of a fused model and those of the model with the adapter applied.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogitError {
    /// The largest absolute difference.
    pub largest: f64,
    /// Root mean square of the differences, relative to that of the adapter's effect on the logits: at
    /// 1, fusing loses as much as training changed.
    pub share_of_effect: f64,
}

impl LogitError {
    /// Measures the error of `fused` on one sequence.
    pub fn measure(
        fused: &Model,
        model: &Model,
        adapter: &Adapter,
        tokens: &[u32],
    ) -> Result<Self> {
        let exact = model.logits(tokens, adapter)?;
        let apart = fused.logits(tokens, &Adapter::none(fused))?.subtract(&exact)?;
        let effect = exact.subtract(model.logits(tokens, &Adapter::none(model))?)?;
        let mean_square = |array: &Array| {
            Ok::<_, Error>(f64::from(array.square()?.mean(None)?.item_exact::<f32>()))
        };
        let largest = f64::from(apart.abs()?.max(None)?.item_exact::<f32>());
        let share = (mean_square(&apart)? / mean_square(&effect)?).sqrt();
        Ok(Self { largest, share_of_effect: share })
    }
}
