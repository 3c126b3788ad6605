//! MLX's groups of processes: joining one, and its collective operations.

use std::ffi::CStr;

use mlx_rs::{Array, Stream, StreamOrDevice};
use mlx_sys::{mlx_array, mlx_distributed_group, mlx_stream};

use super::call::{check, filled, handle_errors};
use crate::Result;

/// A collective operation: every rank of a group calls it with an array of the same shape and type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Collective {
    /// The elementwise sum.
    Sum,
    /// The elementwise maximum.
    Max,
    /// The elementwise minimum.
    Min,
    /// The arrays of all ranks, concatenated along the first axis in the order of the ranks.
    Gather,
}

/// A group of processes that MLX has connected. It stays on the thread that joined it, as its stream does.
pub(crate) struct ConnectedGroup {
    handle: mlx_distributed_group,
    stream: Stream,
}

impl ConnectedGroup {
    /// Whether the MLX library has a backend of this name.
    pub(crate) fn is_available(backend: &CStr) -> bool {
        // SAFETY: the name is a string that ends in zero.
        unsafe { mlx_sys::mlx_distributed_is_available(backend.as_ptr()) }
    }

    /// Joins the group that the environment describes to this backend of MLX. Blocks until the ranks are connected.
    ///
    /// # Errors
    /// MLX's, if it cannot connect.
    pub(crate) fn join(backend: &CStr) -> Result<Self> {
        handle_errors();
        // NCCL works on the GPU's stream, the others on a CPU's.
        let stream =
            if backend == c"nccl" { StreamOrDevice::default() } else { StreamOrDevice::cpu() };
        let stream = stream.as_ref().clone();
        // SAFETY: an empty handle is a valid one, and the name is a string that ends in zero.
        let handle = unsafe {
            let mut handle = mlx_sys::mlx_distributed_group_new();
            check(mlx_sys::mlx_distributed_init(&mut handle, true, backend.as_ptr()))?;
            handle
        };
        Ok(Self { handle, stream })
    }

    /// This process's number, counted from 0.
    pub(crate) fn rank(&self) -> usize {
        // SAFETY: the handle is that of a group.
        usize::try_from(unsafe { mlx_sys::mlx_distributed_group_rank(self.handle) })
            .unwrap_or_default()
    }

    /// The number of processes.
    pub(crate) fn size(&self) -> usize {
        // SAFETY: as above.
        usize::try_from(unsafe { mlx_sys::mlx_distributed_group_size(self.handle) })
            .unwrap_or_default()
    }

    /// The evaluated result of `operation`. Blocks until all ranks have called it. `array` must be evaluated.
    ///
    /// # Errors
    /// MLX's, if the connection to a rank is lost.
    pub(crate) fn run(&self, operation: Collective, array: &Array) -> Result<Array> {
        type Function = unsafe extern "C" fn(
            *mut mlx_array,
            mlx_array,
            mlx_distributed_group,
            mlx_stream,
        ) -> i32;
        let function: Function = match operation {
            Collective::Sum => mlx_sys::mlx_distributed_all_sum,
            Collective::Max => mlx_sys::mlx_distributed_all_max,
            Collective::Min => mlx_sys::mlx_distributed_all_min,
            Collective::Gather => mlx_sys::mlx_distributed_all_gather,
        };
        // SAFETY: all handles are valid.
        let result = filled(|result| unsafe {
            function(result, array.as_ptr(), self.handle, self.stream.as_ptr())
        })?;
        // An operation that fails on the stream's thread leaves its error with the stream.
        // SAFETY: the handles are valid.
        check(unsafe { mlx_sys::mlx_array_eval(result.as_ptr()) })?;
        check(unsafe { mlx_sys::mlx_synchronize(self.stream.as_ptr()) })?;
        Ok(result)
    }
}

impl Drop for ConnectedGroup {
    fn drop(&mut self) {
        // SAFETY: owned, and freed once. MLX itself keeps the connections until the process ends.
        let _ = unsafe { mlx_sys::mlx_distributed_group_free(self.handle) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pinned library has the backend that needs nothing but sockets.
    #[test]
    fn the_library_has_the_ring() {
        assert!(ConnectedGroup::is_available(c"ring"));
        assert!(!ConnectedGroup::is_available(c"no such backend"));
    }
}
