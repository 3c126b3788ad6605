//! Speed of prefill and decoding as JSON lines, measured like `generate_mlx_lm.py`.
//!
//! `cargo run --release -p nightshift-benches --example generation -- MODEL [BATCH...]`

use std::time::Instant;

use models::{Adapter, GenerateOptions, Generator, Model};

const PROMPT: usize = 32;
const NEW: usize = 8;

/// The same pseudorandom tokens as in the Python script.
fn prompts(batch: usize, vocabulary: u64) -> Vec<Vec<u32>> {
    let mut state = 1u64;
    let mut next = || {
        state = (state * 1_103_515_245 + 12_345) % (1 << 31);
        (state / 65_536 % vocabulary) as u32
    };
    (0..batch).map(|_| (0..PROMPT).map(|_| next()).collect()).collect()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let model = Model::open(arguments.next().ok_or("expected MODEL [BATCH...]")?)?;
    let mut batches = arguments.map(|batch| batch.parse()).collect::<Result<Vec<usize>, _>>()?;
    if batches.is_empty() {
        batches = vec![1, 8, 32];
    }
    let adapter = Adapter::none(&model);
    let generator = Generator::new(&model, &adapter)?;
    for batch in batches {
        let prompts = prompts(batch, model.config().vocab_size as u64);
        let timed = |max_tokens| -> models::Result<_> {
            let options = GenerateOptions { max_tokens, ..GenerateOptions::default() };
            let begun = Instant::now();
            let answers = generator.generate(&prompts, &options)?;
            Ok((begun.elapsed().as_secs_f64(), answers))
        };
        // Prefill also yields the first new token of each prompt.
        let (prefill, _) = timed(1)?;
        let (whole, answers) = timed(NEW + 1)?;
        let rate = |tokens: usize, seconds: f64| (batch * tokens) as f64 / seconds;
        println!(
            "{}",
            serde_json::json!({
                "batch": batch,
                "prefill_tokens_per_second": rate(PROMPT, prefill),
                "decode_tokens_per_second": rate(NEW, whole - prefill),
                "first_row": answers[0].tokens,
            })
        );
    }
    Ok(())
}
