//! mlx-rs on this crate: products, gradients, quantized weights and half-precision values.

use std::process::Command;

use mlx_rs::{Array, ops, transforms};

#[test]
fn matrix_product() {
    let a = Array::from_slice(&[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3]);
    let b = Array::from_slice(&[7.0f32, 8.0, 9.0, 10.0, 11.0, 12.0], &[3, 2]);
    assert_eq!(a.matmul(&b).unwrap().as_slice::<f32>(), [58.0, 64.0, 139.0, 154.0]);
}

#[test]
fn a_vjp_is_the_transposed_jacobian() {
    // y = x * x, so the vector-Jacobian product of c is 2 x c.
    let square = |x: &[Array]| Ok(vec![x[0].multiply(&x[0])?]);
    let x = Array::from_slice(&[1.0f32, -2.0, 3.0], &[3]);
    let c = Array::from_slice(&[1.0f32, 10.0, 100.0], &[3]);
    let (y, gradient) = transforms::fallible_vjp(square, &[x], &[c]).unwrap();
    assert_eq!(y[0].as_slice::<f32>(), [1.0, 4.0, 9.0]);
    assert_eq!(gradient[0].as_slice::<f32>(), [2.0, -40.0, 600.0]);
}

#[test]
fn quantization_is_exact_to_one_step() {
    let weights: Vec<f32> = (0..128).map(|i| (i as f32 * 0.37).sin()).collect();
    let dense = Array::from_slice(&weights, &[2, 64]);
    let (packed, scales, biases) = ops::quantize(&dense, 32, 8).unwrap();
    let back = ops::dequantize(&packed, &scales, &biases, 32, 8).unwrap();
    // 8 bits over a range of at most 2. MLX widens the scale so that zero is exact, so the error is at most one step.
    for (found, expected) in back.as_slice::<f32>().iter().zip(&weights) {
        assert!((found - expected).abs() < 2.0 / 255.0, "{found} is far from {expected}");
    }
}

#[test]
fn halves_keep_their_bits() {
    let one_and_a_half = Array::from_f32(1.5);
    let half = one_and_a_half.as_type::<half::f16>().unwrap();
    assert_eq!(half.item_exact::<half::f16>().to_bits(), 0x3e00);
    let brain = one_and_a_half.as_type::<half::bf16>().unwrap();
    assert_eq!(brain.item_exact::<half::bf16>().to_bits(), 0x3fc0);
}

/// Set before MLX reads it, unless the user has set it. Runs this test again in a process with the variable.
#[test]
fn products_in_f32_are_not_cut_to_tf32_unless_asked_for() {
    const NAME: &str = "MLX_ENABLE_TF32";
    let product = Array::from_f32(2.0).multiply(Array::from_f32(3.0)).unwrap();
    assert_eq!(product.item_exact::<f32>(), 6.0, "the library is loaded");
    let value = std::env::var(NAME).unwrap();
    match std::env::var("EXPECTED_TF32") {
        Ok(expected) => assert_eq!(value, expected),
        Err(_) => {
            for (set, expected) in [(None, "0"), (Some("1"), "1")] {
                let mut child = Command::new(std::env::current_exe().unwrap());
                child.args(["--exact", "products_in_f32_are_not_cut_to_tf32_unless_asked_for"]);
                child.env_remove(NAME).env("EXPECTED_TF32", expected);
                child.envs(set.map(|value| (NAME, value)));
                assert!(child.status().unwrap().success(), "{set:?}");
            }
        }
    }
}
