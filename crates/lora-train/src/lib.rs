//! LoRA training, layer by layer: batches, loss, optimizer, checkpoints.
