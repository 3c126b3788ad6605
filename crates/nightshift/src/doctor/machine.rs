//! Device, memory, disk, and the cache of models.

use std::path::{Path, PathBuf};

use mlx_rs::{Device, DeviceType};
use mlx_sys::blas::OpenBlas;
use models::Kernels;
use pipeline::format;
use pipeline::schedule::ProgramCopy;

use super::finding::Finding;

/// Below this, a night of the smallest model fails.
const DISK: u64 = 2_000_000_000;

pub(super) fn examine(home: &Path) -> Vec<Finding> {
    vec![program(), device(), kernels(), blas(), memory(), disk(home), models_cache()]
}

/// The program, and the libraries without which it does not start.
fn program() -> Finding {
    let path = std::env::current_exe().unwrap_or_default();
    let program = format!("{} {}", env!("CARGO_PKG_VERSION"), path.display());
    let copy = ProgramCopy::plan(&path, Path::new("/"));
    let libraries = match &copy {
        Ok(copy) => copy.libraries(),
        Err(error) => return Finding::problem("program", error, "install it again"),
    };
    match libraries {
        Some(folder) if !path.starts_with(folder) => Finding::good(
            "program",
            format!("{program}; it starts only as long as {} is there", folder.display()),
        ),
        _ => Finding::good("program", program),
    }
}

/// Where MLX computes.
fn device() -> Finding {
    let kind = Device::try_default().and_then(|device| device.get_type());
    match kind {
        Ok(DeviceType::Gpu) => Finding::good("device", "GPU"),
        Ok(DeviceType::Cpu) if Path::new("/proc/driver/nvidia/version").exists() => {
            Finding::advice(
                "device",
                "CPU, although there is an NVIDIA driver",
                "build with NIGHTSHIFT_MLX=cuda to compute on the GPU",
            )
        }
        Ok(DeviceType::Cpu) => Finding::good("device", "CPU"),
        Err(error) => Finding::problem("device", error, "build again; MLX has no device here"),
    }
}

fn kernels() -> Finding {
    match std::env::var("NIGHTSHIFT_KERNELS") {
        Err(_) => Finding::good("kernels", "the device's default"),
        Ok(name) => match name.parse::<Kernels>() {
            Ok(_) => Finding::good("kernels", format!("{name}, by NIGHTSHIFT_KERNELS")),
            Err(error) => Finding::problem("kernels", error, "unset NIGHTSHIFT_KERNELS"),
        },
    }
}

/// Whether OpenBLAS uses the vector instructions that the processor has.
fn blas() -> Finding {
    let Some(blas) = OpenBlas::get() else {
        return Finding::good("BLAS", "the one that MLX was built with");
    };
    let config = blas.config();
    let found = format!("{}, {} threads", config.trim(), blas.threads());
    match is_slow(&config, has_avx2()) {
        false => Finding::good("BLAS", found),
        true => Finding::problem(
            "BLAS",
            format!("{found}: kernels without AVX2, which this processor has"),
            "set OPENBLAS_CORETYPE=Haswell",
        ),
    }
}

/// Whether a configuration of OpenBLAS names kernels of a processor without AVX2.
fn is_slow(config: &str, avx2: bool) -> bool {
    const WITHOUT_AVX2: [&str; 8] = [
        "Prescott",
        "Core2",
        "Penryn",
        "Dunnington",
        "Nehalem",
        "Sandybridge",
        "Barcelona",
        "Atom",
    ];
    avx2 && config
        .split_whitespace()
        .any(|word| WITHOUT_AVX2.iter().any(|core| core.eq_ignore_ascii_case(word)))
}

fn has_avx2() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx2");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

fn memory() -> Finding {
    match lora_train::memory::physical_memory() {
        Some(bytes) => Finding::good("memory", format::bytes(bytes)),
        None => Finding::unknown("memory", "the system does not say"),
    }
}

/// The disk of the home, or of the folder in which it will be.
fn disk(home: &Path) -> Finding {
    let there: Option<PathBuf> = std::path::absolute(home)
        .ok()
        .and_then(|home| home.ancestors().find(|path| path.is_dir()).map(Path::to_path_buf));
    let Some(folder) = there else { return Finding::unknown("disk", home.display()) };
    match pipeline::free_space(&folder) {
        Err(error) => Finding::unknown("disk", error),
        Ok(free) if free < DISK => Finding::problem(
            "disk",
            format!("{} free at {}", format::bytes(free), folder.display()),
            format!("make room: a night needs at least {}", format::bytes(DISK)),
        ),
        Ok(free) => {
            Finding::good("disk", format!("{} free at {}", format::bytes(free), folder.display()))
        }
    }
}

/// The models of the hub, and downloads that broke off.
fn models_cache() -> Finding {
    let cache = match fetch::hub_cache() {
        Ok(cache) => cache,
        Err(error) => return Finding::problem("models", error, "set HF_HOME"),
    };
    let Ok(items) = std::fs::read_dir(&cache) else {
        return Finding::good("models", format!("{}: none yet", cache.display()));
    };
    let names = items.filter_map(|item| Some(item.ok()?.path()));
    let models: Vec<PathBuf> = names
        .filter(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("models--"))
        })
        .collect();
    let broken: Vec<String> =
        models.iter().filter(|model| is_incomplete(model)).map(|model| name(model)).collect();
    let found = format!("{}: {} models", cache.display(), models.len());
    match broken.is_empty() {
        true => Finding::good("models", found),
        false => Finding::advice(
            "models",
            format!("{found}; not downloaded whole: {}", broken.join(", ")),
            "resume with `nightshift fetch OWNER/NAME`",
        ),
    }
}

/// `OWNER/NAME` of a model's folder in the cache.
fn name(folder: &Path) -> String {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    name.trim_start_matches("models--").replacen("--", "/", 1)
}

/// Whether a part of a file is left in the cache: by the hub's own tools, or by ours.
fn is_incomplete(model: &Path) -> bool {
    let items = std::fs::read_dir(model.join("blobs")).into_iter().flatten();
    let mut names = items.filter_map(|item| item.ok()?.file_name().into_string().ok());
    names.any(|name| name.ends_with(".incomplete") || name.ends_with(".part"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_without_avx2_are_slow_where_there_is_avx2() {
        for (config, slow) in [
            ("OpenBLAS 0.3.30 USE64BITINT DYNAMIC_ARCH NO_AFFINITY Prescott MAX_THREADS=64", true),
            ("OpenBLAS 0.3.30 DYNAMIC_ARCH NO_AFFINITY SkylakeX MAX_THREADS=64", false),
            ("OpenBLAS 0.3.30 DYNAMIC_ARCH NO_AFFINITY Zen MAX_THREADS=64", false),
        ] {
            assert_eq!(is_slow(config, true), slow, "{config}");
            assert!(!is_slow(config, false), "{config}");
        }
    }

    #[test]
    fn a_broken_download_is_found_by_the_name_of_its_model() {
        let cache = tempfile::tempdir().unwrap();
        let model = cache.path().join("models--mlx-community--gemma--4");
        std::fs::create_dir_all(model.join("blobs")).unwrap();
        assert!(!is_incomplete(&model));
        std::fs::write(model.join("blobs/abc.incomplete"), "").unwrap();
        assert!(is_incomplete(&model));
        assert_eq!(name(&model), "mlx-community/gemma--4");
    }
}
