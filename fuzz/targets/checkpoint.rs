//! Any bytes as a safetensors file and as its index: opened or refused, never a panic.

#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use models::Model;

/// A Llama of one narrow layer.
const CONFIG: &str = r#"{"model_type": "llama", "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
    "num_attention_heads": 1, "vocab_size": 8, "rms_norm_eps": 1e-5}"#;

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("nightshift-fuzz-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a temporary folder");
    fs::write(folder.join("config.json"), CONFIG).expect("a temporary file");
    folder
});

// The first byte is the length of the index; 0 means no index.
fuzz_target!(|bytes: &[u8]| {
    let [length, rest @ ..] = bytes else { return };
    let (index, weights) = rest.split_at(usize::from(*length).min(rest.len()));
    let path = FOLDER.join("model.safetensors.index.json");
    match index {
        [] => drop(fs::remove_file(path)),
        index => fs::write(path, index).expect("a temporary file"),
    }
    fs::write(FOLDER.join("model.safetensors"), weights).expect("a temporary file");
    if let Ok(model) = Model::open(&*FOLDER) {
        assert_eq!(model.config().vocab_size, 8);
    }
});
