//! Whether the device can hold the model.

use lora_train::memory::device_memory;
use models::{Model, WeightResidency};

use crate::error::{Error, Result};
use crate::format;

/// The bytes of the weights, which exams and the smoke test hold as they are in the files.
///
/// # Errors
/// If that is more than the device has.
pub(super) fn of_exam(model: &Model) -> Result<u64> {
    let packed = WeightResidency::Packed;
    let layers = model.layers().iter().map(|layer| layer.weight_bytes(packed));
    let bytes = model.embedding_bytes(packed) + layers.sum::<u64>();
    within(bytes, device_memory())
}

/// The bytes, if the device has so many; `device` is `None` if that is unknown.
pub(super) fn within(bytes: u64, device: Option<u64>) -> Result<u64> {
    match device.filter(|device| bytes > *device) {
        None => Ok(bytes),
        Some(device) => {
            let (bytes, device) = (format::bytes(bytes), format::bytes(device));
            let reason =
                format!("the exam holds the model's weights, {bytes}; the device has {device}");
            Err(Error::OutOfMemory { reason })
        }
    }
}
