//! Adapters of PEFT are read as PEFT computes them, or refused by the key that is not supported.

mod common;

use std::fs;
use std::path::Path;

use common::{Tiny, tokens, write_safetensors};
use mlx_rs::Array;
use models::layers::{LayerAdapter, Lora};
use models::{Adapter, Model, export_peft};
use proptest::prelude::*;
use serde_json::{Value, json};

fn open(tiny: &Tiny, folder: &Path) -> Model {
    tiny.write(folder);
    Model::open(folder).unwrap()
}

fn random(seed: u64, shape: [i32; 2]) -> Array {
    let count = (shape[0] * shape[1]) as usize;
    let values: Vec<f32> =
        tokens(seed, count, 201).iter().map(|&t| (t as f32 - 100.0) / 500.0).collect();
    Array::from_slice(&values, &shape)
}

/// Updates, flat, to compare.
fn flat(adapter: &Adapter) -> Vec<(String, Vec<Vec<f32>>, f32)> {
    let layers = adapter.layers().iter().chain([adapter.embeddings()]).enumerate();
    let updates = layers.flat_map(|(layer, updates)| {
        updates.iter().map(move |(path, lora)| {
            let arrays = [Some(&lora.a), Some(&lora.b), lora.magnitude.as_ref()];
            let values = arrays.into_iter().flatten().map(|array| array.as_slice::<f32>().to_vec());
            (format!("{layer}.{path}"), values.collect(), lora.scale)
        })
    });
    updates.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// What is exported is read back as it was.
    #[test]
    fn an_exported_adapter_is_the_same_adapter(
        ranks in prop::collection::vec(1usize..6, 7),
        adapted in prop::collection::vec(any::<bool>(), 21),
        (tied, embedding) in any::<(bool, bool)>(),
        dora in any::<bool>(),
        scale in prop::sample::select(vec![0.5f32, 1.0, 2.0, 20.0, 0.3]),
    ) {
        let tiny = if tied { Tiny::new(1) } else { Tiny::untied(1) };
        let folder = tempfile::tempdir().unwrap();
        let model = open(&tiny, folder.path());
        let lora = |seed: u64, rank: usize, [input, output]: [usize; 2]| Lora {
            a: random(seed, [input as i32, rank as i32]),
            b: random(seed + 1, [rank as i32, output as i32]),
            scale,
            magnitude: dora.then(|| random(seed + 2, [1, output as i32]).reshape(&[-1]).unwrap()),
            dropout: None,
        };
        let mut seed = 0;
        let layers = model.layers().iter().enumerate().map(|(index, layer)| {
            let linears = layer.linears().into_iter().enumerate();
            let linears = linears.filter(|(i, _)| adapted[index * 7 + i]);
            let updates = linears.map(|(i, spec)| {
                seed += 3;
                (spec.path, lora(seed, ranks[i], [spec.in_features, spec.out_features]))
            });
            updates.collect::<LayerAdapter>()
        });
        let mut adapter = Adapter::new(layers.collect());
        if embedding && !dora {
            // Of an untied model, embedding and output matrix.
            let updates = model.embedding_linears().into_iter().zip([1000, 2000]);
            let updates = updates.map(|(spec, seed)| {
                (spec.path, lora(seed, ranks[0], [spec.in_features, spec.out_features]))
            });
            adapter = adapter.with_embeddings(updates.collect());
        }
        prop_assume!(!flat(&adapter).is_empty());
        let out = folder.path().join("peft");
        export_peft(&adapter, &model, &out, "base").unwrap();
        let read = Adapter::load(&out, &model).unwrap();
        prop_assert_eq!(flat(&read), flat(&adapter));
    }
}

/// An adapter of one module, in PEFT's files, with these keys; the error, or the scale it is read with.
fn load(keys: Value) -> Result<f32, String> {
    load_named("base_model.model.model.layers.1.self_attn.q_proj", keys)
}

fn load_named(module: &str, keys: Value) -> Result<f32, String> {
    let folder = tempfile::tempdir().unwrap();
    let tiny = Tiny::new(1);
    let model = open(&tiny, folder.path());
    let out = folder.path().join("peft");
    fs::create_dir(&out).unwrap();
    let mut config = json!({ "peft_type": "LORA", "r": 4, "lora_alpha": 8 });
    config.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    fs::write(out.join("adapter_config.json"), config.to_string()).unwrap();
    let tensor = |part: &str, shape: [usize; 2]| {
        (format!("{module}.{part}"), shape.to_vec(), vec![0.5; shape[0] * shape[1]])
    };
    let outputs = tiny.heads * tiny.head_dim;
    let tensors =
        [tensor("lora_A.weight", [4, tiny.hidden]), tensor("lora_B.weight", [outputs, 4])];
    write_safetensors(&out.join("adapter_model.safetensors"), tensors);
    let adapter = Adapter::load(&out, &model).map_err(|error| error.to_string())?;
    Ok(adapter.layers()[1].get("self_attn.q_proj").unwrap().scale)
}

/// The formulas are PEFT's: `alpha / r`, or `alpha / sqrt(r)`; patterns match the end of a name.
#[test]
fn the_strength_is_pefts() {
    for (keys, scale) in [
        (json!({}), 2.0),
        (json!({ "lora_alpha": 1 }), 0.25),
        (json!({ "use_rslora": true }), 4.0),
        (json!({ "alpha_pattern": { "q_proj": 32 } }), 8.0),
        (json!({ "alpha_pattern": { "k_proj": 32 } }), 2.0),
        (json!({ "alpha_pattern": { "layers.1.self_attn.q_proj": 16 } }), 4.0),
        (json!({ "alpha_pattern": { "^model.layers.1.self_attn.q_proj": 16 } }), 4.0),
        (json!({ "alpha_pattern": { "^layers.1.self_attn.q_proj": 16 } }), 2.0),
        (json!({ "alpha_pattern": { "xq_proj": 32, ".*_proj": 4, "q_proj": 32 } }), 1.0),
        (json!({ "r": 16, "rank_pattern": { "(q|k)_proj": 4 } }), 2.0),
        // Keys of a file as PEFT 0.19 writes it.
        (
            json!({
                "alora_invocation_tokens": null, "arrow_config": null, "bias": "none", "eva_config": null,
                "fan_in_fan_out": false, "init_lora_weights": true, "layer_replication": null,
                "loftq_config": {}, "lora_bias": false, "modules_to_save": null, "rank_pattern": {},
                "target_modules": ["q_proj"], "target_parameters": null, "use_dora": false,
                "trainable_token_indices": null, "use_bdlora": null, "use_qalora": false,
            }),
            2.0,
        ),
    ] {
        assert_eq!(load(keys.clone()), Ok(scale), "{keys}");
    }
}

#[test]
fn modules_have_the_names_of_any_of_the_layouts() {
    for root in ["model.", "model.language_model.", "language_model.model."] {
        let module = format!("base_model.model.{root}layers.1.self_attn.q_proj");
        assert_eq!(load_named(&module, json!({})), Ok(2.0), "{root}");
    }
    let error = load_named("base_model.model.transformer.h.1.attn.c_attn", json!({})).unwrap_err();
    let words = "unexpected base_model.model.transformer.h.1.attn.c_attn.lora_A.weight";
    assert!(error.contains(words), "{error}");
}

#[test]
fn what_is_not_supported_is_refused_by_key() {
    for (keys, message) in [
        (json!({ "peft_type": "IA3" }), "peft_type: expected LORA, found \"IA3\""),
        (
            json!({ "modules_to_save": ["lm_head"] }),
            "modules_to_save: expected nothing, as in plain LoRA, found [\"lm_head\"]",
        ),
        (json!({ "fan_in_fan_out": true }), "fan_in_fan_out: expected nothing"),
        (json!({ "layer_replication": [[0, 2]] }), "layer_replication: expected nothing"),
        (json!({ "bias": "lora_only" }), "bias: expected none, found \"lora_only\""),
        (
            json!({ "init_lora_weights": "pissa_niter_4" }),
            "init_lora_weights: expected true, false",
        ),
        (json!({ "alpha_pattern": { "q_proj": -1 } }), "alpha_pattern.q_proj: expected a positive"),
        (
            json!({ "alpha_pattern": { "(q": 1 } }),
            "alpha_pattern.(q: expected a regular expression",
        ),
        (
            json!({ "r": 8 }),
            "model.layers.1.self_attn.q_proj.lora_a: expected [32, 8], found [32, 4]",
        ),
    ] {
        let error = load(keys.clone()).unwrap_err();
        assert!(error.contains(message), "{keys}: {error}");
    }
}

#[test]
fn an_update_of_the_output_matrix_alone_is_refused_where_it_is_tied() {
    let error = load_named("base_model.model.lm_head", json!({})).unwrap_err();
    assert!(error.contains("lm_head: expected the update of model.embed_tokens"), "{error}");
}

#[test]
fn a_pickled_adapter_and_a_configuration_of_neither_program_say_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let model = open(&Tiny::new(1), folder.path());
    let error = |config: &str| {
        fs::write(folder.path().join("adapter_config.json"), config).unwrap();
        Adapter::load(folder.path(), &model).unwrap_err().to_string()
    };
    let found = error(r#"{"r": 8}"#);
    let words =
        "lora_parameters: expected it in an adapter of mlx-lm, or `peft_type` in one of PEFT";
    assert!(found.contains(words), "{found}");
    fs::write(folder.path().join("adapter_model.bin"), "PK").unwrap();
    let found = error(r#"{"peft_type": "LORA"}"#);
    assert!(found.contains("expected adapter_model.safetensors"), "{found}");
}
