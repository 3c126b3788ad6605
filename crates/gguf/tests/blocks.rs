//! Weights of quantized blocks against llama.cpp's Python package (`data/blocks.py`).

use std::fs;
use std::path::Path;

use gguf::{Affine, Gguf, Tensor, TensorType};
use proptest::prelude::*;

const TYPES: [&str; 12] = [
    "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL",
    "IQ4_XS",
];

/// The golden file's blocks of each type, and their weights.
fn golden() -> Vec<(TensorType, Affine, Vec<u8>, Vec<f32>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/blocks.gguf");
    let (file, bytes) = (Gguf::open(&path).unwrap(), fs::read(&path).unwrap());
    assert_eq!(file.tensors().len(), 2 * TYPES.len());
    let data =
        |tensor: &Tensor| bytes[tensor.range.start as usize..tensor.range.end as usize].to_vec();
    let types = TYPES.into_iter().map(|name| {
        let tensor = file.tensor(name).unwrap();
        assert_eq!(tensor.kind.to_string(), name);
        let weights = data(file.tensor(&format!("{name}.f32")).unwrap());
        let weights = weights.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes));
        (tensor.kind, tensor.kind.affine().unwrap(), data(tensor), weights.collect())
    });
    types.collect()
}

/// Bit for bit, but for the sign of zeros: `2 * 8 - 16` is 0 where `-2 * 0` is -0.
#[test]
fn weights_are_those_of_llama_cpp() {
    for (kind, affine, blocks, expected) in golden() {
        let found = affine.weights(&blocks);
        assert_eq!(found.len(), expected.len(), "{kind}");
        let mut distinct: Vec<u32> = expected.iter().map(|weight| weight.to_bits()).collect();
        distinct.sort_unstable();
        distinct.dedup();
        assert!(distinct.len() > 100, "{kind}: {} weights", distinct.len());
        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let same = found.to_bits() == expected.to_bits() || (*found == 0.0 && *expected == 0.0);
            assert!(same, "{kind}, weight {i}: expected {expected}, found {found}");
        }
    }
}

/// `scale * code + bias` with the codes read back from the packed words.
fn unpacked(affine: Affine, blocks: &[u8]) -> Vec<f32> {
    let (words, bits) = (affine.packed(blocks), affine.bits());
    let (scales, biases) = (affine.scales(blocks), affine.biases(blocks));
    assert_eq!(scales.len() * affine.group() * bits, words.len() * 32);
    let bit = |at: usize| words[at / 32] >> (at % 32) & 1;
    let code = |i: usize| (0..bits).map(|place| bit(i * bits + place) << place).sum::<u32>();
    let weight =
        |i: usize| scales[i / affine.group()] * code(i) as f32 + biases[i / affine.group()];
    (0..scales.len() * affine.group()).map(weight).collect()
}

#[test]
fn packed_codes_scales_and_biases_make_the_same_weights() {
    for (kind, affine, blocks, _) in golden() {
        assert_eq!(unpacked(affine, &blocks), affine.weights(&blocks), "{kind}");
    }
}

#[test]
fn scales_that_are_in_the_file_as_f16_are_f16() {
    for (kind, affine, blocks, _) in golden() {
        let levels = [affine.scales(&blocks), affine.biases(&blocks)].concat();
        let exact = levels.iter().all(|&level| half::f16::from_f32(level).to_f32() == level);
        assert_eq!(exact, affine.has_f16_scales(), "{kind}");
    }
}

proptest! {
    /// Whatever the bytes, infinite scales included: all whole blocks, and nothing of a cut one.
    #[test]
    fn any_bytes_are_decoded(kind in 0..TYPES.len(), bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let (kind, affine, ..) = golden().swap_remove(kind);
        let decoded = affine.weights(&bytes);
        prop_assert_eq!(decoded.len(), bytes.len() / kind.block_bytes() as usize * kind.block_elements() as usize);
        prop_assert_eq!(affine.scales(&bytes).len() * affine.group(), decoded.len());
        prop_assert_eq!(affine.packed(&bytes).len() * 32, decoded.len() * affine.bits());
    }
}
