//! Which files of a folder are the model: shards, an index, doubled tensors, files that do not belong.

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::{Tiny, tokens, write_safetensors};
use models::{Adapter, Error, Model};
use proptest::prelude::*;
use serde_json::json;

/// Tensors by name: shape and values.
type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

fn tensors(tiny: &Tiny) -> Tensors {
    let tensors = tiny.weights.iter().map(|(name, m)| {
        let shape = if m.rows == 1 { vec![m.columns] } else { vec![m.rows, m.columns] };
        (format!("{name}.weight"), (shape, m.values.clone()))
    });
    tensors.collect()
}

fn write(path: &Path, tensors: &Tensors) {
    let tensors = tensors.iter();
    write_safetensors(
        path,
        tensors.map(|(name, (shape, values))| (name.clone(), shape.clone(), values.clone())),
    );
}

fn zeros(tensors: &Tensors) -> Tensors {
    let zero = |(name, (shape, values)): (&String, &(Vec<usize>, Vec<f32>))| {
        (name.clone(), (shape.clone(), vec![0.0; values.len()]))
    };
    tensors.iter().map(zero).collect()
}

fn logits(folder: &Path, tiny: &Tiny) -> Result<Vec<f32>, Error> {
    let model = Model::open(folder)?;
    let logits = model.logits(&tokens(2, 5, tiny.vocab), &Adapter::none(&model))?;
    Ok(logits.as_slice::<f32>().to_vec())
}

/// A folder with `config.json` alone, and what the model computes.
fn model(tiny: &Tiny) -> (tempfile::TempDir, Vec<f32>) {
    let folder = tempfile::tempdir().unwrap();
    tiny.write(folder.path());
    let expected = logits(folder.path(), tiny).unwrap();
    std::fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    (folder, expected)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A tensor is never taken from a file that does not count: whatever way a model is divided, and
    /// whatever lies beside it, the model is the same or the folder is refused with the tensor's name.
    #[test]
    fn no_file_replaces_another_in_silence(
        places in prop::collection::vec(0usize..3, 30),
        indexed in any::<bool>(),
        doubled in prop::option::of((any::<prop::sample::Index>(), 0usize..3)),
        strays in prop::collection::vec(
            prop::sample::select(vec![
                "._model-00001-of-00003.safetensors", ".model.safetensors", "adapters.safetensors",
                "consolidated.safetensors", ".DS_Store", "Thumbs.db",
            ]),
            0..3,
        ),
    ) {
        let tiny = Tiny::new(1);
        let (folder, expected) = model(&tiny);
        let all = tensors(&tiny);
        let name = |part: usize| format!("model-{:05}-of-00003.safetensors", part + 1);
        let mut parts = vec![Tensors::new(); 3];
        let mut index = BTreeMap::new();
        for ((tensor, value), &place) in all.iter().zip(places.iter().cycle()) {
            parts[place].insert(tensor.clone(), value.clone());
            index.insert(tensor.clone(), name(place));
        }
        let twice = doubled.and_then(|(tensor, place)| {
            let tensor = tensor.get(&all.keys().collect::<Vec<_>>()).to_string();
            let zero = zeros(&all)[&tensor].clone();
            // In its own place it is there once.
            let elsewhere = index[&tensor] != name(place);
            elsewhere.then(|| parts[place].insert(tensor.clone(), zero));
            elsewhere.then_some(tensor)
        });
        for (number, part) in parts.iter().enumerate() {
            write(&folder.path().join(name(number)), part);
        }
        for (number, stray) in strays.iter().enumerate() {
            match number % 2 {
                0 => std::fs::write(folder.path().join(stray), b"Mac OS X, Windows").unwrap(),
                _ => write(&folder.path().join(stray), &zeros(&all)),
            }
        }
        if indexed {
            let used: std::collections::BTreeSet<_> = index.values().cloned().collect();
            let index = json!({ "metadata": {}, "weight_map": index }).to_string();
            std::fs::write(folder.path().join("model.safetensors.index.json"), index).unwrap();
            prop_assume!(!used.is_empty());
        }
        match (twice, logits(folder.path(), &tiny)) {
            (Some(tensor), Err(error)) if !indexed => {
                let text = error.to_string();
                prop_assert!(text.contains(&tensor) && text.contains("in one file"), "{}", text);
            }
            (Some(_), Ok(_)) if !indexed => prop_assert!(false, "a doubled tensor was read"),
            (_, found) => prop_assert_eq!(found.map_err(|error| error.to_string()), Ok(expected)),
        }
    }
}

#[test]
fn an_older_copy_of_the_weights_is_refused_with_the_names_of_both_files() {
    let tiny = Tiny::new(1);
    let (folder, _) = model(&tiny);
    write(&folder.path().join("model.safetensors"), &tensors(&tiny));
    write(&folder.path().join("model_old.safetensors"), &zeros(&tensors(&tiny)));
    let error = logits(folder.path(), &tiny).unwrap_err();
    let Error::Tensors { differences, .. } = &error else { panic!("{error}") };
    assert_eq!(differences.doubled.len(), tiny.weights.len());
    let line = "model.safetensors and model_old.safetensors: expected each tensor in one file, \
                found 29 in both, such as model.embed_tokens.weight; move one file away";
    assert!(error.to_string().contains(line), "{error}");
}

#[test]
fn a_missing_shard_is_named() {
    let tiny = Tiny::new(1);
    let (folder, _) = model(&tiny);
    write(&folder.path().join("model-00001-of-00002.safetensors"), &tensors(&tiny));
    let error = logits(folder.path(), &tiny).unwrap_err().to_string();
    let expected = "model-00002-of-00002.safetensors: expected this file, one of 2 of the checkpoint, found none";
    assert!(error.ends_with(expected), "{error}");
}

#[test]
fn a_git_lfs_pointer_is_told_from_a_broken_file() {
    let tiny = Tiny::new(1);
    let (folder, _) = model(&tiny);
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n";
    std::fs::write(folder.path().join("model.safetensors"), pointer).unwrap();
    let error = logits(folder.path(), &tiny).unwrap_err().to_string();
    assert!(error.contains("git lfs pull"), "{error}");
}
