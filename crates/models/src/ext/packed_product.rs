//! Products of packed matrices with few rows on a CPU.

use kernels::{Floats, PackedInputs, PackedMatrix};
use mlx_rs::{Array, Dtype, transforms};
use rayon::prelude::*;
use zerocopy::{FromBytes, IntoBytes};

use super::{Packed, cpu_op_of_words};
use crate::Result;

/// With more rows, a product through BLAS with the dequantized matrix is faster.
const MOST_ROWS: usize = 16;
/// Values of a matrix that are worth a task of their own on another core: about 50 us.
const VALUES_PER_TASK: usize = 1 << 20;

/// An affinely quantized matrix `[out, in]` for products with few rows. It computes in f32 with the values that dequantizing
/// gives.
#[derive(Clone, Debug)]
pub(crate) struct PackedWeight {
    codes: Array,
    scales: Array,
    biases: Array,
    /// Of scales and biases, which are held as words.
    format: Dtype,
    outputs: usize,
    inputs: usize,
    group_size: usize,
    bits: usize,
}

impl PackedWeight {
    /// `None` if there is no kernel for its encoding: affine, of 4 or 8 bits, in groups of a multiple of 32.
    pub fn new(matrix: Packed<'_>) -> Result<Option<Self>> {
        let Packed { values, scales, biases: Some(biases), group_size, bits, .. } = matrix else {
            return Ok(None);
        };
        if !matches!(bits, 4 | 8) || group_size % 32 != 0 || values.ndim() != 2 {
            return Ok(None);
        }
        let format = match (scales.dtype(), scales.size() % 2) {
            (Dtype::Float16 | Dtype::Bfloat16, 0) if biases.dtype() == scales.dtype() => {
                scales.dtype()
            }
            _ => Dtype::Float32,
        };
        let words = |array: &Array| -> Result<Array> {
            Ok(array.as_dtype(format)?.flatten(None, None)?.view_dtype(Dtype::Uint32)?)
        };
        let weight = Self {
            codes: values.clone(),
            scales: words(scales)?,
            biases: words(biases)?,
            format,
            outputs: values.dim(0) as usize,
            inputs: (values.dim(1) * 32 / bits) as usize,
            group_size: group_size as usize,
            bits: bits as usize,
        };
        // Arrays that are not evaluated can only be used on the thread that made them.
        transforms::eval([&weight.codes, &weight.scales, &weight.biases])?;
        Ok(Some(weight))
    }

    /// Whether [`product`](Self::product) is the right one for `x`.
    pub fn suits(x: &Array) -> bool {
        let width = x.shape().last().map_or(1, |&width| width.max(1) as usize);
        x.dtype() == Dtype::Float32 && x.size() <= MOST_ROWS * width
    }

    /// `x W^T` for `x` `[.., in]`. Not differentiable.
    pub fn product(&self, x: &Array) -> Result<Array> {
        let Self { format, outputs, inputs, group_size, bits, .. } = *self;
        let mut shape = x.shape().to_vec();
        if let Some(last) = shape.last_mut() {
            *last = outputs as i32;
        }
        let [product] = cpu_op_of_words(
            [&self.codes, &self.scales, &self.biases],
            [x],
            [&shape],
            move |[codes, scales, biases], [x], [y]| {
                let (scales, biases) = (floats(scales, format), floats(biases, format));
                let matrix = PackedMatrix { codes, scales, biases, group_size, bits };
                product(matrix, &PackedInputs::new(x, inputs, bits), inputs, y);
            },
        )?;
        Ok(product)
    }
}

/// The numbers that words hold. Memory of another alignment, which there is none of, would hold none.
fn floats(words: &[u32], format: Dtype) -> Floats<'_> {
    let halves = || <[u16]>::ref_from_bytes(words.as_bytes()).unwrap_or_default();
    match format {
        Dtype::Float16 => Floats::F16(halves()),
        Dtype::Bfloat16 => Floats::Bf16(halves()),
        _ => Floats::F32(<[f32]>::ref_from_bytes(words.as_bytes()).unwrap_or_default()),
    }
}

/// `y[r, o]`, on several cores if the matrix is large.
fn product(matrix: PackedMatrix, x: &PackedInputs, inputs: usize, y: &mut [f32]) {
    let rows = x.rows().max(1);
    let outputs = y.len() / rows;
    if outputs == 0 {
        return;
    }
    let mut columns = Vec::new();
    let by_output = match rows {
        1 => &mut *y,
        _ => {
            columns.resize(y.len(), 0.0);
            &mut columns
        }
    };
    let per_task = (VALUES_PER_TASK / inputs.max(1)).max(1);
    let part = |(task, products): (usize, &mut [f32])| {
        kernels::packed_product(matrix.without_outputs(task * per_task, inputs), x, products);
    };
    match outputs > per_task {
        true => by_output.par_chunks_mut(rows * per_task).enumerate().for_each(part),
        false => part((0, by_output)),
    }
    if rows > 1 {
        for (row, y) in y.chunks_exact_mut(outputs).enumerate() {
            for (y, products) in y.iter_mut().zip(columns.chunks_exact(rows)) {
                *y = products[row];
            }
        }
    }
}
