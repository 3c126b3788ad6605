//! The build script's wheel cache, without a network.

#![allow(dead_code)]

#[path = "../build/failure.rs"]
mod failure;
#[path = "../build/platform.rs"]
mod platform;
#[path = "../build/wheels.rs"]
mod wheels;

use platform::Platform;
use wheels::{Accelerator, Wheel, WheelCache};

#[test]
fn requirement_and_platform_come_from_the_file_name() {
    for (wheel, requirement, platform) in [
        (
            Wheel::mlx(Platform::LinuxX86, Accelerator::Native).unwrap(),
            "mlx_cpu==0.32.4",
            "manylinux_2_35_x86_64",
        ),
        (
            Wheel::mlx(Platform::LinuxX86, Accelerator::Cuda).unwrap(),
            "mlx_cuda_13==0.32.4",
            "manylinux_2_35_x86_64",
        ),
        (
            Wheel::mlx(Platform::MacArm, Accelerator::Native).unwrap(),
            "mlx_metal==0.32.4",
            "macosx_15_0_arm64",
        ),
        (
            Wheel::openblas(Platform::LinuxX86).unwrap(),
            "scipy_openblas32==0.3.34.481.3",
            "manylinux_2_28_x86_64",
        ),
        (Wheel::libclang(Platform::MacArm), "libclang==18.1.1", "macosx_11_0_arm64"),
    ] {
        assert_eq!(wheel.requirement(), requirement);
        assert_eq!(wheel.platform_tag(), platform);
    }
}

/// The loader resolves everything that MLX's CUDA build needs, but for the driver. Two gigabytes are downloaded, once.
#[test]
fn cuda_needs_nothing_but_the_driver() {
    if std::env::var_os("NIGHTSHIFT_TEST_CUDA").is_none()
        || !cfg!(all(target_os = "linux", target_arch = "x86_64"))
    {
        return eprintln!("skipped: needs NIGHTSHIFT_TEST_CUDA=1 on Linux x86-64 (2 GB of wheels)");
    }
    let folder = tempfile::tempdir().unwrap();
    let cache = WheelCache::of_user(Platform::LinuxX86).unwrap();
    let mlx = Wheel::mlx(Platform::LinuxX86, Accelerator::Cuda).unwrap();
    for wheel in [&mlx].into_iter().chain(Wheel::runtime(Accelerator::Cuda)) {
        wheels::unpack(&cache.get(wheel).unwrap(), folder.path()).unwrap();
    }
    let library = folder.path().join("mlx/lib/libmlx.so");
    let listed = std::process::Command::new("ldd").arg(&library).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let missing: Vec<&str> =
        listed.lines().filter(|line| line.contains("not found")).map(str::trim).collect();
    assert!(listed.contains("libcudnn.so.9 => "), "{listed}");
    assert!(missing.iter().all(|line| line.starts_with("libcuda.so.1 ")), "{missing:?}");
}

#[test]
fn cuda_on_arm_is_refused() {
    let failure = Wheel::mlx(Platform::LinuxArm, Accelerator::Cuda).unwrap_err().to_string();
    assert!(failure.contains("no CUDA build of MLX is pinned for LinuxArm"), "{failure}");
}

#[test]
fn a_verified_wheel_is_not_downloaded_again() {
    let folder = tempfile::tempdir().unwrap();
    let wheel = Wheel {
        file: "tool-1.0-py3-none-any.whl",
        sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    };
    let kept = folder.path().join(wheel.file);
    std::fs::write(&kept, "abc").unwrap();
    assert_eq!(WheelCache::at(folder.path().to_owned()).get(&wheel).unwrap(), kept);
}

#[test]
fn a_damaged_wheel_is_downloaded_again() {
    let folder = tempfile::tempdir().unwrap();
    let wheel = Wheel { file: "nightshift_no_such_tool-0.0.0-py3-none-any.whl", sha256: "00" };
    std::fs::write(folder.path().join(wheel.file), "damaged").unwrap();
    // SAFETY: in this process only the standard library touches the environment, under its own lock.
    unsafe { std::env::set_var("PIP_NO_INDEX", "1") };
    let failure = WheelCache::at(folder.path().to_owned()).get(&wheel).unwrap_err().to_string();
    for part in [
        "could not download",
        wheel.file,
        "pip says",
        "What to do",
        folder.path().to_str().unwrap(),
    ] {
        assert!(failure.contains(part), "{part:?} is missing in: {failure}");
    }
    let left: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [wheel.file], "a failed download leaves nothing behind");
}
