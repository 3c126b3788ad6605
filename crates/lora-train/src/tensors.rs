//! Reading safetensors files of named f32 and u32 tensors.

use std::collections::HashMap;
use std::path::Path;

use mlx_rs::Array;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use crate::{Error, Result, Tensors};

/// The tensors and the metadata of the file at `path`.
pub(crate) fn read(path: &Path) -> Result<(Tensors, HashMap<String, String>)> {
    let malformed = |what: String| Error::BadTensors { path: path.to_owned(), what };
    let bytes =
        std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| malformed(error.to_string()))?;
    let (_, header) =
        SafeTensors::read_metadata(&bytes).map_err(|error| malformed(error.to_string()))?;
    let mut tensors = Tensors::new();
    for (name, view) in file.iter() {
        let array = array(&view).ok_or_else(|| {
            malformed(format!("`{name}`: expected F32 or U32, found {}", view.dtype()))
        })?;
        tensors.insert(name.to_owned(), array);
    }
    Ok((tensors, header.metadata().clone().unwrap_or_default()))
}

fn array(view: &TensorView<'_>) -> Option<Array> {
    let (words, []) = view.data().as_chunks::<4>() else { return None };
    let shape = view.shape().iter().map(|&n| i32::try_from(n).ok()).collect::<Option<Vec<_>>>()?;
    let words = words.iter();
    match view.dtype() {
        Dtype::F32 => Some(Array::from_iter(words.map(|&word| f32::from_le_bytes(word)), &shape)),
        Dtype::U32 => Some(Array::from_iter(words.map(|&word| u32::from_le_bytes(word)), &shape)),
        _ => None,
    }
}
