//! Gemma 3's vocabulary of 262,144 pieces with scores, against llama.cpp
//! (`fixtures/golden/gemma3/pretrained.py`).
#![cfg(feature = "tokenizers")]

use chat_format::ChatTokenizer;
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    texts: Vec<Text>,
}

#[derive(Deserialize)]
struct Text {
    text: String,
    tokens: Vec<u32>,
}

#[test]
fn texts_have_llama_cpps_tokens() {
    let path = fetch::if_reachable(fetch::gemma_test_model(&mut |_| {})).unwrap();
    let Some(path) = path else { return };
    let golden = std::fs::read("../../fixtures/golden/gemma3/pretrained.json").unwrap();
    let golden: Golden = serde_json::from_slice(&golden).unwrap();
    let tokenizer = ChatTokenizer::open(path).unwrap();
    assert_eq!(tokenizer.vocab_size(), 262_144);
    for Text { text, tokens } in golden.texts {
        // llama.cpp puts the beginning-of-text token first.
        let [2, expected @ ..] = tokens.as_slice() else { panic!("{tokens:?}") };
        assert_eq!(tokenizer.encode(&text).unwrap(), expected, "{text:?}");
        // SentencePiece writes spaces as this letter, so it cannot tell the two apart.
        assert_eq!(tokenizer.decode(expected).unwrap(), text.replace('▁', " "));
    }
}
