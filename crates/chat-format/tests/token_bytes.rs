//! The bytes of tokens, with real vocabularies: byte-level, and of characters with byte fallback.
#![cfg(feature = "tokenizers")]

mod common;

use chat_format::ChatTokenizer;
use common::{GEMMA4, QWEN, SMOLLM2};
use proptest::prelude::*;

/// The text of the bytes of a text's tokens, and of the tokens together.
fn both(tokenizer: &ChatTokenizer, known: &[Option<Vec<u8>>], text: &str) -> [String; 2] {
    let tokens = tokenizer.encode(text).unwrap();
    let bytes = tokens.iter().flat_map(|&token| known[token as usize].clone().unwrap()).collect();
    [String::from_utf8(bytes).unwrap(), tokenizer.decode(&tokens).unwrap()]
}

#[test]
fn tokens_of_a_text_have_its_bytes() {
    for tokenizer in [&*SMOLLM2, &*GEMMA4, &*QWEN].into_iter().flatten() {
        let known = tokenizer.token_bytes();
        let any = prop_oneof![any::<String>(), "[ -~\n]{0,40}", "(<0x0A>|▁| |Ġ|\n|é|日本|🙂){0,9}"];
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let outcome = runner.run(&any, |text| {
            // Vocabularies of characters write a space so, and cannot tell it from this character.
            let text = text.replace('▁', "_");
            let [bytes, decoded] = both(tokenizer, &known, &text);
            prop_assert_eq!(bytes, decoded);
            Ok(())
        });
        outcome.unwrap();
        for id in 0..known.len() as u32 {
            assert!(known[id as usize].is_none() || !tokenizer.is_control(id), "{id}");
        }
        assert!(tokenizer.stop_ids().iter().all(|&id| known[id as usize].is_none()));
        let (left_out, controls) =
            known.iter().enumerate().fold((0, 0), |(left, controls), (id, bytes)| {
                let control = tokenizer.is_control(id as u32);
                (left + usize::from(bytes.is_none() && !control), controls + usize::from(control))
            });
        println!("{} tokens, {controls} control tokens, {left_out} without bytes", known.len());
        assert!(left_out * 100 < known.len(), "{left_out} of {} tokens have no bytes", known.len());
    }
}
