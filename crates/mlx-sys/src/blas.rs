//! The BLAS that computes MLX's matrix products on the CPU.

use std::{ffi::CStr, num::NonZeroUsize};

/// The OpenBLAS that computes MLX's matrix products in this process.
///
/// It replaces the reference BLAS of MLX's Linux wheels.
#[derive(Clone, Copy, Debug)]
pub struct OpenBlas(());

#[cfg(nightshift_openblas)]
mod sys {
    use std::ffi::{c_char, c_int};

    unsafe extern "C" {
        pub fn nightshift_openblas_config() -> *const c_char;
        pub fn nightshift_openblas_threads() -> c_int;
        pub fn nightshift_openblas_set_threads(threads: c_int);
    }
}

/// Never called: without OpenBLAS there is no [`OpenBlas`] to call it on.
#[cfg(not(nightshift_openblas))]
mod sys {
    use std::ffi::{c_char, c_int};

    pub unsafe fn nightshift_openblas_config() -> *const c_char {
        c"".as_ptr()
    }
    pub unsafe fn nightshift_openblas_threads() -> c_int {
        1
    }
    pub unsafe fn nightshift_openblas_set_threads(_threads: c_int) {}
}

impl OpenBlas {
    /// OpenBLAS, or `None` where MLX uses the BLAS it was built with: Accelerate on a Mac, or that of
    /// `MLX_ROOT`.
    pub fn get() -> Option<Self> {
        cfg!(nightshift_openblas).then_some(Self(()))
    }

    /// OpenBLAS's build configuration: version, kernels, threading.
    pub fn config(self) -> String {
        // SAFETY: OpenBLAS returns a static, NUL-terminated string.
        unsafe { CStr::from_ptr(sys::nightshift_openblas_config()) }.to_string_lossy().into_owned()
    }

    /// The number of threads that one matrix product may use.
    pub fn threads(self) -> usize {
        // SAFETY: a getter without arguments.
        usize::try_from(unsafe { sys::nightshift_openblas_threads() }).unwrap_or(1)
    }

    /// Sets the number of threads that one matrix product may use, for the whole process.
    pub fn set_threads(self, threads: NonZeroUsize) {
        let threads = i32::try_from(threads.get()).unwrap_or(i32::MAX);
        // SAFETY: any positive number is valid; OpenBLAS caps it.
        unsafe { sys::nightshift_openblas_set_threads(threads) };
    }
}
