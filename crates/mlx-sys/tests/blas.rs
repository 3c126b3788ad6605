//! OpenBLAS, not the reference BLAS of MLX's wheel, computes MLX's matrix products.

use std::{ffi::c_char, io::Write, num::NonZeroUsize, path::Path};

use mlx_sys::{SharedCpu, blas::OpenBlas};

unsafe extern "C" {
    fn dlsym(handle: *mut std::ffi::c_void, symbol: *const c_char) -> *mut std::ffi::c_void;
    fn dladdr(address: *const std::ffi::c_void, info: *mut Origin) -> i32;
}

/// `Dl_info` of the C library.
#[repr(C)]
struct Origin {
    file: *const c_char,
    base: *mut std::ffi::c_void,
    symbol: *const c_char,
    address: *mut std::ffi::c_void,
}

/// The shared library whose `symbol` libmlx calls: the first of the process that defines it.
fn provider(symbol: &std::ffi::CStr) -> String {
    let mut origin = Origin {
        file: std::ptr::null(),
        base: std::ptr::null_mut(),
        symbol: std::ptr::null(),
        address: std::ptr::null_mut(),
    };
    // SAFETY: a null handle is RTLD_DEFAULT on Linux; `origin` is filled when dladdr returns non-zero.
    let file = unsafe {
        let address = dlsym(std::ptr::null_mut(), symbol.as_ptr());
        assert!(!address.is_null(), "{symbol:?} is not in this process");
        assert_ne!(dladdr(address, &mut origin), 0);
        std::ffi::CStr::from_ptr(origin.file)
    };
    Path::new(file.to_str().unwrap()).file_name().unwrap().to_str().unwrap().to_owned()
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "a Mac's MLX uses Accelerate")]
fn openblas_computes_every_product() {
    let Some(openblas) = OpenBlas::get() else {
        // Written around the capture of the test harness, so that the skipped check is seen.
        let _ = writeln!(std::io::stderr(), "skipped: MLX_ROOT brings its own BLAS");
        return;
    };
    assert!(openblas.config().starts_with("OpenBLAS "), "{}", openblas.config());
    // Uses MLX, so that libmlx is among the libraries of this process.
    mlx_rs::Array::from_f32(1.0).eval().unwrap();
    for symbol in [c"cblas_sgemm", c"cblas_dgemm", c"cblas_cgemm"] {
        assert_eq!(provider(symbol), "libnightshift_mlx.so", "for {symbol:?}");
    }
    assert_eq!(provider(c"scipy_cblas_sgemm"), "libscipy_openblas.so");
}

#[test]
fn threads_can_be_set() {
    let Some(openblas) = OpenBlas::get() else { return };
    let before = openblas.threads();
    openblas.set_threads(NonZeroUsize::MIN);
    assert_eq!(openblas.threads(), 1);
    openblas.set_threads(NonZeroUsize::new(before).unwrap());
    assert_eq!(openblas.threads(), before);

    let cores = std::thread::available_parallelism().unwrap().get();
    let shared = SharedCpu::among(2);
    assert_eq!(openblas.threads(), (cores / 2).max(1));
    // More operations than MLX lets wait by default.
    let mut sum = mlx_rs::Array::from_f32(0.0);
    for _ in 0..2000 {
        sum = sum.add(mlx_rs::Array::from_f32(1.0)).unwrap();
    }
    assert_eq!(sum.item_exact::<f32>(), 2000.0);
    drop(shared);
    assert_eq!(openblas.threads(), before);
}
