//! What MLX tells about the device.

use mlx_rs::memory::set_wired_limit;

/// The memory that the device is best used up to, in bytes: Metal's recommended working set. `None` where the
/// device does not tell.
pub(crate) fn recommended_memory() -> Option<usize> {
    let mut bytes = 0;
    // SAFETY: the handles are valid for the calls, and each is freed once. Freeing cannot fail in a way that
    // matters.
    let told = unsafe {
        let mut device = mlx_sys::mlx_device_new();
        let mut info = mlx_sys::mlx_device_info_new();
        let key = c"max_recommended_working_set_size".as_ptr();
        let told = mlx_sys::mlx_get_default_device(&mut device) == 0
            && mlx_sys::mlx_device_info_get(&mut info, device) == 0
            && mlx_sys::mlx_device_info_get_size(&mut bytes, info, key) == 0;
        let _ = mlx_sys::mlx_device_info_free(info);
        let _ = mlx_sys::mlx_device_free(device);
        told
    };
    (told && bytes > 0).then_some(bytes)
}

/// Lets MLX keep its memory resident up to what the device recommends, as mlx-lm does: otherwise macOS compresses
/// weights that have not been used for a while. A hint: systems that lack it (before macOS 15) go on without.
pub(crate) fn wire_memory() {
    if let Some(bytes) = recommended_memory() {
        let _ = set_wired_limit(bytes);
    }
}

#[cfg(test)]
mod tests {
    use mlx_rs::{Device, DeviceType};

    use super::*;

    /// A CPU has no such number; a GPU under Metal has one.
    #[test]
    fn a_cpu_recommends_nothing() {
        let cpu = matches!(Device::default().get_type().unwrap(), DeviceType::Cpu);
        if cpu {
            assert_eq!(recommended_memory(), None);
        }
        wire_memory();
    }
}
