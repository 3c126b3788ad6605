//! A criterion measurement of MLX's peak memory. Criterion's report calls every measurement "time";
//! the unit of these is MiB.

use std::time::Duration;

use criterion::Criterion;
use criterion::Throughput;
use criterion::measurement::{Measurement, ValueFormatter};
use mlx_rs::memory;

/// Peak memory in bytes.
pub struct PeakMemory;

struct Mebibytes;

impl Measurement for PeakMemory {
    type Intermediate = ();
    type Value = u64;

    fn start(&self) {
        memory::reset_peak_memory().expect("MLX's memory counter");
    }

    fn end(&self, (): ()) -> u64 {
        memory::peak_memory().expect("MLX's memory counter") as u64
    }

    fn add(&self, a: &u64, b: &u64) -> u64 {
        a + b
    }

    fn zero(&self) -> u64 {
        0
    }

    fn to_f64(&self, value: &u64) -> f64 {
        *value as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        &Mebibytes
    }
}

impl ValueFormatter for Mebibytes {
    fn scale_values(&self, _: f64, values: &mut [f64]) -> &'static str {
        values.iter_mut().for_each(|bytes| *bytes /= f64::from(1 << 20));
        "MiB"
    }

    fn scale_throughputs(&self, _: f64, _: &Throughput, _: &mut [f64]) -> &'static str {
        ""
    }

    fn scale_for_machines(&self, values: &mut [f64]) -> &'static str {
        self.scale_values(0.0, values)
    }
}

/// Few runs without warm-up, because memory hardly varies. Ten samples are criterion's minimum.
pub fn by_memory() -> Criterion<PeakMemory> {
    let quick = Criterion::default().with_measurement(PeakMemory).sample_size(10);
    quick.warm_up_time(Duration::from_millis(1)).measurement_time(Duration::from_millis(1))
}
