//! Adapters added to the weights, and written for other programs.

mod common;
mod rounding;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::{Tiny, tokens, worst};
use mlx_rs::Array;
use models::layers::Lora;
use models::{Adapter, Error, FusedWeights, LogitError, Model, export_gguf, export_peft, fuse};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const RANK: usize = 4;
const SCALE: f32 = 1.5;

/// An adapter on every linear layer; its factors by `LAYER.PATH`.
type Factors = BTreeMap<(usize, String), (Vec<f32>, Vec<f32>)>;

fn adapter(model: &Model, folder: &Path) -> (Adapter, Factors) {
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let mut draw = |n: usize| (0..n).map(|_| rng.random_range(-0.3..0.3)).collect::<Vec<f32>>();
    let mut factors = Factors::new();
    let layers = model.layers().iter().enumerate().map(|(index, layer)| {
        let updates = layer.linears().into_iter().map(|spec| {
            let shapes = spec.factor_shapes(RANK);
            let [a, b] = shapes.each_ref().map(|s| draw(s.iter().product::<i32>() as usize));
            let lora = Lora {
                a: Array::from_slice(&a, &shapes[0]),
                b: Array::from_slice(&b, &shapes[1]),
                scale: SCALE,
                magnitude: None,
                dropout: None,
            };
            factors.insert((index, spec.path.to_owned()), (a, b));
            (spec.path, lora)
        });
        updates.collect()
    });
    let adapter = Adapter::new(layers.collect());
    adapter.save(folder, model, &serde_json::Map::new()).unwrap();
    (adapter, factors)
}

/// A folder for each of the model, the adapter and what comes of them.
fn folders() -> (tempfile::TempDir, [std::path::PathBuf; 3]) {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["model", "adapter", "out"].map(|name| folder.path().join(name));
    paths[..2].iter().for_each(|path| fs::create_dir(path).unwrap());
    (folder, paths)
}

fn shapes(folder: &Path) -> BTreeMap<String, Vec<usize>> {
    let file = fs::read(folder.join("model.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
    tensors.iter().map(|(name, view)| (name.to_owned(), view.shape().to_vec())).collect()
}

/// Share of the adapter's effect on the logits that 16 bits may lose: the update is rounded with the weight in
/// the fused model, by itself beside it. A norm off by one, or a lost tensor, would cost all.
const IN_16_BITS: f64 = 0.3;

/// Scalars of layers, convolutions, norms that a file holds less one: all of it comes along.
#[test]
fn every_family_is_fused_whole() {
    for name in [
        "gemma4/dense",
        "gemma4/shared",
        "gemma4/experts",
        "qwen35/untied-hf",
        "qwen35/tied",
        "qwen35/unequal",
        "gemma3/text",
        "gemma3/larger",
        "llamas/qwen2",
        "llamas/qwen3",
    ] {
        let model_path = Path::new("../../fixtures/golden").join(name);
        let (_folder, [_, adapter_path, out]) = folders();
        let model = Model::open(&model_path).unwrap();
        let (adapter, _) = adapter(&model, &adapter_path);
        fuse(&model_path, &adapter_path, &out, FusedWeights::AsBefore).unwrap();
        let fused = Model::open(&out).unwrap();
        let error = LogitError::measure(&fused, &model, &adapter, &tokens(4, 40, 48)).unwrap();
        // Every tensor has the shape it had, stacks of experts too.
        if !name.ends_with("hf") {
            assert_eq!(shapes(&out), shapes(&model_path), "{name}");
        }
        // The one in bf16 rounds each weight to three digits; a norm off by one would cost all.
        let most = if name.ends_with("hf") { 0.2 } else { 1e-4 };
        let most = if rounding::in_f32(&model) { most } else { IN_16_BITS };
        assert!(error.share_of_effect < most, "{name}: {error:?}");
    }
}

#[test]
fn a_dense_model_fused_is_the_model_with_its_adapter() {
    let (_folder, [model_path, adapter_path, out]) = folders();
    let mut tiny = Tiny::untied(3);
    tiny.write(&model_path);
    fs::write(model_path.join("tokenizer.json"), "{}").unwrap();
    let model = Model::open(&model_path).unwrap();
    let (_, factors) = adapter(&model, &adapter_path);
    fuse(&model_path, &adapter_path, &out, FusedWeights::AsBefore).unwrap();
    for ((layer, path), (a, b)) in &factors {
        tiny.merge(&format!("model.layers.{layer}.{path}"), a, b, RANK, SCALE);
    }
    let fused = Model::open(&out).unwrap();
    let tokens = tokens(4, 9, tiny.vocab);
    let logits = fused.logits(&tokens, &Adapter::none(&fused)).unwrap();
    let worst = worst(&logits, &tiny.logits(&tokens));
    assert!(worst < rounding::tolerance(&model, 2e-6), "{worst:e}");
    assert_eq!(fs::read(out.join("tokenizer.json")).unwrap(), b"{}");
}

#[test]
fn a_quantized_model_loses_no_more_than_its_rounding() {
    let (folder, [model_path, adapter_path, requantized]) = folders();
    let mut tiny = Tiny { hidden: 64, head_dim: 32, ..Tiny::new(4) }.redrawn(4);
    tiny.write_quantized(&model_path, 32);
    let model = Model::open(&model_path).unwrap();
    let (adapter, _) = adapter(&model, &adapter_path);
    let dense = folder.path().join("dense");
    fuse(&model_path, &adapter_path, &requantized, FusedWeights::AsBefore).unwrap();
    fuse(&model_path, &adapter_path, &dense, FusedWeights::Dense).unwrap();

    let tokens = tokens(5, 11, tiny.vocab);
    let error = |path: &Path| {
        LogitError::measure(&Model::open(path).unwrap(), &model, &adapter, &tokens).unwrap()
    };
    // The scales of this checkpoint are f32, so the dense one is exact but for rounding.
    let most = if rounding::in_f32(&model) { 1e-4 } else { IN_16_BITS };
    assert!(error(&dense).share_of_effect < most, "{:?}", error(&dense));
    // Half a step of 4 bits in every weight, at most; this adapter moves weights by many steps.
    let share = error(&requantized).share_of_effect;
    assert!((0.01..0.5).contains(&share), "{share}");

    let config = |path: &Path| fs::read_to_string(path.join("config.json")).unwrap();
    assert!(config(&requantized).contains("quantization"));
    assert!(!config(&dense).contains("quantization"));
    let bytes = |path: &Path| fs::metadata(path.join("model.safetensors")).unwrap().len();
    assert!(
        bytes(&requantized) < bytes(&model_path) + 1000 && bytes(&dense) > 4 * bytes(&model_path)
    );
}

/// Their scales are bytes.
#[test]
fn small_floats_without_an_update_are_copied() {
    let model_path = Path::new("../../fixtures/golden/gemma4/dense-floats");
    let (_folder, [_, adapter_path, out]) = folders();
    let model = Model::open(model_path).unwrap();
    let embedding = model.embedding_linears()[0];
    let [a, b] = embedding
        .factor_shapes(RANK)
        .map(|shape| Array::ones::<f32>(&shape).unwrap().multiply(Array::from_f32(0.05)).unwrap());
    let lora = Lora { a, b, scale: SCALE, magnitude: None, dropout: None };
    let adapter =
        Adapter::none(&model).with_embeddings([(embedding.path, lora)].into_iter().collect());
    adapter.save(&adapter_path, &model, &serde_json::Map::new()).unwrap();
    fuse(model_path, &adapter_path, &out, FusedWeights::AsBefore).unwrap();
    let fused = Model::open(&out).unwrap();
    assert_eq!(shapes(&out), shapes(model_path));
    let error = LogitError::measure(&fused, &model, &adapter, &tokens(4, 40, 48)).unwrap();
    // Only the embedding changes, which is f32.
    let most = if rounding::in_f32(&model) { 1e-4 } else { IN_16_BITS };
    assert!(error.share_of_effect < most, "{error:?}");
}

#[test]
fn what_cannot_be_fused_or_exported_is_refused() {
    let (_folder, [model_path, adapter_path, out]) = folders();
    let tiny = Tiny::new(3);
    tiny.write(&model_path);
    let model = Model::open(&model_path).unwrap();
    adapter(&model, &adapter_path);
    let fuse = |model: &Path, out: &Path| fuse(model, &adapter_path, out, FusedWeights::AsBefore);
    assert!(matches!(fuse(&model_path.join("x.gguf"), &out), Err(Error::NotAFolder { .. })));
    let error = fuse(&model_path, &model_path).unwrap_err().to_string();
    assert!(error.contains("exists"), "{error}");

    let experts = Model::open("../../fixtures/golden/gemma4/experts").unwrap();
    let (adapter, _) = self::adapter(&experts, &adapter_path);
    let error = export_peft(&adapter, &experts, &out, "base").unwrap_err().to_string();
    assert!(error.contains("experts.switch_glu.") && !out.exists(), "{error}");

    let experts = Model::open("../../fixtures/golden/llamas/qwen3moe").unwrap();
    let (adapter, _) = self::adapter(&experts, &adapter_path);
    let error = export_gguf(&adapter, &experts, &out).unwrap_err().to_string();
    assert!(error.contains("mlp.switch_mlp.") && !out.exists(), "{error}");
}

/// In each layout of files; routers are fused too, so that the choice of experts changes.
#[test]
fn experts_fused_are_the_experts_with_their_adapter() {
    let names = ["qwen35/experts", "qwen35/experts-hf", "llamas/qwen3moe", "llamas/qwen3moe-hf"];
    for name in names {
        let model_path = Path::new("../../fixtures/golden").join(name);
        let (_folder, [_, adapter_path, out]) = folders();
        let model = Model::open(&model_path).unwrap();
        let (adapter, _) = adapter(&model, &adapter_path);
        fuse(&model_path, &adapter_path, &out, FusedWeights::Dense).unwrap();
        let fused = Model::open(&out).unwrap();
        let error = LogitError::measure(&fused, &model, &adapter, &tokens(4, 40, 48)).unwrap();
        // Weights in 16 bits are rounded again.
        let exact = rounding::in_f32(&model) && !name.ends_with("35/experts-hf");
        let most = if exact { 1e-4 } else { IN_16_BITS };
        assert!(error.share_of_effect < most, "{name}: {error:?}");
    }
}

/// Each update has the name and the sizes of a tensor of the model's GGUF file.
#[test]
fn gguf_names_the_tensors_of_every_family() {
    for name in ["gemma3/text", "llamas/qwen2", "llamas/qwen3"] {
        let path = Path::new("../../fixtures/golden").join(name);
        let (folder, [_, adapter_path, _]) = folders();
        let model = Model::open(&path).unwrap();
        let (adapter, factors) = adapter(&model, &adapter_path);
        let exported = folder.path().join("adapter.gguf");
        export_gguf(&adapter, &model, &exported).unwrap();
        let (exported, file) = [exported, path.with_extension("gguf")]
            .map(|path| gguf::Gguf::open(path).unwrap())
            .into();
        let architecture =
            |file: &gguf::Gguf| file.metadata().str("general.architecture").unwrap().to_owned();
        assert_eq!(architecture(&exported), architecture(&file));
        assert_eq!(exported.tensors().len(), 2 * factors.len());
        for tensor in exported.tensors() {
            let (module, part) = tensor.name.rsplit_once('.').unwrap();
            let weight = file.tensor(module).unwrap_or_else(|| panic!("{name}: {module}"));
            match part {
                "lora_a" => {
                    assert_eq!(tensor.dims, [weight.dims[0], RANK as u64], "{name} {module}")
                }
                _ => assert_eq!(tensor.dims, [RANK as u64, weight.dims[1]], "{name} {module}"),
            }
        }
    }
}

/// Reads a PEFT adapter by PEFT's own formula: `W + alpha / r * B A`.
#[test]
fn peft_reads_the_same_update() {
    let (_folder, [model_path, adapter_path, out]) = folders();
    Tiny::new(3).write(&model_path);
    let model = Model::open(&model_path).unwrap();
    let (adapter, factors) = adapter(&model, &adapter_path);
    export_peft(&adapter, &model, &out, "base/model").unwrap();

    let config = fs::read_to_string(out.join("adapter_config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    let strength = config["lora_alpha"].as_f64().unwrap() / config["r"].as_f64().unwrap();
    assert_eq!(strength, f64::from(SCALE));
    assert_eq!(config["target_modules"].as_array().unwrap().len(), 7);
    assert_eq!(config["layers_to_transform"], serde_json::json!([0, 1, 2]));

    let bytes = fs::read(out.join("adapter_model.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.len(), 2 * factors.len());
    for ((layer, path), (a, b)) in &factors {
        let tensor = |part: &str| {
            let name = format!("base_model.model.model.layers.{layer}.{path}.lora_{part}.weight");
            let view = file.tensor(&name).unwrap();
            let values = view.data().chunks(4).map(|c| f32::from_le_bytes(c.try_into().unwrap()));
            (view.shape().to_vec(), values.collect::<Vec<_>>())
        };
        let ((shape_a, peft_a), (shape_b, peft_b)) = (tensor("A"), tensor("B"));
        let (inputs, outputs) = (shape_a[1], shape_b[0]);
        assert_eq!((shape_a[0], shape_b[1]), (RANK, RANK));
        for (i, o) in [(0, 0), (inputs - 1, 0), (3, outputs - 1)] {
            let ours: f32 = (0..RANK).map(|r| a[i * RANK + r] * b[r * outputs + o]).sum();
            let peft: f32 = (0..RANK).map(|r| peft_b[o * RANK + r] * peft_a[r * inputs + i]).sum();
            assert!((ours - peft).abs() < 1e-6, "{layer} {path}");
        }
    }
}

/// Against llama.cpp's formula, `W + alpha / r * B A`, rows of queries and keys permuted as its
/// converter permutes them; the header is read by the `gguf` crate.
#[test]
fn gguf_has_the_update_in_its_own_order_of_rows() {
    let (folder, [model_path, adapter_path, _]) = folders();
    let tiny = Tiny::new(3);
    tiny.write(&model_path);
    let model = Model::open(&model_path).unwrap();
    let (adapter, factors) = adapter(&model, &adapter_path);
    let path = folder.path().join("adapter.gguf");
    export_gguf(&adapter, &model, &path).unwrap();

    let file = gguf::Gguf::open(&path).unwrap();
    let metadata = file.metadata();
    assert_eq!(metadata.str("general.type").unwrap(), "adapter");
    assert_eq!(metadata.str("general.architecture").unwrap(), "llama");
    assert_eq!(metadata.str("adapter.type").unwrap(), "lora");
    assert_eq!(metadata.f32("adapter.lora.alpha").unwrap(), SCALE * RANK as f32);
    assert_eq!(file.tensors().len(), 2 * factors.len());

    let bytes = fs::read(&path).unwrap();
    let tensor = |name: &str| {
        let tensor = file.tensor(name).unwrap();
        let data = &bytes[tensor.range.start as usize..tensor.range.end as usize];
        let values = data.chunks(4).map(|c| f32::from_le_bytes(c.try_into().unwrap()));
        (tensor.dims.clone(), values.collect::<Vec<_>>())
    };
    for (module, ours, heads) in [
        ("attn_q", "self_attn.q_proj", tiny.heads),
        ("attn_k", "self_attn.k_proj", tiny.kv_heads),
        ("ffn_down", "mlp.down_proj", 0),
    ] {
        let (a, b) = &factors[&(1, ours.to_owned())];
        let (dims_a, gguf_a) = tensor(&format!("blk.1.{module}.weight.lora_a"));
        let (dims_b, gguf_b) = tensor(&format!("blk.1.{module}.weight.lora_b"));
        let (inputs, outputs) = (dims_a[0] as usize, dims_b[1] as usize);
        assert_eq!((dims_a[1], dims_b[0]), (RANK as u64, RANK as u64));
        for row in 0..outputs {
            // Row `row` of the GGUF file is this row of the original.
            let original = match heads {
                0 => row,
                _ => {
                    let (d, half) = (tiny.head_dim, tiny.head_dim / 2);
                    let (head, within) = (row / d, row % d);
                    head * d + (within % 2) * half + within / 2
                }
            };
            let i = row % inputs;
            let ours: f32 = (0..RANK).map(|r| a[i * RANK + r] * b[r * outputs + original]).sum();
            let theirs: f32 =
                (0..RANK).map(|r| gguf_b[row * RANK + r] * gguf_a[r * inputs + i]).sum();
            assert!((ours - theirs).abs() < 1e-6, "{module} {row}");
        }
    }
}
