//! The gated delta rule forward and backward, with the sizes of a layer of Qwen3.5-27B: time and
//! memory by length of the row and of the chunks.
//!
//! ```sh
//! cargo run --release -p nightshift-benches --example gated-delta
//! python benches/peers/gated_delta.py   # the same with mlx-lm's training code
//! ```
//!
//! Memory is MLX's peak, with inputs, outputs and gradients. BLAS uses one thread, as in each lane of
//! the trainer; matrix products of this size are no faster with two.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use mlx_rs::transforms::{eval, fallible_vjp};
use mlx_rs::{Array, Dtype, memory, random};
use mlx_sys::blas::OpenBlas;
use models::layers::{GatedDelta, Rows, gated_delta, gated_delta_in_chunks};

const KEY_HEADS: i32 = 16;
const VALUE_HEADS: i32 = 48;
const WIDTH: i32 = 128;
const RUNS: usize = 3;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if let Some(blas) = OpenBlas::get() {
        blas.set_threads(NonZeroUsize::MIN);
    }
    println!("| tokens | chunk | ms | ms a token | MB | MB a token |\n|--:|--:|--:|--:|--:|--:|");
    for chunk in [16, 32, 64] {
        row(2048, Some(chunk))?;
    }
    for length in [512, 2048, 8192] {
        row(length, None)?;
    }
    Ok(())
}

/// One line of the table, from the fastest of [`RUNS`] runs.
fn row(length: i32, chunk: Option<usize>) -> Result<(), Box<dyn std::error::Error>> {
    let inputs = inputs(length)?;
    let rows = Rows::new([length as usize])?;
    let cotangent = random::normal::<f32>(&[1, length, VALUE_HEADS, WIDTH], None, None, None)?;
    eval(inputs.iter().chain([&cotangent]))?;
    let rule = |arrays: &[Array]| {
        let [queries, keys, values, log_decay, beta] =
            [0, 1, 2, 3, 4].map(|index: usize| arrays[index].clone());
        let inputs = GatedDelta { queries, keys, values, log_decay, beta };
        let (output, _) = match chunk {
            Some(chunk) => gated_delta_in_chunks(&inputs, &rows, None, chunk)?,
            None => gated_delta(&inputs, &rows, None)?,
        };
        Ok(vec![output])
    };
    let mut best = Duration::MAX;
    memory::reset_peak_memory()?;
    for _ in 0..RUNS {
        let start = Instant::now();
        let (outputs, gradients) = fallible_vjp(rule, &inputs, std::slice::from_ref(&cotangent))?;
        eval(outputs.iter().chain(&gradients))?;
        best = best.min(start.elapsed());
    }
    let (ms, mb) = (best.as_secs_f64() * 1e3, memory::peak_memory()? as f64 / 1e6);
    let tokens = f64::from(length);
    let chunk = chunk.map_or("chosen".into(), |chunk| chunk.to_string());
    println!(
        "| {length} | {chunk} | {ms:.0} | {:.3} | {mb:.0} | {:.3} |",
        ms / tokens,
        mb / tokens
    );
    Ok(())
}

/// Queries, keys, values, log decay, beta.
fn inputs(length: i32) -> Result<Vec<Array>, Box<dyn std::error::Error>> {
    let normal = |heads: i32| random::normal::<f32>(&[1, length, heads, WIDTH], None, None, None);
    let unit = |heads: i32| mlx_rs::fast::rms_norm(&normal(heads)?, None, 1e-6);
    let scaled = |x: Array, by: f32| x.multiply(Array::from_f32(by));
    let width = WIDTH as f32;
    let gates = [1, length, VALUE_HEADS];
    let uniform = |low: f32, high: f32| random::uniform::<_, f32>(low, high, &gates, None);
    let inputs = vec![
        scaled(unit(KEY_HEADS)?, width.recip())?,
        scaled(unit(KEY_HEADS)?, width.sqrt().recip())?,
        normal(VALUE_HEADS)?,
        uniform(-3.0, -0.001)?,
        uniform(0.0, 1.0)?,
    ];
    assert!(inputs.iter().all(|array| array.dtype() == Dtype::Float32));
    eval(&inputs)?;
    Ok(inputs)
}
