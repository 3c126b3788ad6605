//! MLX's own limit, for as long as an engine runs.

use mlx_rs::memory;

use crate::Result;

/// MLX asks for the memory of operations well before it computes them. Above its limit it waits
/// instead for those under way, which give theirs back. Dropped, this puts the old limit back.
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
        // It could be set before, so it can be set again.
        let _ = memory::set_memory_limit(self.before);
    }
}
