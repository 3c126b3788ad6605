use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use mlx_rs::{Array, Dtype};

use super::matrix::Matrix;
use crate::Result;

/// Where layers get their tensors from. Reading is plain file access, without MLX operations: any
/// thread may do it.
///
/// A matrix `NAME` consists of `NAME.weight` and, if it is quantized, `NAME.scales` and
/// `NAME.biases`.
pub(crate) trait WeightSource: fmt::Debug + Send + Sync {
    /// Reads the tensor `name`.
    fn tensor(&self, name: &str) -> Result<Array>;

    /// Reads all tensors whose names start with `prefix`.
    fn tensors_below(&self, prefix: &str) -> Result<BTreeMap<String, Array>>;

    /// The matrix `name`, assembled from tensors that `read` returns by name.
    fn assemble(&self, name: &str, read: &mut dyn FnMut(&str) -> Result<Array>) -> Result<Matrix>;

    /// Reads these rows of the matrix `name`, one range after the other.
    fn matrix_rows(&self, name: &str, rows: &[Range<usize>]) -> Result<Matrix>;

    /// The floating-point type that the matrix `name` was computed with when the checkpoint was made.
    fn float_type(&self, name: &str) -> Dtype;

    /// Bytes of the tensors whose names start with `prefix`, as stored.
    fn bytes_below(&self, prefix: &str) -> u64;

    /// Reads the matrix `name`.
    fn matrix(&self, name: &str) -> Result<Matrix> {
        self.assemble(name, &mut |name| self.tensor(name))
    }
}
