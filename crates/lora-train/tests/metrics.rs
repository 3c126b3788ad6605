//! The lines of `metrics.jsonl`.

use lora_train::metrics::{
    Event, InputPlace, Record, Update, WorkPlan, machine_memory, peak_memory, reset_peak_memory,
    resident_memory,
};

fn update() -> Update {
    Update {
        step: 3,
        loss: 2.5,
        learning_rate: 1e-5,
        grad_norm: 0.25,
        processed_tokens: 1024,
        computed_tokens: 1024,
        trained_tokens: 200,
        seconds: 1.5,
        peak_memory_bytes: 1 << 30,
        rss_bytes: 2 << 30,
    }
}

#[test]
fn an_update_has_no_kind_and_everything_else_has_one() {
    let line = serde_json::to_value(Record::Update(update())).unwrap();
    assert!(line.get("kind").is_none());
    for key in [
        "step",
        "loss",
        "learning_rate",
        "grad_norm",
        "processed_tokens",
        "computed_tokens",
        "trained_tokens",
        "seconds",
        "peak_memory_bytes",
        "rss_bytes",
    ] {
        assert!(line[key].is_number(), "{key}");
    }
    let validation = Event::Validation { step: 0, loss: 3.0, tokens: 10, seconds: 0.1 };
    let line = serde_json::to_value(Record::Event(validation)).unwrap();
    assert_eq!(line["kind"], "validation");
}

#[test]
fn records_are_read_back_as_what_they_were() {
    let plan = Event::Plan {
        rows: 16,
        updates: 4,
        parameters: 1000,
        layers: 2,
        work: WorkPlan {
            lanes: 1,
            tokens_per_step: 128,
            dequantized_layers: 0,
            packed_layers: 1,
            streamed_layers: 1,
            inputs: InputPlace::File,
            kept_bytes: 0,
            estimated_memory_bytes: 3_000_000,
        },
    };
    for record in [Record::Update(update()), Record::Event(plan)] {
        let line = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&line).unwrap(), record, "{line}");
    }
}

#[test]
fn memory_figures_are_of_this_process() {
    let before = resident_memory().expect("Linux and macOS both tell");
    let held = vec![1u8; 64 << 20];
    let with = resident_memory().unwrap();
    assert!(with >= before + (60 << 20), "{before} -> {with} with {} held", held.len());
    assert!(machine_memory().unwrap() > with);

    reset_peak_memory().unwrap();
    let before = peak_memory().unwrap();
    mlx_rs::Array::zeros::<f32>(&[1 << 20]).unwrap().eval().unwrap();
    assert!(peak_memory().unwrap() >= before + (4 << 20));
}
