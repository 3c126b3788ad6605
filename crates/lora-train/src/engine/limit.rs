//! MLX's memory limit while an engine runs.

use mlx_rs::memory;

use crate::Result;

/// Sets MLX's memory limit, and restores the previous one when dropped.
///
/// MLX allocates the outputs of operations well before it computes them. Above the limit it waits
/// until running operations have released memory.
pub(super) struct MemoryLimit {
    before: usize,
}

impl MemoryLimit {
    pub(super) fn new(bytes: u64) -> Result<Self> {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        Ok(Self { before: memory::set_memory_limit(bytes)? })
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        // Setting the limit succeeded before, and a destructor cannot report an error.
        let _ = memory::set_memory_limit(self.before);
    }
}
