use std::path::Path;
use std::sync::Arc;

use gguf::{Parts, Tensor, TensorType};
use mlx_rs::Dtype;

use super::blocks::{Block, GROUP, Part};
use super::store::{Encoding, Entry, Store};
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
                file,
                start,
                row_bytes: bytes / rows,
                shape,
                encoding,
                order: None,
                add_one: false,
            }
        };
        match storage(tensor) {
            Some(Storage::Plain(dtype)) => {
                store.insert(name, entry(Encoding::Plain(dtype), shape));
            }
            Some(Storage::Blocks(block)) => {
                let [rows @ .., columns] = shape.as_slice() else { continue };
                let stem = name.strip_suffix(".weight").unwrap_or(&name);
                let groups = columns / GROUP;
                for (part, suffix, width) in [
                    (Part::Packed, "weight", columns * block.bits() / 32),
                    (Part::Scales, "scales", groups),
                    (Part::Biases, "biases", groups),
                ] {
                    let shape = [rows, &[width]].concat();
                    let encoding = Encoding::Blocks(block, part);
                    store.insert(format!("{stem}.{suffix}"), entry(encoding, shape));
                }
            }
            None => {
                let expected = "F32, F16, BF16, Q4_0, Q4_1 or Q8_0".to_owned();
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
    Blocks(Block),
}

fn storage(tensor: &Tensor) -> Option<Storage> {
    Some(match tensor.kind {
        TensorType::F32 => Storage::Plain(Dtype::Float32),
        TensorType::F16 => Storage::Plain(Dtype::Float16),
        TensorType::BF16 => Storage::Plain(Dtype::Bfloat16),
        TensorType::Q4_0 => Storage::Blocks(Block::Q4_0),
        TensorType::Q4_1 => Storage::Blocks(Block::Q4_1),
        TensorType::Q8_0 => Storage::Blocks(Block::Q8_0),
        _ => return None,
    })
}
