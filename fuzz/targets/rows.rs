//! Any bytes as a file of rows, compressed or not: read to the end or refused with a line, never a panic. Converting the file
//! gives the same rows as cleaning them one by one, and sets the others aside.

#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use chat_format::clean::{self, Options, Strictness};
use chat_format::{Error, jsonl};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("nightshift-fuzz-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a temporary folder");
    folder
});

fuzz_target!(|bytes: &[u8]| {
    let [input, output, aside] = ["raw", "clean", "refused"].map(|name| FOLDER.join(name));
    fs::write(&input, bytes).expect("a temporary file");
    let converter = clean::Converter::new(Options::default()).refused(&aside);
    let converted = converter.convert(&input, &output);
    let strict = converter.strictness(Strictness::Refuse).convert(&input, FOLDER.join("strict"));
    // The reader goes on behind a line that is not JSON, and ends where the file cannot be read on.
    let rows: Result<Vec<_>, _> = jsonl::Reader::open(&input).and_then(|rows| {
        let usable = |row: &Result<_, Error>| {
            !matches!(row, Err(Error::Json { .. } | Error::Row { .. })) || converted.is_err()
        };
        rows.filter(usable).collect()
    });
    let lines = bytes.iter().filter(|&&byte| byte == b'\n').count() as u64 + 1;
    let compressed =
        bytes.starts_with(&[0x1f, 0x8b]) || bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]);
    match (converted, rows) {
        (Ok(report), Ok(rows)) => {
            let kept = jsonl::Reader::open(&aside).expect("the rows set aside").count();
            assert_eq!(kept as u64, report.refused);
            assert_eq!(strict.is_err(), report.refused > 0);
            let clean =
                rows.into_iter().filter_map(|row| clean::row(row.value, Options::default()).ok());
            let expected: Vec<Value> = clean.map(|(chat, _)| json!(chat)).collect();
            let written = jsonl::Reader::open(&output).expect("the file just written");
            let written: Vec<Value> = written.map(|row| row.expect("a row").value).collect();
            assert_eq!(written, expected);
        }
        (Err(first), Err(second)) => {
            for error in [first, second] {
                if let Error::Json { line, .. }
                | Error::Row { line, .. }
                | Error::Damaged { line, .. } = error
                {
                    assert!(compressed || (1..=lines).contains(&line));
                }
            }
        }
        (converted, rows) => panic!("{converted:?} and {:?}", rows.map(|rows| rows.len())),
    }
});
