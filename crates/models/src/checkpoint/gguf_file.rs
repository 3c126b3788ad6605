use std::path::Path;
use std::sync::Arc;

use gguf::{Affine, Parts, TensorType};
use mlx_rs::Dtype;

use super::store::{Encoding, Entry, Part, Piece, Store};
use crate::Result;
use crate::error::Differences;

/// All tensors of a GGUF model, with the names that `rename` returns for theirs; a quantized tensor
/// becomes three: `NAME.weight`, `NAME.scales` and `NAME.biases`.
pub(crate) fn list(model: &Parts, rename: impl Fn(&str) -> String) -> Result<Store> {
    let mut store = Store::default();
    let mut unreadable = Vec::new();
    let files = model.files().map(|file| (Arc::<Path>::from(file.path()), file.tensors()));
    for (file, tensor) in files
        .flat_map(|(file, tensors)| tensors.iter().map(move |tensor| (Arc::clone(&file), tensor)))
    {
        let name = rename(&tensor.name);
        let shape: Vec<usize> = tensor.dims.iter().rev().map(|&n| n as usize).collect();
        let entry = |encoding, shape: Vec<usize>| {
            let rows = shape.first().copied().unwrap_or(1).max(1);
            let bytes = (tensor.range.end - tensor.range.start) as usize;
            let (file, start) = (Arc::clone(&file), tensor.range.start);
            Entry {
                pieces: vec![Piece { file, start, rows: None }],
                row_bytes: bytes / rows,
                shape,
                encoding,
                order: None,
                add_one: false,
            }
        };
        match Storage::of(tensor.kind) {
            Some(Storage::Plain(dtype)) => {
                store.insert(name, entry(Encoding::Plain(dtype), shape));
            }
            Some(Storage::Affine(affine)) => {
                let [rows @ .., columns] = shape.as_slice() else { continue };
                let stem = name.strip_suffix(".weight").unwrap_or(&name);
                let groups = columns / affine.group();
                for (part, suffix, width) in [
                    (Part::Packed, "weight", columns * affine.bits() / 32),
                    (Part::Scales, "scales", groups),
                    (Part::Biases, "biases", groups),
                ] {
                    let shape = [rows, &[width]].concat();
                    let encoding = Encoding::Blocks(affine, part);
                    store.insert(format!("{stem}.{suffix}"), entry(encoding, shape));
                }
            }
            None => {
                let expected =
                    "F32, F16, BF16, Q4_0 to Q8_0, Q2_K to Q6_K, IQ4_NL or IQ4_XS".to_owned();
                unreadable.push((tensor.name.clone(), expected, tensor.kind.to_string()));
            }
        }
    }
    let differences = Differences { mismatched: unreadable, ..Default::default() };
    differences.into_result(model.path()).map(|()| store)
}

/// How a tensor of a supported type is stored.
enum Storage {
    Plain(Dtype),
    Affine(Affine),
}

impl Storage {
    fn of(kind: TensorType) -> Option<Self> {
        Some(match kind {
            TensorType::F32 => Self::Plain(Dtype::Float32),
            TensorType::F16 => Self::Plain(Dtype::Float16),
            TensorType::BF16 => Self::Plain(Dtype::Bfloat16),
            quantized => Self::Affine(quantized.affine()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::backend::{Backend, Kernels};
    use crate::checkpoint::{Checkpoint, Expected, WeightSource};

    /// The golden blocks of every type, kept packed, computed with as every kind of kernels does.
    #[test]
    fn weights_of_every_type_are_those_of_the_file() {
        const FILE: &str = "../gguf/tests/data/blocks.gguf";
        let parts = Parts::open(FILE).unwrap();
        let mut store = list(&parts, str::to_owned).unwrap();
        let golden = list(&parts, str::to_owned).unwrap();
        store.retain(|name| !name.ends_with(".f32"));
        let names: Vec<String> = TensorType::ALL.iter().map(ToString::to_string).collect();
        let names = names.iter().filter(|name| golden.get(&format!("{name}.f32")).is_some());
        let expected: BTreeMap<_, _> =
            names.map(|name| (name.clone(), Expected::Matrix { rows: 1, columns: 1024 })).collect();
        assert_eq!(expected.len(), 12);
        let checkpoint = Checkpoint::new(Path::new(FILE), store, &expected).unwrap();
        for name in expected.keys() {
            let theirs = golden.read(&format!("{name}.f32")).unwrap();
            for kernels in [Kernels::Blas, Kernels::NativeF32, Kernels::Native] {
                let backend = Backend::choose(Some(kernels)).unwrap();
                let matrix = checkpoint.matrix(name).unwrap();
                let ours = matrix.prepared(backend, crate::WeightResidency::Packed).unwrap();
                let ours = ours.dense(backend, backend.dtype()).unwrap();
                let ours = ours.as_dtype(Dtype::Float32).unwrap();
                let blocks =
                    ours.as_slice::<f32>().chunks(256).zip(theirs.as_slice::<f32>().chunks(256));
                for (ours, theirs) in blocks {
                    let largest =
                        theirs.iter().fold(0f32, |largest, weight| largest.max(weight.abs()));
                    // 16 bits round scale, bias, product and sum; bf16 each to 1/512.
                    let most = if kernels == Kernels::Native { largest / 64.0 } else { 0.0 };
                    let apart = ours.iter().zip(theirs).map(|(ours, theirs)| (ours - theirs).abs());
                    let apart = apart.fold(0f32, f32::max);
                    assert!(apart <= most, "{name} {kernels:?}: {apart} of {largest}");
                }
            }
        }
    }

    /// The table of types in this crate's README.
    #[test]
    fn the_table_of_types_is_true() {
        let readme = std::fs::read_to_string("README.md").unwrap();
        for &kind in TensorType::ALL {
            let row = match Storage::of(kind) {
                Some(Storage::Plain(_)) => format!("| {kind} | as it is | |"),
                Some(Storage::Affine(affine)) => {
                    let (bits, group) = (affine.bits(), affine.group());
                    let scales = if affine.has_f16_scales() { "f16" } else { "f32" };
                    let native = if group < 32 { "dequantized" } else { "packed" };
                    format!("| {kind} | {bits} bits, {scales} scales for {group} | {native} |")
                }
                None => format!("| {kind} | refused | |"),
            };
            assert!(readme.contains(&row), "expected in README.md: {row}");
        }
    }
}
