//! Byte-level BPE vocabularies, as in GPT-2: tokens over an alphabet of 256 bytes.

use gguf::Metadata;
use tokenizers::Tokenizer;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::pre_tokenizers::{
    PreTokenizerWrapper, byte_level::ByteLevel, digits::Digits, sequence::Sequence,
};
use tokenizers::tokenizer::SplitDelimiterBehavior::Isolated;

use super::{PRE, invalid, listed_merges, unsupported, vocabulary};
use crate::Result;

/// A pre-tokenizer: how text is split into words before merging.
struct Words {
    name: &'static str,
    /// `None`: GPT-2's pattern.
    pattern: Option<&'static str>,
    single_digits: bool,
    nfc: bool,
    /// Whether a word that is itself a token is taken as a whole, regardless of the merges.
    whole_words_first: bool,
}

const WORDS: &[Words] = &[
    Words {
        name: "smollm",
        pattern: None,
        single_digits: true,
        nfc: false,
        whole_words_first: false,
    },
    Words {
        name: "gpt-2",
        pattern: None,
        single_digits: false,
        nfc: false,
        whole_words_first: false,
    },
    Words {
        name: "qwen2",
        pattern: Some(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ),
        single_digits: false,
        nfc: true,
        whole_words_first: false,
    },
    Words {
        name: "qwen35",
        pattern: Some(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ),
        single_digits: false,
        nfc: true,
        whole_words_first: false,
    },
    Words {
        name: "llama-bpe",
        pattern: Some(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ),
        single_digits: false,
        nfc: false,
        whole_words_first: true,
    },
];

/// The vocabulary of a file with the pre-tokenizer that the file names.
pub(super) fn read(metadata: &Metadata) -> Result<Tokenizer> {
    let pre = metadata.str(PRE)?;
    let words = WORDS.iter().find(|words| words.name == pre).ok_or_else(|| {
        let names: Vec<_> = WORDS.iter().map(|words| words.name).collect();
        unsupported(metadata, PRE, pre, names.join(", "))
    })?;
    let model = BPE::builder().vocab_and_merges(vocabulary(metadata)?, listed_merges(metadata)?);
    let build = || -> tokenizers::Result<Tokenizer> {
        let mut tokenizer = Tokenizer::new(model.ignore_merges(words.whole_words_first).build()?);
        tokenizer.with_normalizer(words.nfc.then_some(NFC))?;
        tokenizer.with_pre_tokenizer(Some(cut(words)?));
        tokenizer.with_decoder(Some(ByteLevel::new(false, true, false)));
        Ok(tokenizer)
    };
    build().map_err(|error| invalid(metadata, error))
}

fn cut(words: &Words) -> tokenizers::Result<Sequence> {
    let mut steps: Vec<PreTokenizerWrapper> = Vec::new();
    if words.single_digits {
        steps.push(Digits::new(true).into());
    }
    if let Some(pattern) = words.pattern {
        steps.push(Split::new(SplitPattern::Regex(pattern.into()), Isolated, false)?.into());
    }
    steps.push(ByteLevel::new(false, true, words.pattern.is_none()).into());
    Ok(Sequence::new(steps))
}
