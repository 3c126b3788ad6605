//! Any bytes as a model file: an accepted header has ranges inside the file, quantized tensors have as many weights as their
//! dimensions say, and there is no panic.

#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use chat_format::ChatTokenizer;
use libfuzzer_sys::fuzz_target;

static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
    std::env::temp_dir().join(format!("nightshift-fuzz-{}.gguf", std::process::id()))
});

fuzz_target!(|bytes: &[u8]| {
    fs::write(&*FILE, bytes).expect("a temporary file");
    let Ok(model) = gguf::Gguf::open(&*FILE) else { return };
    for tensor in model.tensors() {
        assert!(tensor.range.start <= tensor.range.end && tensor.range.end <= bytes.len() as u64);
        let Some(affine) = tensor.kind.affine() else { continue };
        let blocks = &bytes[tensor.range.start as usize..tensor.range.end as usize];
        let weights = affine.weights(blocks).len();
        assert_eq!(weights as u64, tensor.dims.iter().product::<u64>());
        assert_eq!(affine.packed(blocks).len() * 32, weights * affine.bits());
    }
    for (key, _) in model.metadata().iter() {
        assert!(model.metadata().has(key));
    }
    drop(ChatTokenizer::open(&*FILE));
});
