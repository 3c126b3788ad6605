//! Matrix products in f32, which take most of the time of a training update.
//!
//! Criterion's "elements" are floating-point operations: `Gelem/s` is GFLOP/s.

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mlx_rs::{Array, random};
use mlx_sys::blas::OpenBlas;

/// Rows, inner dimension, columns: a square, and SmolLM2-135M's projections for 512 tokens.
const SHAPES: [(i32, i32, i32); 4] =
    [(1024, 1024, 1024), (512, 576, 576), (512, 576, 1536), (512, 1536, 576)];

fn matrix(rows: i32, columns: i32) -> Array {
    let matrix = random::uniform::<_, f32>(-1.0, 1.0, &[rows, columns], None);
    let matrix = matrix.expect("uniform numbers");
    matrix.eval().expect("uniform numbers");
    matrix
}

fn gemm(criterion: &mut Criterion) {
    match OpenBlas::get() {
        Some(openblas) => eprintln!("{}, {} threads", openblas.config(), openblas.threads()),
        None => eprintln!("the BLAS that MLX was built with"),
    }
    let mut group = criterion.benchmark_group("gemm");
    group.sample_size(20).measurement_time(Duration::from_secs(2));
    for (rows, inner, columns) in SHAPES {
        let (a, b) = (matrix(rows, inner), matrix(inner, columns));
        let operations = 2 * i64::from(rows) * i64::from(inner) * i64::from(columns);
        group.throughput(Throughput::Elements(operations.unsigned_abs()));
        group.bench_function(format!("{rows}x{inner}x{columns}"), |bencher| {
            bencher.iter(|| a.matmul(&b).and_then(|product| product.eval()).expect("a product"));
        });
    }
    group.finish();
}

criterion_group!(benches, gemm);
criterion_main!(benches);
