//! Any bytes as a file of rows, compressed or not: read to the end or refused with a line, and never a panic.

#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use chat_format::clean::{self, Options};
use chat_format::{Error, jsonl};
use libfuzzer_sys::fuzz_target;

static FILE: LazyLock<PathBuf> =
    LazyLock::new(|| std::env::temp_dir().join(format!("nightshift-fuzz-{}", std::process::id())));

fuzz_target!(|bytes: &[u8]| {
    fs::write(&*FILE, bytes).expect("a temporary file");
    let Ok(rows) = jsonl::Reader::open(&*FILE) else { return };
    let lines = bytes.iter().filter(|&&byte| byte == b'\n').count() as u64 + 1;
    let compressed = bytes.starts_with(&[0x1f, 0x8b]) || bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]);
    for row in rows.take(10_000) {
        match row {
            Ok(row) => drop(clean::row(row.value, Options::default())),
            Err(Error::Json { line, .. }) => assert!(compressed || (1..=lines).contains(&line)),
            Err(_) => {}
        }
    }
});
