//! Layer inputs kept from the forward to the backward pass (gradient checkpointing), in memory or
//! offloaded to a file.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use half::bf16;
use mlx_rs::{Array, Dtype};
use models::layers::Flow;
use serde::{Deserialize, Serialize};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::{Error, Result};

/// Where layer inputs are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum InputStorage {
    Memory,
    /// In an unnamed file in the folder of the run, which disappears with the process.
    File,
}

/// A stack of layer inputs, the topmost layer's last.
pub(crate) enum LayerInputs {
    Memory(Vec<Flow>),
    File(Offloaded),
}

/// Layer inputs in a file, one after the other.
pub(crate) struct Offloaded {
    file: File,
    folder: Box<Path>,
    flows: Vec<Vec<Slot>>,
}

/// Where an array is in the file.
struct Slot {
    start: u64,
    dims: Vec<i32>,
    dtype: Dtype,
}

impl LayerInputs {
    pub(crate) fn new(storage: InputStorage, folder: &Path) -> Result<Self> {
        Ok(match storage {
            InputStorage::Memory => Self::Memory(Vec::new()),
            InputStorage::File => {
                let file = tempfile::tempfile_in(folder)
                    .map_err(|source| Error::Offload { folder: folder.to_owned(), source })?;
                Self::File(Offloaded { file, folder: folder.into(), flows: Vec::new() })
            }
        })
    }

    /// Keeps an evaluated layer input.
    pub(crate) fn push(&mut self, flow: &Flow) -> Result<()> {
        match self {
            Self::Memory(flows) => flows.push(flow.clone()),
            Self::File(offloaded) => {
                let arrays = flow.clone().into_arrays();
                let slots =
                    arrays.iter().map(|array| offloaded.write(array)).collect::<Result<_>>()?;
                offloaded.flows.push(slots);
            }
        }
        Ok(())
    }

    /// Takes the input that was pushed last.
    pub(crate) fn pop(&mut self) -> Result<Option<Flow>> {
        match self {
            Self::Memory(flows) => Ok(flows.pop()),
            Self::File(offloaded) => {
                let Some(slots) = offloaded.flows.pop() else { return Ok(None) };
                let arrays = slots.iter().map(|slot| offloaded.read(slot));
                Ok(Flow::from_arrays(arrays.collect::<Result<Vec<_>>>()?))
            }
        }
    }
}

impl Offloaded {
    fn write(&mut self, array: &Array) -> Result<Slot> {
        let array = array.contiguous()?;
        let start = match array.dtype() {
            Dtype::Bfloat16 => self.append(array.try_as_slice::<bf16>()?),
            Dtype::Float32 => self.append(array.try_as_slice::<f32>()?),
            other => {
                let what = format!("expected layer inputs of bf16 or f32, found {other:?}");
                Err(self.failed(io::Error::other(what)))
            }
        };
        Ok(Slot { start: start?, dims: array.shape().to_vec(), dtype: array.dtype() })
    }

    fn append<T: IntoBytes + Immutable>(&mut self, values: &[T]) -> Result<u64> {
        let written = self.file.seek(SeekFrom::End(0)).and_then(|start| {
            self.file.write_all(values.as_bytes())?;
            Ok(start)
        });
        written.map_err(|source| self.failed(source))
    }

    fn read(&mut self, slot: &Slot) -> Result<Array> {
        Ok(match slot.dtype {
            Dtype::Bfloat16 => Array::from_slice(&self.values::<bf16>(slot)?, &slot.dims),
            _ => Array::from_slice(&self.values::<f32>(slot)?, &slot.dims),
        })
    }

    fn values<T: FromBytes + IntoBytes + Clone>(&mut self, slot: &Slot) -> Result<Vec<T>> {
        let count = slot.dims.iter().product::<i32>();
        let mut values = vec![T::new_zeroed(); count as usize];
        let read = self.file.seek(SeekFrom::Start(slot.start));
        let read = read.and_then(|_| self.file.read_exact(values.as_mut_bytes()));
        read.map_err(|source| self.failed(source))?;
        Ok(values)
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::Offload { folder: self.folder.to_path_buf(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_the_same_from_memory_and_from_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let flow = |first: f32| {
            let hidden = Array::from_iter((0..6).map(|i| first + i as f32), &[1, 2, 3]);
            let carried =
                vec![Array::from_slice(&[first, -0.5], &[2]).as_dtype(Dtype::Bfloat16).unwrap()];
            Flow { hidden, carried }
        };
        for storage in [InputStorage::Memory, InputStorage::File] {
            let mut inputs = LayerInputs::new(storage, folder.path()).unwrap();
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
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the file is unnamed");
    }
}
