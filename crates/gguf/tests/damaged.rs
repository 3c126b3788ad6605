//! Damaged files: each a clear error, never a panic, never a large allocation.

mod common;

use common::{Builder, array, mutated, open, text};
use proptest::prelude::*;

fn with(change: impl FnOnce(&mut Builder)) -> Vec<u8> {
    let mut builder = Builder::sample();
    change(&mut builder);
    builder.bytes()
}

#[test]
fn each_damage_has_its_message() {
    let huge = (1u64 << 60).to_le_bytes();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", vec![], "file ends inside the magic number"),
        ("magic", with(|b| b.magic = *b"PK\x03\x04"), r#"found "PK\x03\x04""#),
        (
            "version",
            with(|b| b.version = 1),
            "expected GGUF version 2 or 3 (little-endian), found 1",
        ),
        ("big-endian", with(|b| b.version = 3u32.to_be()), "little-endian"),
        (
            "many tensors",
            with(|b| b.tensor_count = Some(1 << 40)),
            "the number of tensors to be at most 1048576, found 1099511627776",
        ),
        (
            "many keys",
            with(|b| b.key_count = Some(u64::MAX)),
            "the number of metadata keys to be at most 65536, found 18446744073709551615",
        ),
        (
            "more keys than written",
            Builder { key_count: Some(9), ..Builder::default() }.bytes(),
            "file ends inside the type of",
        ),
        (
            "long string",
            Builder::default().key("k", 8, &huge).bytes(),
            "the length of the value of `k`",
        ),
        (
            "string past the end",
            Builder::default().key("k", 8, &9_999u64.to_le_bytes()).bytes(),
            "9999 bytes needed",
        ),
        (
            "long array",
            Builder::default().key("k", 9, &[&4u32.to_le_bytes()[..], &huge].concat()).bytes(),
            "the length of the array `k`",
        ),
        (
            "array past the end",
            Builder::default()
                .key("k", 9, &[&4u32.to_le_bytes()[..], &[255, 255, 0, 0, 0, 0, 0, 0]].concat())
                .bytes(),
            "file ends inside the value of `k`",
        ),
        (
            "nested array",
            Builder::default().key("k", 9, &array(9, &[array(4, &[[0u8; 4]])])).bytes(),
            "`k`: expected a value type, found type 9",
        ),
        (
            "value type",
            Builder::default().key("k", 13, &[]).bytes(),
            "`k`: expected a value type, found type 13",
        ),
        (
            "bool",
            Builder::default().key("k", 7, &[2]).bytes(),
            "`k`: expected a bool (0 or 1), found 2",
        ),
        (
            "not utf-8",
            Builder::default()
                .key("k", 8, &[&2u64.to_le_bytes()[..], &[0xff, 0xfe]].concat())
                .bytes(),
            "the value of `k` at offset",
        ),
        (
            "key twice",
            Builder::default().key("k", 0, &[1]).key("k", 0, &[2]).bytes(),
            "metadata key `k` appears twice",
        ),
        (
            "alignment",
            with(|b| *b = b.clone().key("general.alignment", 4, &[0; 4])),
            "expected a power of two, found 0",
        ),
        (
            "tensor twice",
            with(|b| *b = b.clone().tensor("output_norm.weight", &[1], 0, 0)),
            "tensor `output_norm.weight` appears twice",
        ),
        (
            "tensor type",
            with(|b| *b = b.clone().tensor("t", &[1], 99, 0)),
            "tensor `t`: expected a known element type, found type 99",
        ),
        (
            "rank",
            with(|b| *b = b.clone().tensor("t", &[1; 5], 0, 0)),
            "expected at most 4 dimensions, found 5",
        ),
        (
            "overflow",
            with(|b| *b = b.clone().tensor("t", &[1 << 40, 1 << 40], 0, 0)),
            "a size below 2^64",
        ),
        (
            "broken block",
            with(|b| *b = b.clone().tensor("t", &[33], 3, 0)),
            "rows of whole blocks, found [33] of Q4_1",
        ),
        (
            "unaligned",
            with(|b| *b = b.clone().tensor("t", &[1], 0, 4)),
            "an aligned offset, found offset 4",
        ),
        ("outside", with(|b| b.data -= 1), "tensor `output_norm.weight`: expected bytes"),
        (
            "far outside",
            with(|b| *b = b.clone().tensor("t", &[1], 0, u64::MAX - 31)),
            "tensor `t`: expected bytes",
        ),
        (
            "overlap",
            with(|b| *b = b.clone().tensor("t", &[2], 0, 32)),
            "tensors `token_embd.weight` and `t` overlap",
        ),
    ];
    for (name, bytes, expected) in cases {
        let message = open(&bytes).map(drop).expect_err(name).to_string();
        assert!(message.contains(expected), "{name}: {message}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let message = gguf::Gguf::open("/nowhere/model.gguf").unwrap_err().to_string();
    assert!(message.starts_with("/nowhere/model.gguf: "), "{message}");
}

#[test]
fn every_truncation_is_an_error() {
    let bytes = Builder::sample().bytes();
    for length in 0..bytes.len() {
        assert!(open(&bytes[..length]).is_err(), "{length} of {} bytes", bytes.len());
    }
}

proptest! {
    #[test]
    fn mutations_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let bytes = mutated(&changes);
        if let Ok(file) = open(&bytes) {
            let inside = |tensor: &gguf::Tensor| tensor.range.end <= bytes.len() as u64;
            prop_assert!(file.tensors().iter().all(inside));
        }
    }

    #[test]
    fn noise_after_a_sound_start_never_panics(noise in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut bytes = b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0".to_vec();
        bytes.extend(text("k"));
        bytes.extend(noise);
        let _ = open(&bytes);
    }
}
