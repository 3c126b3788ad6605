#![doc = include_str!("../README.md")]

pub mod blas;
#[cfg(not(target_arch = "aarch64"))]
mod half;
mod shared_cpu;

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
pub use shared_cpu::SharedCpu;
