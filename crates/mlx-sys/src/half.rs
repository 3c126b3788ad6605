//! Half-precision accessors. On Arm they are in mlx-c's headers; on other machines the shim defines them over 16-bit
//! words, with the names and types that mlx-rs expects.

#![allow(non_camel_case_types)]

use std::ffi::c_int;

use crate::mlx_array;

/// The bits of an IEEE half-precision number.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(transparent)]
pub struct float16_t(pub u16);

/// The bits of a bfloat16 number.
pub type bfloat16_t = u16;

unsafe extern "C" {
    /// Writes the only element of a float16 array to `res`; returns 0 on success.
    pub fn mlx_array_item_float16(res: *mut float16_t, arr: mlx_array) -> c_int;
    /// The elements of an evaluated float16 array.
    pub fn mlx_array_data_float16(arr: mlx_array) -> *const float16_t;
    /// Writes the only element of a bfloat16 array to `res`; returns 0 on success.
    pub fn mlx_array_item_bfloat16(res: *mut bfloat16_t, arr: mlx_array) -> c_int;
    /// The elements of an evaluated bfloat16 array.
    pub fn mlx_array_data_bfloat16(arr: mlx_array) -> *const bfloat16_t;
}
