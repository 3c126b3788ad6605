//! A night of a model that is larger than the memory it may take. A single test, because MLX counts the memory of the whole
//! process.

mod support;

use std::fs;

use mlx_rs::memory::{peak_memory, reset_peak_memory};
use pipeline::{Event, Night, NightConfig, StageName};
use serde_json::json;
use support::Tiny;

const MB: usize = 1_000_000;
/// Less than the model's weights take as they are stored, 50 MB, let alone dequantized, 100 MB.
const LIMIT: usize = 38 * MB;

#[test]
fn training_and_exams_stay_within_a_limit_below_the_models_size() {
    let tiny = Tiny::new();
    tiny.synthesize(&json!({
        "model_type": "llama", "hidden_size": 384, "intermediate_size": 1152,
        "num_hidden_layers": 14, "num_attention_heads": 4, "num_key_value_heads": 2,
        "vocab_size": 259, "rms_norm_eps": 1e-5, "tie_word_embeddings": true,
    }));
    let stored = fs::metadata(tiny.path("model/model.safetensors")).unwrap().len() as usize;
    assert!(stored > LIMIT * 5 / 4, "{stored}");
    // Few and short rows: each update reads the whole model.
    tiny.edit("lora.yaml", "iters: 12", "iters: 2");
    tiny.edit("lora.yaml", "rank: 8", "rank: 2");
    tiny.edit("lora.yaml", "batch_size: 4", "batch_size: 1");
    let limit = format!("lanes: 1, max_tokens_per_step: 128, memory_limit: {}MB", LIMIT / MB);
    tiny.edit("lora.yaml", "lanes: 1", &limit);
    tiny.edit("lora.yaml", "steps_per_eval: 6", "val_batches: 1");
    let config = NightConfig::load(tiny.path("night.yaml")).unwrap();
    let mut peaks = vec![];
    Night::start_or_resume(config)
        .unwrap()
        .run(&mut |event: Event<'_>| match event {
            Event::StageBegun { .. } => reset_peak_memory().unwrap(),
            Event::StageFinished { stage, .. } => peaks.push((stage, peak_memory().unwrap())),
            _ => {}
        })
        .unwrap();
    eprintln!("{stored} bytes of weights, limit {LIMIT}, peaks {peaks:?}");
    for stage in [StageName::Train, StageName::Exam] {
        let peak = peaks.iter().find(|(of, _)| *of == stage).unwrap().1;
        assert!(peak <= LIMIT, "{stage}: {peak}");
        // It did run the model.
        assert!(peak > 10 * MB, "{stage}: {peak}");
    }
}
