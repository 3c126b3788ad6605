//! A tokenizer from the metadata of a GGUF file.

use std::path::Path;

use gguf::{Gguf, Metadata};
use tokenizers::models::bpe::{BPE, BpeBuilder, Vocab};
use tokenizers::normalizers::{NFC, Replace};
use tokenizers::pre_tokenizers::{
    PreTokenizerWrapper, byte_level::ByteLevel, digits::Digits, sequence::Sequence, split::Split,
};
use tokenizers::tokenizer::SplitDelimiterBehavior::Isolated;
use tokenizers::{AddedToken, DecoderWrapper, Tokenizer, decoders};

use super::Parts;
use crate::{Error, Result};

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;

/// How a byte-level vocabulary cuts text into words before merging.
struct Words {
    name: &'static str,
    /// `None`: the words of GPT-2.
    pattern: Option<&'static str>,
    single_digits: bool,
    nfc: bool,
    /// A word that is itself a token is taken whole, whatever the merges say.
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

pub(super) fn read(path: &Path) -> Result<Parts> {
    let file = Gguf::open(path)?;
    let metadata = file.metadata();
    let unsupported = |key, found: &str, supported: String| Error::UnsupportedTokenizer {
        path: path.to_owned(),
        key,
        found: found.to_owned(),
        supported,
    };
    let built = match metadata.str(MODEL)? {
        "gpt2" => {
            let pre = metadata.str(PRE)?;
            let words = WORDS.iter().find(|words| words.name == pre).ok_or_else(|| {
                let names: Vec<_> = WORDS.iter().map(|words| words.name).collect();
                unsupported(PRE, pre, names.join(", "))
            })?;
            byte_level(metadata, words)?
        }
        "gemma4" => gemma4(metadata)?,
        other => return Err(unsupported(MODEL, other, "gpt2, gemma4".to_owned())),
    };
    let mut tokenizer =
        built.map_err(|e| Error::Tokenizer { path: path.to_owned(), reason: e.to_string() })?;
    tokenizer
        .add_tokens(added_tokens(metadata)?)
        .map_err(|e| Error::Tokenizer { path: path.to_owned(), reason: e.to_string() })?;

    let id = |name: &str| optional(metadata, &format!("tokenizer.ggml.{name}_token_id"));
    let template = "tokenizer.chat_template";
    let adds_bos = "tokenizer.ggml.add_bos_token";
    Ok(Parts {
        tokenizer,
        template: match metadata.has(template) {
            true => Some(metadata.str(template)?.to_owned()),
            false => None,
        },
        bos: id("bos")?,
        eos: id("eos")?,
        adds_bos: metadata.has(adds_bos) && metadata.bool(adds_bos)?,
        stops: [id("eot")?, id("eom")?].into_iter().flatten().collect(),
    })
}

/// Tokens over a 256-letter alphabet of bytes, as in GPT-2.
fn byte_level(metadata: &Metadata, words: &Words) -> Result<tokenizers::Result<Tokenizer>> {
    let model = bpe(metadata)?;
    let cut = || -> tokenizers::Result<Sequence> {
        let mut steps: Vec<PreTokenizerWrapper> = Vec::new();
        if words.single_digits {
            steps.push(Digits::new(true).into());
        }
        if let Some(pattern) = words.pattern {
            let pattern = tokenizers::pre_tokenizers::split::SplitPattern::Regex(pattern.into());
            steps.push(Split::new(pattern, Isolated, false)?.into());
        }
        steps.push(ByteLevel::new(false, true, words.pattern.is_none()).into());
        Ok(Sequence::new(steps))
    };
    Ok((|| {
        let model = model.ignore_merges(words.whole_words_first).build()?;
        let mut tokenizer = Tokenizer::new(model);
        tokenizer.with_normalizer(words.nfc.then_some(NFC))?;
        tokenizer.with_pre_tokenizer(Some(cut()?));
        tokenizer.with_decoder(Some(ByteLevel::new(false, true, false)));
        Ok(tokenizer)
    })())
}

/// Tokens over characters, spaces written as `▁`, unknown characters as bytes.
fn gemma4(metadata: &Metadata) -> Result<tokenizers::Result<Tokenizer>> {
    let model = bpe(metadata)?;
    let tokens = metadata.strings("tokenizer.ggml.tokens")?;
    let unknown = optional(metadata, "tokenizer.ggml.unknown_token_id")?
        .and_then(|id| tokens.get(id as usize).cloned());
    Ok((|| {
        let mut model: BpeBuilder = model.byte_fallback(true).fuse_unk(true);
        if let Some(unknown) = unknown {
            model = model.unk_token(unknown);
        }
        let mut tokenizer = Tokenizer::new(model.build()?);
        tokenizer.with_normalizer(Some(Replace::new(" ", "▁")?))?;
        // No merge crosses a line end, so words this large give the same tokens as the whole text, faster.
        let lines = tokenizers::pre_tokenizers::split::SplitPattern::Regex(r"[^\n]+|\n+".into());
        tokenizer.with_pre_tokenizer(Some(Split::new(lines, Isolated, false)?));
        let steps: Vec<DecoderWrapper> = vec![
            Replace::new("▁", " ")?.into(),
            decoders::byte_fallback::ByteFallback::new().into(),
            decoders::fuse::Fuse::new().into(),
        ];
        tokenizer.with_decoder(Some(decoders::sequence::Sequence::new(steps)));
        Ok(tokenizer)
    })())
}

fn bpe(metadata: &Metadata) -> Result<BpeBuilder> {
    let mut vocab = Vocab::new();
    for (id, token) in (0u32..).zip(metadata.strings("tokenizer.ggml.tokens")?) {
        vocab.entry(token.clone()).or_insert(id);
    }
    let key = "tokenizer.ggml.merges";
    let merges = metadata
        .strings(key)?
        .iter()
        .map(|merge| {
            // The first character may be a space itself, so the separator is looked for after it.
            let skip = merge.chars().next().map_or(0, char::len_utf8);
            let space = merge.get(skip..).and_then(|rest| rest.find(' '));
            let (left, right) = merge.split_at(skip + space?);
            Some((left.to_owned(), right.get(1..)?.to_owned()))
        })
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| Error::Tokenizer {
            path: metadata.path().to_owned(),
            reason: format!("`{key}`: expected two parts and a space between them in every merge"),
        })?;
    Ok(BPE::builder().vocab_and_merges(vocab, merges))
}

/// Control and user-defined tokens: they match in text before anything is cut or merged.
fn added_tokens(metadata: &Metadata) -> Result<Vec<AddedToken>> {
    let tokens = metadata.strings("tokenizer.ggml.tokens")?;
    let kinds = metadata.i32s("tokenizer.ggml.token_type")?;
    Ok(tokens
        .iter()
        .zip(kinds)
        .filter(|(_, kind)| matches!(*kind, CONTROL | USER_DEFINED))
        .map(|(token, kind)| AddedToken::from(token.clone(), kind == CONTROL).normalized(false))
        .collect())
}

fn optional(metadata: &Metadata, key: &str) -> Result<Option<u32>> {
    Ok(if metadata.has(key) { Some(metadata.u32(key)?) } else { None })
}
