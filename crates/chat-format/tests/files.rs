//! Files of raw rows: lines, arrays, archives, and rows that cannot be read.

#[path = "common/chats.rs"]
mod chats;

use std::io::Write;

use chat_format::clean::{self, Options, Origin, Strictness};
use chat_format::{Role, jsonl};
use serde_json::{Value, json};

use chats::{content, turns};

#[test]
fn the_seed_example_byte_for_byte() {
    let before = r#"{"messages": [{"role": "user", "content": "<|im_start|>system\nYou are windu...<|im_end|>\n<|im_start|>user\nScan the network<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\nRunning scan...<|im_end|>"}]}"#;
    let after = r#"{"messages": [{"role": "system", "content": "You are windu..."}, {"role": "user", "content": "Scan the network"}, {"role": "assistant", "content": "Running scan..."}]}"#;
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("raw.jsonl"), folder.path().join("clean.jsonl"));
    std::fs::write(&input, before).unwrap();
    let report = clean::convert(&input, &output, Options::default(), Strictness::Refuse).unwrap();
    assert_eq!(std::fs::read_to_string(&output).unwrap(), format!("{after}\n"));
    assert_eq!((report.rows, report.written, report.refused), (1, 1, 0));
    assert_eq!(report.notes.families["ChatML"], 1);
    assert_eq!(report.notes.removed["<|im_start|>"], 3);
    assert_eq!(report.notes.reasoning, 1);
}

/// One row over several buffers and lines, in an array.
#[test]
fn arrays_and_compressed_files_are_read_like_lines() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows");
    let row = |n: usize| json!({"messages": [{"role": "user", "content": format!("}}]\\\"{n} {}", "x".repeat(300_000))}]});
    let rows = [row(1), row(2), row(3)];
    let lines = rows.iter().map(|row| format!("{row}\n")).collect::<String>();
    let array = serde_json::to_string_pretty(&rows).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(lines.as_bytes()).unwrap();
    let zstd = |text: &str| {
        use ruzstd::encoding::{CompressionLevel, compress_to_vec};
        compress_to_vec(text.as_bytes(), CompressionLevel::Fastest)
    };
    let (first, rest) = lines.split_at(lines.find('\n').unwrap() + 1);
    let cases = [
        ("lines", lines.clone().into_bytes()),
        ("array", array.into_bytes()),
        ("gzip", gzip.finish().unwrap()),
        ("zstd of two frames", [zstd(first), zstd(rest)].concat()),
    ];
    for (name, bytes) in cases {
        std::fs::write(&path, &bytes).unwrap();
        let read: Vec<Value> =
            jsonl::Reader::open(&path).unwrap().map(|row| row.unwrap().value).collect();
        assert_eq!(read, rows, "{name}");
        if name != "lines" {
            std::fs::write(&path, &bytes[..bytes.len() - 20]).unwrap();
            let last = jsonl::Reader::open(&path).unwrap().last().unwrap();
            assert!(last.unwrap_err().to_string().contains("rows"), "{name} cut short");
        }
    }
}

#[test]
fn broken_arrays_say_where() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.json");
    for (text, expected) in [
        ("[\n{} {}]", "rows.json:2:1: expected JSON: expected `,` or `]`"),
        ("[1]", "rows.json:1:1: expected JSON: expected an object"),
        ("[{}", "expected JSON: the file ends inside the array"),
        ("[{\"a\": \"", "expected JSON: the file ends inside an object"),
        ("[{}] x", "expected JSON: text after the array"),
        ("[{\"a\":\n oops}]", "rows.json:2:2: expected JSON"),
    ] {
        std::fs::write(&path, text).unwrap();
        let rows: Vec<_> = jsonl::Reader::open(&path).unwrap().collect();
        let message = rows.last().unwrap().as_ref().unwrap_err().to_string();
        assert!(message.contains(expected), "{text}: {message}");
    }
}

#[test]
fn a_file_with_bad_rows() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("raw.jsonl"), folder.path().join("clean.jsonl"));
    let good = r#"{"messages":[{"role":"user","content":"q"}]}"#;
    std::fs::write(&input, format!("\u{feff}{good}\r\n\n   \n{{\"x\":1}}\n{good}\n")).unwrap();
    let convert = |strictness| clean::convert(&input, &output, Options::default(), strictness);

    let error = convert(Strictness::Refuse).unwrap_err().to_string();
    assert!(error.contains("raw.jsonl:4: expected `messages`"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing half-written");

    let report = convert(Strictness::LeaveOut).unwrap();
    assert_eq!((report.rows, report.written, report.refusals[0].line), (3, 2, 4));

    // Once, a line that is not JSON ended the file under either strictness.
    std::fs::write(&input, format!("{good}\n{{\"messages\": [}}\n")).unwrap();
    let error = convert(Strictness::Refuse).unwrap_err().to_string();
    assert!(error.contains("raw.jsonl:2:15: expected JSON"), "{error}");
    let report = convert(Strictness::LeaveOut).unwrap();
    assert_eq!((report.written, report.refused), (1, 1));
    assert!(report.refusals[0].reason.contains("(column 15)"), "{:?}", report.refusals);
}

#[test]
fn a_file_may_mix_families_and_rows_may_keep_theirs() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("raw.jsonl"), folder.path().join("clean.jsonl"));
    let rows = [
        ("ChatML", "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\na<|im_end|>"),
        ("Gemma 4", "<bos><|turn>user\nq<turn|>\n<|turn>model\na<turn|>\n"),
        ("Gemma", "<start_of_turn>user\nq<end_of_turn>\n<start_of_turn>model\na<end_of_turn>"),
        ("Llama 2 and Mistral", "<s>[INST] q [/INST] a</s>"),
        ("ChatML", "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\na<|im_end|>"),
    ];
    let lines = rows.map(|(_, text)| content(text).to_string());
    std::fs::write(&input, lines.join("\n")).unwrap();
    for origin in [Origin::Forget, Origin::Keep] {
        let options = Options::default().origin(origin);
        let report = clean::convert(&input, &output, options, Strictness::Refuse).unwrap();
        assert_eq!(report.notes.families["ChatML"], 2);
        assert_eq!(report.notes.families.len(), 4);
        let chats = jsonl::Reader::open(&output).unwrap().conversations().map(Result::unwrap);
        for (chat, (family, _)) in chats.zip(rows) {
            assert_eq!(turns(&chat), [(Role::User, "q"), (Role::Assistant, "a")]);
            let kept = (origin == Origin::Keep).then_some(family);
            assert_eq!(chat.meta.get("markup").and_then(Value::as_str), kept);
        }
    }
}
