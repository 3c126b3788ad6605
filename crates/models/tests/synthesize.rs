//! Random checkpoints of a given shape.

mod common;

use std::fs;
use std::path::Path;

use common::Tiny;
use models::{Adapter, Error, Model, Storage, synthesize};

/// Every width a multiple of 32.
fn config(folder: &Path) -> std::path::PathBuf {
    let tiny = Tiny { hidden: 64, head_dim: 32, ..Tiny::untied(1) };
    let path = folder.join("shape.json");
    fs::write(&path, tiny.config_json().to_string()).unwrap();
    path
}

#[test]
fn a_model_of_any_storage_opens_and_keeps_its_size_of_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let packed = |bits| Storage::Packed { bits, group_size: 32 };
    for (name, storage) in
        [("bf16", Storage::Bf16), ("3", packed(3)), ("4", packed(4)), ("8", packed(8))]
    {
        let out = folder.path().join(name);
        let mut last = (0, 0);
        let made = synthesize(&config, &out, storage, 7, &mut |done, all| last = (done, all));
        let made = made.unwrap();
        assert_eq!(last, (made.bytes, made.bytes));
        let model = Model::open(&out).unwrap();
        assert_eq!(made.weights, model.config().num_weights());
        let logits = model.logits(&[1, 2, 3, 4], &Adapter::none(&model)).unwrap();
        let mean_square = logits.square().unwrap().mean(None).unwrap().item_exact::<f32>();
        // A final norm of about one, and rows of the output matrix of length one.
        assert!((0.2..5.0).contains(&mean_square), "{name}: {mean_square}");
    }
}

#[test]
fn a_qwen_3_5_of_any_storage_opens() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("shape.json");
    let text = fs::read_to_string("../../fixtures/golden/qwen35/untied/config.json").unwrap();
    fs::write(&config, text).unwrap();
    for (name, storage) in
        [("bf16", Storage::Bf16), ("4", Storage::Packed { bits: 4, group_size: 32 })]
    {
        let out = folder.path().join(name);
        let made = synthesize(&config, &out, storage, 7, &mut |_, _| ());
        // Values of 16 numbers make no group of 32.
        if name == "4" {
            assert!(matches!(made.unwrap_err(), Error::Argument { .. }));
            continue;
        }
        let model = Model::open(&out).unwrap();
        assert_eq!(made.unwrap().weights, model.config().num_weights());
        let logits = model.logits(&[1, 2, 3, 4], &Adapter::none(&model)).unwrap();
        let mean_square = logits.square().unwrap().mean(None).unwrap().item_exact::<f32>();
        assert!((0.2..5.0).contains(&mean_square), "{name}: {mean_square}");
    }
}

#[test]
fn a_seed_is_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let write = |name: &str, seed| {
        let out = folder.path().join(name);
        synthesize(&config, &out, Storage::Bf16, seed, &mut |_, _| ()).unwrap();
        fs::read(out.join("model.safetensors")).unwrap()
    };
    let first = write("a", 1);
    assert!(first == write("b", 1));
    assert!(first != write("c", 2));
}

#[test]
fn what_cannot_be_packed_is_refused_and_nothing_written() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let out = folder.path().join("out");
    for (bits, group_size) in [(4, 128), (7, 32), (4, 33), (0, 32)] {
        let storage = Storage::Packed { bits, group_size };
        let error = synthesize(&config, &out, storage, 0, &mut |_, _| ()).unwrap_err();
        assert!(matches!(error, Error::Argument { .. }), "{error}");
        assert!(!out.exists());
    }
    let nowhere = synthesize(&folder.path().join("x.json"), &out, Storage::Bf16, 0, &mut |_, _| ());
    assert!(nowhere.unwrap_err().to_string().contains("x.json"));
}
