//! Near duplicates are found as by comparing all pairs.

use chat_format::{Conversation, Message};
use enrich::duplicates::Duplicates;
use enrich::grams::Grams;

/// Texts of random words, each followed by copies with ever more words changed.
fn texts() -> Vec<String> {
    let mut state = 7_u64;
    let mut next = move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize
    };
    let mut texts = Vec::new();
    for _ in 0..150 {
        let words: Vec<usize> = (0..60).map(|_| next() % 4000).collect();
        for changes in 0..8 {
            let mut copy = words.clone();
            for _ in 0..changes {
                copy[next() % 60] = next() % 4000;
            }
            texts.push(copy.iter().map(|word| format!("w{word} ")).collect());
        }
    }
    texts
}

#[test]
fn finds_what_comparing_all_pairs_finds() {
    let texts = texts();
    let rows: Vec<_> =
        texts.iter().map(|text| Conversation::new(vec![Message::user(text)])).collect();
    let grams: Vec<_> = texts.iter().map(|text| Grams::of(text, 3)).collect();
    for likeness in [0.7, 0.8, 0.9] {
        let found = Duplicates { likeness }.find(&rows);
        for duplicate in &found {
            let exact = grams[duplicate.of].jaccard(&grams[duplicate.row]);
            assert!(exact >= likeness, "{duplicate:?} is not a duplicate: {exact}");
        }
        let mut kept: Vec<usize> = Vec::new();
        let mut expected = 0;
        for row in 0..rows.len() {
            if kept.iter().any(|of| grams[*of].jaccard(&grams[row]) >= likeness) {
                expected += 1;
            } else {
                kept.push(row);
            }
        }
        assert!(expected > 100, "the test has something to find: {expected}");
        let recall = found.len() as f64 / expected as f64;
        assert!((0.99..=1.01).contains(&recall), "at {likeness}: {} of {expected}", found.len());
    }
}
