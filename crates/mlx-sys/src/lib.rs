//! The MLX runtime for `mlx-rs` on Linux and macOS.
//!
//! A patch of the registry crate of the same name and version: the same C bindings, but MLX comes prebuilt from PyPI
//! and nothing except Rust, a C++ compiler and `python3 -m pip` has to be on the machine. Use `mlx-rs`; this crate
//! only adds what concerns the machine underneath it, in [`blas`].
//!
//! ```
//! use mlx_rs::{Array, ops::indexing::IndexOp};
//!
//! let product = Array::from_slice(&[1.0f32, 2.0, 3.0, 4.0], &[2, 2]).matmul(Array::from_slice(&[1.0f32, 1.0], &[2, 1]))?;
//! assert_eq!(product.as_slice::<f32>(), [3.0, 7.0]);
//! # let _ = product.index(0);
//! # Ok::<(), mlx_rs::error::Exception>(())
//! ```

pub mod blas;
#[cfg(not(target_arch = "aarch64"))]
mod half;

/// Generated from mlx-c's headers, which document every item.
#[allow(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    clippy::all,
    rustdoc::all
)]
mod bindings {
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

pub use bindings::*;
#[cfg(not(target_arch = "aarch64"))]
pub use half::*;
