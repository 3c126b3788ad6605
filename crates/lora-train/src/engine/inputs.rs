//! What enters each layer, kept from the forward pass to the backward pass: last in, first out.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use half::bf16;
use mlx_rs::{Array, Dtype};
use models::layers::Flow;
use serde::{Deserialize, Serialize};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::{Error, Result};

/// Where the inputs of layers wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputPlace {
    /// In memory.
    Memory,
    /// In a file without a name, in the folder of the run; the system removes it with the process.
    File,
}

/// The inputs of the layers below, the topmost last.
pub(crate) enum Inputs {
    Memory(Vec<Flow>),
    File(Spill),
}

/// Flows in a file, one behind the other.
pub(crate) struct Spill {
    file: File,
    folder: Box<Path>,
    flows: Vec<Vec<Shape>>,
}

/// What is not in the file itself.
struct Shape {
    start: u64,
    dims: Vec<i32>,
    dtype: Dtype,
}

impl Inputs {
    pub(crate) fn new(place: InputPlace, folder: &Path) -> Result<Self> {
        Ok(match place {
            InputPlace::Memory => Self::Memory(Vec::new()),
            InputPlace::File => {
                let file = tempfile::tempfile_in(folder)
                    .map_err(|source| Error::Spill { folder: folder.to_owned(), source })?;
                Self::File(Spill { file, folder: folder.into(), flows: Vec::new() })
            }
        })
    }

    /// Keeps what enters a layer. It has been computed.
    pub(crate) fn push(&mut self, flow: &Flow) -> Result<()> {
        match self {
            Self::Memory(flows) => flows.push(flow.clone()),
            Self::File(spill) => {
                let arrays = flow.clone().into_arrays();
                let shapes =
                    arrays.iter().map(|array| spill.write(array)).collect::<Result<_>>()?;
                spill.flows.push(shapes);
            }
        }
        Ok(())
    }

    /// What was kept last.
    pub(crate) fn pop(&mut self) -> Result<Option<Flow>> {
        match self {
            Self::Memory(flows) => Ok(flows.pop()),
            Self::File(spill) => {
                let Some(shapes) = spill.flows.pop() else { return Ok(None) };
                let arrays = shapes.iter().map(|shape| spill.read(shape));
                Ok(Flow::from_arrays(arrays.collect::<Result<Vec<_>>>()?))
            }
        }
    }
}

impl Spill {
    fn write(&mut self, array: &Array) -> Result<Shape> {
        let array = array.contiguous()?;
        let start = match array.dtype() {
            Dtype::Bfloat16 => self.append(array.try_as_slice::<bf16>()?),
            Dtype::Float32 => self.append(array.try_as_slice::<f32>()?),
            other => Err(self.failed(io::Error::other(format!("{other:?} is no type of inputs")))),
        };
        Ok(Shape { start: start?, dims: array.shape().to_vec(), dtype: array.dtype() })
    }

    fn append<T: IntoBytes + Immutable>(&mut self, values: &[T]) -> Result<u64> {
        let written = self.file.seek(SeekFrom::End(0)).and_then(|start| {
            self.file.write_all(values.as_bytes())?;
            Ok(start)
        });
        written.map_err(|source| self.failed(source))
    }

    fn read(&mut self, shape: &Shape) -> Result<Array> {
        Ok(match shape.dtype {
            Dtype::Bfloat16 => Array::from_slice(&self.values::<bf16>(shape)?, &shape.dims),
            _ => Array::from_slice(&self.values::<f32>(shape)?, &shape.dims),
        })
    }

    fn values<T: FromBytes + IntoBytes + Clone>(&mut self, shape: &Shape) -> Result<Vec<T>> {
        let count = shape.dims.iter().product::<i32>();
        let mut values = vec![T::new_zeroed(); count as usize];
        let read = self.file.seek(SeekFrom::Start(shape.start));
        let read = read.and_then(|_| self.file.read_exact(values.as_mut_bytes()));
        read.map_err(|source| self.failed(source))?;
        Ok(values)
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::Spill { folder: self.folder.to_path_buf(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_gives_back_what_memory_would() {
        let folder = tempfile::tempdir().unwrap();
        let flow = |first: f32| {
            let hidden = Array::from_iter((0..6).map(|i| first + i as f32), &[1, 2, 3]);
            let carried =
                vec![Array::from_slice(&[first, -0.5], &[2]).as_dtype(Dtype::Bfloat16).unwrap()];
            Flow { hidden, carried }
        };
        for place in [InputPlace::Memory, InputPlace::File] {
            let mut inputs = Inputs::new(place, folder.path()).unwrap();
            for first in [1.0, 2.0, 3.0] {
                inputs.push(&flow(first)).unwrap();
            }
            for first in [3.0, 2.0, 1.0] {
                let (found, expected) = (inputs.pop().unwrap().unwrap(), flow(first));
                assert_eq!(found.hidden.as_slice::<f32>(), expected.hidden.as_slice::<f32>());
                assert_eq!(found.hidden.shape(), expected.hidden.shape());
                assert_eq!(
                    found.carried[0].as_slice::<bf16>(),
                    expected.carried[0].as_slice::<bf16>()
                );
            }
            assert!(inputs.pop().unwrap().is_none());
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the file has no name");
    }
}
