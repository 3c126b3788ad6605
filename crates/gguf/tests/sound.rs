//! What a sound file yields.

mod common;

use common::{Builder, open};
use gguf::{TensorType, Value};

#[test]
fn every_shape_of_value_is_read_back() {
    let file = open(&Builder::sample().bytes()).unwrap();
    let metadata = file.metadata();
    assert_eq!(file.version(), 3);
    assert_eq!(metadata.str("general.architecture").unwrap(), "llama");
    assert_eq!(metadata.u32("llama.block_count").unwrap(), 30);
    assert_eq!(metadata.f32("llama.rope.freq_base").unwrap(), 1e5);
    assert!(!metadata.bool("tokenizer.ggml.add_bos_token").unwrap());
    assert_eq!(metadata.strings("tokenizer.ggml.tokens").unwrap(), ["a", "ü", ""]);
    assert_eq!(metadata.i32s("tokenizer.ggml.token_type").unwrap(), [1, 3, -1]);
    assert_eq!(metadata.f32s("tokenizer.ggml.scores").unwrap(), [0.5, -1.0]);
    assert_eq!(metadata.iter().count(), 7);
}

#[test]
fn tensors_have_absolute_ranges() {
    let bytes = Builder::sample().bytes();
    let file = open(&bytes).unwrap();
    let data = (bytes.len() - 84) as u64;
    let embedding = file.tensor("token_embd.weight").unwrap();
    assert_eq!((embedding.kind, &embedding.dims[..]), (TensorType::Q4_1, &[32, 3][..]));
    assert_eq!(embedding.range, data..data + 3 * 20);
    assert_eq!(file.tensors()[1].range, data + 64..data + 84);
    assert!(file.tensor("nothing").is_none());
}

#[test]
fn integers_of_every_width_answer_the_same_getter() {
    let widths: [(u32, &[u8]); 8] = [
        (0, &[7]),
        (1, &[7]),
        (2, &[7, 0]),
        (3, &[7, 0]),
        (4, &[7, 0, 0, 0]),
        (5, &[7, 0, 0, 0]),
        (10, &[7, 0, 0, 0, 0, 0, 0, 0]),
        (11, &[7, 0, 0, 0, 0, 0, 0, 0]),
    ];
    for (kind, bytes) in widths {
        let file = open(&Builder::default().key("n", kind, bytes).bytes()).unwrap();
        assert_eq!(file.metadata().u32("n").unwrap(), 7, "type {kind}");
    }
}

#[test]
fn version_2_and_another_alignment() {
    let mut builder = Builder::default()
        .key("general.alignment", 4, &64u32.to_le_bytes())
        .tensor("t", &[2], 0, 64)
        .data(72);
    (builder.version, builder.alignment) = (2, 64);
    let bytes = builder.bytes();
    let file = open(&bytes).unwrap();
    assert_eq!(file.tensors()[0].range.end, bytes.len() as u64);
    assert_eq!(file.version(), 2);
}

#[test]
fn a_getter_says_what_it_expected_and_what_it_found() {
    let file = open(&Builder::sample().bytes()).unwrap();
    let metadata = file.metadata();
    let cases = [
        (
            metadata.u32("general.architecture").unwrap_err(),
            "`general.architecture`: expected an unsigned 32-bit integer, found the text \"llama\"",
        ),
        (
            metadata.str("tokenizer.ggml.tokens").map(drop).unwrap_err(),
            "expected a text, found an array of 3 texts",
        ),
        (metadata.f32("no.such").unwrap_err(), "`no.such`: expected a number, found no such key"),
    ];
    for (error, expected) in cases {
        let message = error.to_string();
        assert!(message.contains(expected) && message.contains(".gguf"), "{message}");
    }
    assert_eq!(metadata.get("llama.block_count"), Some(&Value::Int(30)));
}
