//! Milliseconds of the reduction of an update by the size of the adapter, over the ranks that the environment describes:
//!
//! ```sh
//! mlx.launch -n 2 --backend ring -- target/release/examples/reductions
//! ```

use std::time::Instant;

use mlx_rs::Array;
use models::Group;

const ROUNDS: usize = 20;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let group = Group::from_env()?;
    if group.is_first() {
        println!("{} ranks, {ROUNDS} reductions each: median and longest in ms", group.size());
    }
    for values in [1 << 16, 1 << 20, 1 << 22, 1 << 24] {
        let array = Array::zeros::<f32>(&[values])?;
        let mut times = Vec::new();
        for _ in 0..ROUNDS {
            group.barrier()?;
            let begun = Instant::now();
            group.all_sum(&array)?;
            times.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        if group.is_first() {
            let (median, longest) = (times[ROUNDS / 2], times[ROUNDS - 1]);
            println!("{:8.2} MB {median:9.2} {longest:9.2}", f64::from(values) * 4e-6);
        }
    }
    Ok(())
}
