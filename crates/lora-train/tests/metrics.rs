//! The records of `metrics.jsonl`, and memory as the system reports it.

use lora_train::memory::{physical_memory, resident_memory};
use lora_train::metrics::{Metrics, Record, Update};

fn update() -> Update {
    let mut update = Update::default();
    (update.step, update.loss, update.learning_rate, update.grad_norm) = (3, 2.5, 1e-5, 0.25);
    (update.processed_tokens, update.computed_tokens, update.trained_tokens) = (1024, 1024, 200);
    (update.seconds, update.peak_memory_bytes, update.rss_bytes) = (1.5, 1 << 30, 2 << 30);
    update
}

/// Lines as they are in files.
const PLAN: &str = r#"{"kind":"plan","rows":16,"updates":4,"parameters":1000,"layers":2,"lanes":1,"tokens_per_step":128,"dequantized_layers":0,"packed_layers":1,"streamed_layers":1,"inputs":"file","kept_bytes":0,"estimated_memory_bytes":3000000}"#;
const VALIDATION: &str = r#"{"kind":"validation","step":0,"loss":3.0,"tokens":10,"seconds":0.1}"#;

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
}

#[test]
fn records_are_written_as_they_were_read() {
    let update = serde_json::to_string(&Record::Update(update())).unwrap();
    for line in [PLAN, VALIDATION, update.as_str()] {
        let record: Record = serde_json::from_str(line).unwrap();
        assert_eq!(serde_json::to_string(&record).unwrap(), line);
    }
}

#[test]
fn a_file_is_read_whole_or_refused_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.jsonl");
    let line = serde_json::to_string(&Record::Update(update())).unwrap();
    std::fs::write(&path, format!("{PLAN}\n{VALIDATION}\n\n{line}\n")).unwrap();
    let metrics = Metrics::read(&path).unwrap();
    assert_eq!(metrics.plan().unwrap().estimated_memory_bytes, 3_000_000);
    assert!(metrics.plan().unwrap().to_string().contains("inputs in a file"));
    assert_eq!(metrics.updates().collect::<Vec<_>>(), [&update()]);
    assert_eq!(metrics.validations().collect::<Vec<_>>(), [(0, 3.0)]);

    // The key that is wrong is named.
    let odd = line.replace("2.5", "\"low\"");
    for (odd, named) in [
        ("{}", "missing field `step`"),
        (&*odd, "invalid type: string \"low\""),
        (r#"{"kind":"plan"}"#, "missing field"),
        (r#"{"kind":"nap"}"#, "unknown variant `nap`"),
    ] {
        std::fs::write(&path, format!("{PLAN}\n{odd}\n")).unwrap();
        let message = Metrics::read(&path).unwrap_err().to_string();
        assert!(message.contains("metrics.jsonl:2: expected a record"), "{message}");
        assert!(message.contains(named), "{message}");
    }
}

#[test]
fn resident_memory_is_that_of_this_process() {
    let before = resident_memory().expect("Linux and macOS report it");
    let held = vec![1u8; 64 << 20];
    let with = resident_memory().unwrap();
    assert!(with >= before + (60 << 20), "{before} -> {with} with {} held", held.len());
    assert!(physical_memory().unwrap() > with);
}
