//! A model that is too large for the rehearsal.

use std::fs;

use super::super::finding::CheckStatus;
use super::support::Tiny;
use super::{preflight, sanctum};

#[test]
fn a_model_that_is_too_large_is_only_planned() {
    let tiny = sanctum();
    write_large_model(&tiny);
    tiny.edit("night.yaml", "gate:", "preflight: { peak_memory: 1TB }\ngate:");
    let before = lora_train::memory::resident_memory().unwrap();
    let report = preflight(&tiny);
    let grown = lora_train::memory::resident_memory().unwrap().saturating_sub(before);
    let check = |name: &str| report.checks.iter().find(|check| check.check == name).unwrap();
    let detail = &check("safetensors").detail;
    assert!(detail.starts_with("30,8") && detail.contains("weights"), "{detail}");
    for (name, words) in [
        ("2-iter execution", "streamed"),
        ("dress rehearsal", "needs the adapter of two iterations"),
        ("adapter keys", "none was trained"),
    ] {
        assert_eq!(check(name).status, CheckStatus::NotRun, "{report:#?}");
        assert!(check(name).detail.contains(words), "{report:#?}");
    }
    assert!(check("peak memory < 1TB").detail.contains("nothing measured"), "{report:#?}");
    assert_eq!((report.seed_passed, report.not_run, report.ok), (20, 4, false), "{report:#?}");
    assert!(report.line.contains("20/21") && report.line.contains("4 not run"), "{}", report.line);
    // The bound leaves room for the other tests of this process.
    assert!(grown < 2_000_000_000, "{grown}");
}

/// A Llama with 31 billion weights in a sparse file.
fn write_large_model(tiny: &Tiny) {
    const HIDDEN: usize = 8192;
    const FFN: usize = 28_672;
    const KEYS: usize = 1024;
    const LAYERS: usize = 36;
    let path = tiny.path("model/config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for (key, value) in [
        ("hidden_size", HIDDEN),
        ("intermediate_size", FFN),
        ("num_hidden_layers", LAYERS),
        ("num_attention_heads", 64),
        ("num_key_value_heads", 8),
        ("head_dim", 128),
    ] {
        config[key] = value.into();
    }
    fs::write(&path, config.to_string()).unwrap();
    let (mut header, mut end) = (serde_json::Map::new(), 0);
    let mut tensor = |name: String, shape: &[usize]| {
        let begin = end;
        end += 2 * shape.iter().product::<usize>();
        let entry = serde_json::json!({
            "dtype": "BF16", "shape": shape, "data_offsets": [begin, end],
        });
        header.insert(format!("{name}.weight"), entry);
    };
    let vocabulary = config["vocab_size"].as_u64().unwrap() as usize;
    tensor("model.embed_tokens".to_owned(), &[vocabulary, HIDDEN]);
    tensor("model.norm".to_owned(), &[HIDDEN]);
    for layer in 0..LAYERS {
        for (path, shape) in [
            ("self_attn.q_proj", &[HIDDEN, HIDDEN][..]),
            ("self_attn.k_proj", &[KEYS, HIDDEN]),
            ("self_attn.v_proj", &[KEYS, HIDDEN]),
            ("self_attn.o_proj", &[HIDDEN, HIDDEN]),
            ("mlp.gate_proj", &[FFN, HIDDEN]),
            ("mlp.up_proj", &[FFN, HIDDEN]),
            ("mlp.down_proj", &[HIDDEN, FFN]),
            ("input_layernorm", &[HIDDEN]),
            ("post_attention_layernorm", &[HIDDEN]),
        ] {
            tensor(format!("model.layers.{layer}.{path}"), shape);
        }
    }
    let header = serde_json::Value::Object(header).to_string();
    let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    let path = tiny.path("model/model.safetensors");
    fs::write(&path, &bytes).unwrap();
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len((bytes.len() + end) as u64).unwrap();
}
