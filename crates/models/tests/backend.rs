//! The choice of kernels: by argument, by environment variable, by device.

use std::path::PathBuf;
use std::process::Command;

use mlx_rs::Array;
use models::{Adapter, Kernels, Model, OpenOptions, WeightResidency};

const VARIABLE: &str = "NIGHTSHIFT_KERNELS";

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden").join(name)
}

fn logits(name: &str, kernels: Kernels) -> Array {
    let options = OpenOptions::from(WeightResidency::Packed).kernels(kernels);
    let model = Model::open_with(fixture(name), options).unwrap();
    model.logits(&[3, 1, 4, 1, 5, 9, 2, 6], &Adapter::none(&model)).unwrap()
}

fn largest(array: &Array) -> f32 {
    array.abs().unwrap().max(None).unwrap().item_exact()
}

/// bf16 has 8 bits of precision. These checkpoints are badly conditioned: mlx-lm's own logits in bf16
/// differ from those in f32 by 2.9e-2 of the largest.
#[test]
fn native_kernels_agree_with_blas_to_bf16() {
    for name in ["mlx_lm/model", "gemma4/dense", "gemma4/dense-4bit", "qwen35/tied"] {
        let blas = logits(name, Kernels::Blas);
        let native = logits(name, Kernels::Native);
        let apart = largest(&native.subtract(&blas).unwrap()) / largest(&blas);
        println!("{name}: {apart:.1e}");
        assert!(apart > 0.0 && apart < 0.1, "{name}: {apart:e}");
    }
}

/// Runs this test again in a process with the variable set.
#[test]
fn the_environment_overrides_the_device() {
    let model = || Model::open(fixture("mlx_lm/model"));
    match std::env::var(VARIABLE).as_deref() {
        Ok("native") => {
            let model = model().unwrap();
            assert_eq!((model.computes_packed(), model.bytes_per_value()), (true, 2));
        }
        Ok("native-f32") => {
            let model = model().unwrap();
            assert_eq!((model.computes_packed(), model.bytes_per_value()), (true, 4));
        }
        Ok("blas") => assert!(!model().unwrap().computes_packed()),
        Ok(_) => {
            let error = model().unwrap_err().to_string();
            assert_eq!(
                error,
                r#"NIGHTSHIFT_KERNELS: expected native, native-f32 or blas, found "cuda""#
            );
            // An argument decides before the variable.
            let options = OpenOptions::default().kernels(Kernels::Blas);
            assert!(!Model::open_with(fixture("mlx_lm/model"), options).unwrap().computes_packed());
        }
        Err(_) => {
            for value in ["native", "native-f32", "blas", "cuda"] {
                let mut child = Command::new(std::env::current_exe().unwrap());
                child.args(["--exact", "the_environment_overrides_the_device"]);
                assert!(child.env(VARIABLE, value).status().unwrap().success(), "{value}");
            }
        }
    }
}
