use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use mlx_rs::{Array, Dtype, ops, transforms};
use safetensors::tensor::Dtype as FileDtype;
use serde_json::Value;

use crate::checkpoint::writer::{Planned, SafetensorsWriter, bytes_of};
use crate::checkpoint::{self, Checkpoint};
use crate::arch::config_file::parse;
use crate::nn::linear::{Weight, WeightResidency};
use crate::nn::lora::Lora;
use crate::{Adapter, Error, Model, Result};

/// How the matrices of a fused model are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FusedWeights {
    /// As they were: a quantized matrix with an update is quantized again, which costs some of the
    /// update (see [`LogitError`]).
    AsBefore,
    /// As plain numbers of the type that the scales had: nothing is lost but the rounding to it.
    Dense,
}

/// Writes the model in the folder `model` with `adapter` added to its weights into the folder
/// `out`: a model of its own, beside which no adapter is needed.
///
/// Updates are added in f32, matrix by matrix, so that a model larger than the memory can be
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
    let (config, mut checkpoint) = checkpoint::open(model)?;
    checkpoint.check(&config.expected())?;
    fs::create_dir(out).map_err(|source| Error::Create { path: out.to_path_buf(), source })?;

    let fusion = Fusion { model: &opened, adapter: &adapter, checkpoint: &checkpoint, weights };
    let modules = fusion.modules();
    let others: Vec<&str> = fusion.others().collect();
    let plain = others.iter().filter_map(|name| fusion.plain(name));
    let planned = modules.iter().flat_map(|module| fusion.planned(module)).chain(plain);
    let planned: Vec<Planned> = planned.collect();
    let mut file = SafetensorsWriter::create(&out.join("model.safetensors"), &planned)?;
    for module in &modules {
        for array in fusion.arrays(module)? {
            file.write(&bytes_of(&array)?)?;
        }
    }
    for name in others {
        file.write(&bytes_of(&checkpoint.read(name)?)?)?;
    }
    file.commit()?;
    copy_companions(model, out)?;
    write_config(model, out, weights)
}

/// What a fusion reads from.
struct Fusion<'a> {
    model: &'a Model,
    adapter: &'a Adapter,
    checkpoint: &'a Checkpoint,
    weights: FusedWeights,
}

impl Fusion<'_> {
    /// Everything that has a `.weight`, in the order of names.
    fn modules(&self) -> BTreeSet<String> {
        let names = self.checkpoint.names();
        names.filter_map(|name| name.strip_suffix(".weight").map(str::to_owned)).collect()
    }

    /// Everything else: what belongs to no module.
    fn others(&self) -> impl Iterator<Item = &str> {
        const PARTS: [&str; 3] = [".weight", ".scales", ".biases"];
        self.checkpoint.names().filter(|name| !PARTS.iter().any(|part| name.ends_with(part)))
    }

    /// A tensor that stays as it is.
    fn plain(&self, name: &str) -> Option<Planned> {
        let (dtype, shape) = self.checkpoint.form(name)?;
        Some(Planned { name: name.to_owned(), dtype, shape })
    }

    /// The tensors that a module will have, as [`arrays`](Self::arrays) gives them.
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
            // Read as one matrix; other programs know them only as a stack.
            for tensor in &mut planned {
                if let &[rows, columns] = tensor.shape.as_slice() {
                    tensor.shape = vec![experts, rows / experts, columns];
                }
            }
        }
        planned
    }

    /// How many experts are stacked in a module.
    fn experts(&self, module: &str) -> Option<usize> {
        self.model.layers().iter().enumerate().find_map(|(index, layer)| {
            let prefix = format!("{}.", self.model.config().layer_prefix(index));
            let path = module.strip_prefix(&prefix)?;
            layer.linears().into_iter().find(|spec| spec.path == path)?.experts
        })
    }

    fn arrays(&self, module: &str) -> Result<Vec<Array>> {
        let weight = self.checkpoint.read_module(module)?;
        let update = self.update(module)?;
        let arrays = match (weight, update, self.weights) {
            (Weight::Quantized { packed, scales, biases, .. }, None, FusedWeights::AsBefore) => {
                vec![packed, scales, biases]
            }
            (Weight::Quantized { packed, scales, biases, group_size, bits }, update, weights) => {
                let dtype = scales.dtype();
                let weight = Weight::Quantized { packed, scales, biases, group_size, bits };
                let weight = merged(weight.dense(Dtype::Float32)?, update)?;
                match weights {
                    FusedWeights::Dense => vec![weight.as_dtype(dtype)?],
                    FusedWeights::AsBefore => {
                        let (packed, scales, biases) = ops::quantize(&weight, group_size, bits)?;
                        vec![packed, scales.as_dtype(dtype)?, biases.as_dtype(dtype)?]
                    }
                }
            }
            (Weight::Floats { packed, scales, .. }, None, FusedWeights::AsBefore) => {
                vec![packed, scales]
            }
            (Weight::Floats { .. }, Some(_), FusedWeights::AsBefore) => {
                let reason = format!(
                    "{module} is of small floats, which are not packed again here: fuse into plain \
                     weights"
                );
                return Err(Error::Adapter { reason });
            }
            (floats @ Weight::Floats { .. }, update, FusedWeights::Dense) => {
                vec![merged(floats.dense(Dtype::Float32)?, update)?.as_dtype(Dtype::Bfloat16)?]
            }
            (Weight::Dense(weight), None, _) => vec![weight],
            (Weight::Dense(weight), update, _) => {
                let dtype = weight.dtype();
                vec![merged(weight.as_dtype(Dtype::Float32)?, update)?.as_dtype(dtype)?]
            }
            (Weight::OnDisk { .. }, ..) => Vec::new(),
        };
        transforms::eval(&arrays)?;
        Ok(arrays)
    }

    /// What the adapter adds to a module's matrix.
    fn update(&self, module: &str) -> Result<Option<Lora>> {
        let of_layer = self.adapter.layers().iter().enumerate().find_map(|(index, layer)| {
            let prefix = format!("{}.", self.model.config().layer_prefix(index));
            layer.get(module.strip_prefix(&prefix)?)
        });
        let [embedding, _] = self.model.config().end_names();
        match of_layer.or_else(|| self.adapter.ends().get(module)) {
            // Its rows are those of inputs, all others' those of outputs.
            Some(update) if module == embedding => update.transposed().map(Some),
            update => Ok(update.cloned()),
        }
    }
}

fn merged(weight: Array, update: Option<Lora>) -> Result<Array> {
    update.map_or_else(|| Ok(weight.clone()), |update| update.merged(&weight))
}

/// Copies the tokenizer, the template and whatever else lies beside the weights.
fn copy_companions(model: &Path, out: &Path) -> Result<()> {
    let read = |path: &Path| {
        let path = path.to_path_buf();
        move |source| Error::Read { path, source }
    };
    for entry in fs::read_dir(model).map_err(read(model))? {
        let path = entry.map_err(read(model))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let weights = name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json");
        if path.is_file() && !weights && name != "config.json" {
            durable::write(out.join(name), fs::read(&path).map_err(read(&path))?)?;
        }
    }
    Ok(())
}

fn write_config(model: &Path, out: &Path, weights: FusedWeights) -> Result<()> {
    let path = model.join("config.json");
    let text = fs::read(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
    let mut config: Value = parse(&path, &text)?;
    if let (FusedWeights::Dense, Some(keys)) = (weights, config.as_object_mut()) {
        keys.retain(|key, _| key != "quantization" && key != "quantization_config");
    }
    Ok(durable::write_json(out.join("config.json"), &config)?)
}

/// How far the logits of a fused model are from those of the model with the adapter beside it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogitError {
    /// The largest difference.
    pub largest: f64,
    /// Root mean square of the differences, relative to that of the adapter's own effect on the
    /// logits: 1 means that what fusing lost is as large as what training gained.
    pub share_of_effect: f64,
}

impl LogitError {
    /// Of `fused`, on one sequence.
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
