//! Gemma 4 checkpoints in every layout, and everything that is refused.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use mlx_rs::Array;
use mlx_rs::ops::concatenate;
use models::{Adapter, Error, Model};
use serde_json::{Value, json};

type Tensors = BTreeMap<String, Array>;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden/gemma4").join(name)
}

fn config(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(fixture(name).join("config.json")).unwrap()).unwrap()
}

fn tensors(name: &str) -> Tensors {
    Array::load_safetensors(fixture(name).join("model.safetensors")).unwrap().into_iter().collect()
}

fn write(folder: &Path, config: &Value, shards: &[(&str, &Tensors)]) {
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    for (file, tensors) in shards {
        Array::save_safetensors(tensors.iter(), None, folder.join(file)).unwrap();
    }
}

fn index(folder: &Path, shards: &[(&str, &Tensors)]) {
    let map: HashMap<&str, &str> =
        shards.iter().flat_map(|(file, t)| t.keys().map(|name| (name.as_str(), *file))).collect();
    let index = json!({ "metadata": {}, "weight_map": map });
    std::fs::write(folder.join("model.safetensors.index.json"), index.to_string()).unwrap();
}

fn logits(path: &Path) -> Vec<f32> {
    let model = Model::open(path).unwrap();
    let tokens: Vec<u32> = (0..29).map(|i| i * i % 48).collect();
    model.logits(&tokens, &Adapter::none(&model)).unwrap().as_slice::<f32>().to_vec()
}

/// The names that Hugging Face gives the tensors, with what else lies in its files.
fn as_hugging_face(tensors: Tensors) -> Tensors {
    let noise = |shape: &[i32]| mlx_rs::ops::ones::<f32>(shape).unwrap();
    let mut renamed = Tensors::new();
    for (name, array) in &tensors {
        let name = name.replace("language_model.model.", "model.language_model.");
        if let Some(layer) = name.strip_suffix(".experts.switch_glu.gate_proj.weight") {
            let up = name.replace("gate_proj", "up_proj");
            let up = up.replace("model.language_model.", "language_model.model.");
            let fused = concatenate(&[array, &tensors[&up]], 1).unwrap();
            renamed.insert(format!("{layer}.experts.gate_up_proj"), fused);
        } else if let Some(layer) = name.strip_suffix(".experts.switch_glu.down_proj.weight") {
            renamed.insert(format!("{layer}.experts.down_proj"), array.clone());
        } else if !name.contains("switch_glu.up_proj") {
            renamed.insert(name, array.clone());
        }
    }
    for (name, shape) in [
        ("model.vision_tower.encoder.layers.0.mlp.up_proj.weight", &[3, 4][..]),
        ("model.embed_vision.embedding_projection.weight", &[4, 3]),
        ("model.audio_tower.norm.weight", &[3]),
        ("model.language_model.layers.0.self_attn.rotary_emb.inv_freq", &[4]),
        // What a layer that shares an earlier one's keys has in such a file all the same.
        ("model.language_model.layers.3.self_attn.k_proj.weight", &[16, 32]),
        ("model.language_model.layers.3.self_attn.v_proj.weight", &[16, 32]),
        ("model.language_model.layers.3.self_attn.k_norm.weight", &[16]),
    ] {
        let of_shared = name.contains("layers.3.");
        if !of_shared || tensors.keys().any(|name| name.contains("layers.3.")) {
            renamed.insert(name.to_owned(), noise(shape));
        }
    }
    renamed
}

#[test]
fn hugging_faces_layout_in_shards_is_the_same_model() {
    for name in ["dense", "shared", "experts"] {
        let folder = tempfile::tempdir().unwrap();
        let mut first = as_hugging_face(tensors(name));
        let half = first.keys().nth(first.len() / 2).unwrap().clone();
        let second = first.split_off(&half);
        let shards = [("model-1-of-2.safetensors", &first), ("model-2-of-2.safetensors", &second)];
        write(folder.path(), &config(name), &shards);
        index(folder.path(), &shards);
        // Not in the index, hence not looked at.
        std::fs::write(folder.path().join("consolidated.safetensors"), b"nonsense").unwrap();
        assert_eq!(logits(folder.path()), logits(&fixture(name)), "{name}");
    }
}

#[test]
fn a_text_model_alone_is_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    let outer = config("dense");
    let mut text = outer["text_config"].clone();
    text["model_type"] = "gemma4_text".into();
    text["vocab_size"] = outer["vocab_size"].clone();
    let strip = |name: String| name.replace("language_model.", "");
    let tensors: Tensors =
        tensors("dense").into_iter().map(|(name, array)| (strip(name), array)).collect();
    write(folder.path(), &text, &[("model.safetensors", &tensors)]);
    assert_eq!(logits(folder.path()), logits(&fixture("dense")));
    let model = Model::open(folder.path()).unwrap();
    assert_eq!(model.config().layer_prefix(2), "model.layers.2");
}

#[test]
fn a_unified_model_is_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config("dense");
    config["model_type"] = "gemma4_unified".into();
    let mut tensors = tensors("dense");
    let patch = mlx_rs::ops::ones::<f32>(&[2, 2]).unwrap();
    tensors.insert("vision_embedder.patch.weight".into(), patch);
    write(folder.path(), &config, &[("model.safetensors", &tensors)]);
    assert_eq!(logits(folder.path()), logits(&fixture("dense")));
    let model = Model::open(folder.path()).unwrap();
    assert_eq!(model.config().layer_prefix(2), "language_model.model.layers.2");
}

/// A text key, a value that it must not have, and a word of the error.
#[test]
fn configurations_that_make_no_sense_are_refused() {
    for (name, key, value, word) in [
        ("dense", "num_kv_shared_layers", json!(3), "fewer than the 3 layers"),
        ("dense", "num_kv_shared_layers", json!(2), "a layer of each kind"),
        ("dense", "layer_types", json!(["full_attention"]), "one per layer"),
        ("dense", "layer_types", json!(["a", "b", "c"]), "sliding_attention or full_attention"),
        ("dense", "sliding_window", json!(0), "sliding_window"),
        ("dense", "sliding_window_pattern", json!(0), "sliding_window_pattern"),
        ("dense", "num_global_key_value_heads", json!(3), "divisor of the 4 query heads"),
        ("dense", "global_head_dim", json!(15), "even"),
        ("dense", "hidden_size", json!(u64::MAX), "hidden_size"),
        ("dense", "hidden_activation", json!("silu"), "gelu_pytorch_tanh"),
        ("dense", "rope_parameters", json!({"full_attention": {"rope_type": "yarn"}}), "yarn"),
        (
            "dense",
            "rope_parameters",
            json!({"full_attention": {"rope_type": "proportional", "partial_rotary_factor": 1.5}}),
            "partial_rotary_factor",
        ),
        ("shared", "vocab_size_per_layer_input", json!(47), "at least the 48"),
        ("experts", "num_experts", json!(null), "num_experts"),
        ("experts", "top_k_experts", json!(5), "at most the 4 experts"),
        ("experts", "moe_intermediate_size", json!(0), "moe_intermediate_size"),
        // The tensors tell that the file is of another shape.
        ("experts", "num_experts", json!(2), "do not fit"),
        ("dense", "attention_k_eq_v", json!(false), "missing"),
        ("separate", "attention_k_eq_v", json!(true), "unexpected"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(name);
        config["text_config"][key] = value;
        write(folder.path(), &config, &[("model.safetensors", &tensors(name))]);
        let error = Model::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains(word), "{name} {key}: {error}");
    }
}

#[test]
fn weights_packed_in_an_unknown_way_are_refused_by_name() {
    for (quantization, key) in [
        (json!({"group_size": 32, "bits": 4, "mode": "q4_k"}), "quantization.mode"),
        (
            json!({"bits": 4, "a.b": {"group_size": 16, "bits": 4, "mode": "ternary"}}),
            "quantization.a.b.mode",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config("dense-4bit");
        config["quantization"] = quantization;
        write(folder.path(), &config, &[("model.safetensors", &tensors("dense-4bit"))]);
        let error = Model::open(folder.path()).unwrap_err();
        assert!(matches!(&error, Error::Config { key: found, .. } if found == key), "{error}");
    }
}

/// What is done to a good folder of two shards with an index, and a word of the error.
type Case = (fn(&Path), &'static str);

fn spoil_entry(folder: &Path, file: &str) {
    let path = folder.join("model.safetensors.index.json");
    let mut index: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    index["weight_map"]["language_model.model.norm.weight"] = file.into();
    std::fs::write(path, index.to_string()).unwrap();
}

const SPOILT: [Case; 8] = [
    (|folder| std::fs::remove_file(folder.join("b.safetensors")).unwrap(), "a file that exists"),
    (
        |folder| {
            let whole = std::fs::read(folder.join("b.safetensors")).unwrap();
            std::fs::write(folder.join("b.safetensors"), &whole[..whole.len() / 2]).unwrap();
        },
        "broken safetensors",
    ),
    (|folder| spoil_entry(folder, "../b.safetensors"), "in the same folder"),
    (|folder| spoil_entry(folder, "/etc/passwd"), "in the same folder"),
    (|folder| spoil_entry(folder, ".."), "in the same folder"),
    (|folder| spoil_entry(folder, ""), "in the same folder"),
    (|folder| spoil_entry(folder, "a.safetensors"), "no such tensor"),
    (
        |folder| std::fs::write(folder.join("model.safetensors.index.json"), "[1, 2").unwrap(),
        "index.json",
    ),
];

#[test]
fn bad_indices_and_shards_are_errors_that_say_what_is_wrong() {
    let mut first = tensors("dense");
    let second = first.split_off("language_model.model.layers.2");
    let shards = [("a.safetensors", &first), ("b.safetensors", &second)];
    for (spoil, word) in SPOILT {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &config("dense"), &shards);
        index(folder.path(), &shards);
        Model::open(folder.path()).unwrap();
        spoil(folder.path());
        let error = Model::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains(word), "{word}: {error}");
    }
}
