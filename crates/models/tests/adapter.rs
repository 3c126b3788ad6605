//! Adapters: what they compute, what they look like on disk, what is refused.

mod common;
mod rounding;

use std::path::Path;

use common::{RANK, SCALE, Tiny, adapter, tokens, worst, write_safetensors};
use mlx_rs::Array;
use models::layers::{LayerAdapter, Lora};
use models::{Adapter, Error, Model};

fn open(tiny: &Tiny) -> Model {
    let folder = tempfile::tempdir().unwrap();
    tiny.write(folder.path());
    Model::open(folder.path()).unwrap()
}

#[test]
fn an_adapter_is_applied_at_its_strength_and_survives_the_disk() {
    let mut tiny = Tiny::new(1);
    let model = open(&tiny);
    let plain = tiny.clone();
    let adapter = adapter(&mut tiny, &model);
    let tokens = tokens(2, 13, tiny.vocab);
    let logits = model.logits(&tokens, &adapter).unwrap();
    let error = worst(&logits, &tiny.logits(&tokens));
    assert!(error < rounding::tolerance(&model, 3e-6), "{error:e}");
    let effect = worst(&logits, &plain.logits(&tokens));
    assert!(effect > 0.05, "an adapter without effect proves nothing: {effect:e}");

    let folder = tempfile::tempdir().unwrap();
    let notes = serde_json::json!({ "seed": 7, "num_layers": "ours wins" });
    adapter.save(folder.path(), &model, notes.as_object().unwrap()).unwrap();
    let loaded = Adapter::load(folder.path(), &model).unwrap();
    let again = model.logits(&tokens, &loaded).unwrap();
    assert_eq!(again.as_slice::<f32>(), logits.as_slice::<f32>());

    let config = std::fs::read(folder.path().join("adapter_config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    assert_eq!(config["fine_tune_type"], "lora");
    assert_eq!(config["num_layers"], 2);
    assert_eq!(config["seed"], 7);
    assert_eq!(config["lora_parameters"]["rank"], RANK);
    assert_eq!(config["lora_parameters"]["scale"], SCALE);
    assert_eq!(config["lora_parameters"]["keys"].as_array().unwrap().len(), 7);
}

/// Writes an adapter of these tensors.
fn write(folder: &Path, tensors: &[(&str, [usize; 2])]) {
    let config = serde_json::json!({
        "fine_tune_type": "lora", "num_layers": 3,
        "lora_parameters": { "rank": RANK, "scale": 20.0, "dropout": 0.0 },
    });
    std::fs::write(folder.join("adapter_config.json"), config.to_string()).unwrap();
    let tensors = tensors.iter().map(|(name, shape)| {
        (format!("model.layers.{name}"), shape.to_vec(), vec![0.0; shape[0] * shape[1]])
    });
    write_safetensors(&folder.join("adapters.safetensors"), tensors);
}

#[test]
fn everything_that_differs_is_listed() {
    let model = open(&Tiny::new(3));
    let folder = tempfile::tempdir().unwrap();
    write(
        folder.path(),
        &[
            ("0.self_attn.q_proj.lora_a", [32, RANK]),
            ("0.self_attn.q_proj.lora_b", [RANK, 48]),
            ("1.mlp.up_proj.lora_a", [32, RANK]),
            ("1.mlp.up_proj.lora_b", [RANK, 65]),
            ("2.mlp.down_proj.lora_a", [64, RANK]),
            ("3.mlp.up_proj.lora_a", [32, RANK]),
        ],
    );
    let error = Adapter::load(folder.path(), &model).unwrap_err();
    let text = error.to_string();
    let Error::Tensors { differences, .. } = error else { panic!("{text}") };
    assert_eq!(differences.missing, ["model.layers.2.mlp.down_proj.lora_b"]);
    assert_eq!(differences.unexpected, ["model.layers.3.mlp.up_proj.lora_a"]);
    let (name, expected, found) = &differences.mismatched[0];
    assert_eq!(name, "model.layers.1.mlp.up_proj.lora_b");
    assert_eq!((expected.as_str(), found.as_str()), ("[4, 64]", "[4, 65]"));
    for word in ["adapters.safetensors", "missing", "unexpected", "expected [4, 64], found [4, 65]"]
    {
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn broken_files_are_errors_that_name_them() {
    let model = open(&Tiny::new(3));
    let folder = tempfile::tempdir().unwrap();
    let load = || Adapter::load(folder.path(), &model).unwrap_err().to_string();
    assert!(load().contains("adapter_config.json"));
    write(folder.path(), &[("0.mlp.up_proj.lora_a", [32, RANK])]);
    let path = folder.path().join("adapters.safetensors");
    let whole = std::fs::read(&path).unwrap();
    for cut in [0, 4, 20, whole.len() - 1] {
        std::fs::write(&path, &whole[..cut]).unwrap();
        assert!(load().contains("broken safetensors file"), "{}", load());
    }
    let full = r#"{"fine_tune_type":"full","num_layers":1,"lora_parameters":{"rank":4,"scale":1}}"#;
    std::fs::write(folder.path().join("adapter_config.json"), full).unwrap();
    assert!(load().contains("fine_tune_type: expected lora or dora, found full"), "{}", load());
}

/// Other programs leave out keys for which mlx-lm has a default.
#[test]
fn absent_keys_have_mlx_lms_defaults() {
    let mut tiny = Tiny::new(1);
    let model = open(&tiny);
    let adapter = adapter(&mut tiny, &model);
    let folder = tempfile::tempdir().unwrap();
    adapter.save(folder.path(), &model, &serde_json::Map::new()).unwrap();
    let path = folder.path().join("adapter_config.json");
    let load = |config: serde_json::Value| {
        std::fs::write(&path, config.to_string()).unwrap();
        let loaded = Adapter::load(folder.path(), &model).map_err(|error| error.to_string())?;
        let logits = model.logits(&[1, 2, 3], &loaded).unwrap();
        Ok::<_, String>(logits.as_slice::<f32>().to_vec())
    };
    let parameters = serde_json::json!({ "rank": RANK, "scale": SCALE });
    let whole = load(serde_json::json!({
        "fine_tune_type": "lora", "num_layers": 2,
        "lora_parameters": { "rank": RANK, "scale": SCALE, "dropout": 0.0, "keys": null },
    }));
    assert!(whole.is_ok(), "{whole:?}");
    for config in [
        serde_json::json!({ "num_layers": 2, "lora_parameters": parameters }),
        serde_json::json!({ "fine_tune_type": null, "lora_parameters": parameters }),
    ] {
        assert_eq!(load(config.clone()), whole, "{config}");
    }
    let alpha = serde_json::json!({ "lora_parameters": { "rank": RANK, "alpha": 8 } });
    let error = load(alpha).unwrap_err();
    let expected = "lora_parameters.scale: expected a number, \
                    found only alpha 8, which mlx-lm does not read";
    assert!(error.ends_with(expected), "{error}");
}

#[test]
fn what_the_layout_cannot_say_is_not_written() {
    let model = open(&Tiny::new(3));
    let folder = tempfile::tempdir().unwrap();
    let notes = serde_json::Map::new();
    let save = |adapter: &Adapter| adapter.save(folder.path(), &model, &notes).unwrap_err();
    assert!(matches!(save(&Adapter::none(&model)), Error::Adapter { .. }));
    let lora = |rank: i32| Lora {
        a: Array::zeros::<f32>(&[32, rank]).unwrap(),
        b: Array::zeros::<f32>(&[rank, 64]).unwrap(),
        scale: 1.0,
        magnitude: None,
        dropout: None,
    };
    let long = || Some(Array::ones::<f32>(&[64]).unwrap());
    for other in [lora(8), Lora { scale: 2.0, ..lora(4) }, Lora { magnitude: long(), ..lora(4) }] {
        let mut layers = vec![LayerAdapter::default(); 3];
        layers[0] = [("mlp.up_proj", lora(4))].into_iter().collect();
        layers[1] = [("mlp.up_proj", other)].into_iter().collect();
        let refused = save(&Adapter::new(layers)).to_string();
        assert!(refused.contains("mlp.up_proj: expected rank, scale and type"), "{refused}");
    }
    assert!(matches!(save(&Adapter::new(Vec::new())), Error::Adapter { .. }));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing half-written");
}

#[test]
fn each_path_may_have_a_rank_of_its_own_and_rows_a_length() {
    let folder = tempfile::tempdir().unwrap();
    Tiny::new(5).write(folder.path());
    let model = Model::open(folder.path()).unwrap();
    let layers = model.layers().iter().enumerate().map(|(index, layer)| {
        let updates = layer.linears().into_iter().map(|spec| {
            let rank = if spec.path == "mlp.down_proj" { 6 } else { RANK };
            let [a, b] = spec.factor_shapes(rank);
            let a = Array::full::<f32>(&a, Array::from_f32(0.02)).unwrap();
            let b = Array::full::<f32>(&b, Array::from_f32(-0.1)).unwrap();
            let norms = model.row_norms(index, spec.path).unwrap();
            let magnitude = Some(norms.multiply(Array::from_f32(1.5)).unwrap());
            (spec.path, Lora { a, b, scale: SCALE, magnitude, dropout: None })
        });
        updates.collect()
    });
    let adapter = Adapter::new(layers.collect());
    adapter.save(folder.path(), &model, &serde_json::Map::new()).unwrap();
    let config = std::fs::read_to_string(folder.path().join("adapter_config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["fine_tune_type"], "dora");
    assert_eq!(config["lora_parameters"]["rank"], 6, "that of the first path");
    let ranks = config["rank_pattern"].as_object().unwrap();
    assert!(ranks.len() == 6 && ranks.values().all(|rank| rank == RANK), "{ranks:?}");

    let tokens = tokens(6, 9, 60);
    let expected = model.logits(&tokens, &adapter).unwrap();
    let loaded = Adapter::load(folder.path(), &model).unwrap();
    let again = model.logits(&tokens, &loaded).unwrap();
    assert_eq!(again.as_slice::<f32>(), expected.as_slice::<f32>());
}
