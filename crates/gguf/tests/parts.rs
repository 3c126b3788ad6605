//! Models in several files.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::Builder;
use gguf::Parts;
use proptest::prelude::*;

fn name(number: u16, count: u16) -> String {
    format!("m-{:05}-of-{count:05}.gguf", number + 1)
}

/// A part with the tensors of these names, 32 bytes each.
fn part(number: u16, count: u16, all: i32, tensors: &[String]) -> Builder {
    let builder = Builder::default()
        .key("split.no", 2, &number.to_le_bytes())
        .key("split.count", 2, &count.to_le_bytes())
        .key("split.tensors.count", 5, &all.to_le_bytes())
        .data(32 * tensors.len());
    let places = tensors.iter().zip((0..).step_by(32));
    places.fold(builder, |builder, (name, at)| builder.tensor(name, &[8], 0, at))
}

/// Writes a model of two parts, changed by `change`, and opens it.
fn open(change: impl Fn(&Path, &mut [Builder; 2])) -> Result<Vec<PathBuf>, String> {
    let folder = tempfile::tempdir().unwrap();
    let tensors = |name: &str| [name.to_owned()];
    let mut parts = [part(0, 2, 2, &tensors("a")), part(1, 2, 2, &tensors("b"))];
    change(folder.path(), &mut parts);
    for (builder, number) in parts.iter().zip(0..) {
        fs::write(folder.path().join(name(number, 2)), builder.bytes()).unwrap();
    }
    let opened = Parts::open(folder.path().join(name(0, 2)));
    let opened = opened.map_err(|error| error.to_string())?;
    Ok(opened.files().map(|file| file.path().to_owned()).collect())
}

#[test]
fn parts_that_contradict_each_other_are_refused() {
    assert_eq!(open(|_, _| ()).unwrap().len(), 2);
    let tensors = |name: &str| [name.to_owned()];
    let cases: [(Builder, &str); 4] = [
        (part(0, 2, 2, &tensors("b")), "`split.no`: expected 1 as in the other parts, found 0"),
        (part(1, 3, 2, &tensors("b")), "`split.count`: expected 2 as in the other parts, found 3"),
        (part(1, 2, 2, &tensors("a")), "tensor `a`: expected it in one part, found it in "),
        (part(1, 2, 2, &[]), "`split.tensors.count`: expected 2 as in the other parts, found 1"),
    ];
    for (second, words) in cases {
        let error = open(|_, parts| parts[1] = second.clone()).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_file_from_which_the_others_are_not_found_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("m-00002-of-00002.gguf"), part(1, 2, 2, &[]).bytes()).unwrap();
    fs::write(path("renamed.gguf"), part(0, 2, 2, &[]).bytes()).unwrap();
    let error = |name: &str| Parts::open(path(name)).unwrap_err().to_string();
    let found = error("m-00002-of-00002.gguf");
    assert!(found.contains("expected part 1 of 2, found part 2; give "), "{found}");
    assert!(found.ends_with("m-00001-of-00002.gguf"), "{found}");
    let found = error("renamed.gguf");
    assert!(found.contains("expected a name that ends in -00001-of-00002.gguf"), "{found}");
}

proptest! {
    /// Whatever way the tensors are divided, all are found in the parts where they are; without any one
    /// of the parts, that one is named.
    #[test]
    fn all_parts_are_read_or_the_missing_one_is_named(
        sizes in prop::collection::vec(0usize..4, 1..6),
        left_out in any::<prop::sample::Index>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let (count, all) = (sizes.len() as u16, sizes.iter().sum::<usize>() as i32);
        let mut names = Vec::new();
        for (number, size) in (0..count).zip(&sizes) {
            let own: Vec<_> = (0..*size).map(|index| format!("t{number}.{index}")).collect();
            let builder = part(number, count, all, &own);
            fs::write(folder.path().join(name(number, count)), builder.bytes()).unwrap();
            names.push(own);
        }
        let first = folder.path().join(name(0, count));
        let model = Parts::open(&first).unwrap();
        prop_assert_eq!(model.files().count(), sizes.len());
        for (file, own) in model.files().zip(&names) {
            let found: Vec<_> = file.tensors().iter().map(|tensor| &tensor.name).collect();
            prop_assert_eq!(found, own.iter().collect::<Vec<_>>());
            prop_assert!(own.iter().all(|name| model.tensor(name).is_some()));
        }
        let missing = folder.path().join(name(left_out.index(sizes.len()) as u16, count));
        fs::remove_file(&missing).unwrap();
        let error = Parts::open(&first).unwrap_err().to_string();
        prop_assert!(error.starts_with(&missing.display().to_string()), "{}", error);
    }
}
