//! A tokenizer from the metadata of a GGUF file.

mod bytes;
mod pieces;

use std::path::Path;

use gguf::{Gguf, Metadata};
use tokenizers::AddedToken;
use tokenizers::models::bpe::{Merges, Vocab};

use super::Parts;
use crate::{Error, Result};

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";
const KINDS: &str = "tokenizer.ggml.token_type";
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;

pub(super) fn read(path: &Path) -> Result<Parts> {
    let file = Gguf::open(path)?;
    let metadata = file.metadata();
    let mut tokenizer = match metadata.str(MODEL)? {
        "gpt2" => bytes::read(metadata)?,
        "gemma4" => pieces::with_merges(metadata)?,
        "llama" => pieces::with_scores(metadata)?,
        other => {
            return Err(unsupported(metadata, MODEL, other, "gpt2, gemma4, llama".to_owned()));
        }
    };
    let added = tokenizer.add_tokens(added_tokens(metadata)?);
    added.map_err(|error| invalid(metadata, error))?;

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

fn unsupported(metadata: &Metadata, key: &'static str, found: &str, supported: String) -> Error {
    let path = metadata.path().to_owned();
    Error::UnsupportedTokenizer { path, key, found: found.to_owned(), supported }
}

fn invalid(metadata: &Metadata, error: tokenizers::Error) -> Error {
    Error::Tokenizer { path: metadata.path().to_owned(), reason: error.to_string() }
}

fn vocabulary(metadata: &Metadata) -> Result<Vocab> {
    let mut vocab = Vocab::new();
    for (id, token) in (0u32..).zip(metadata.strings(TOKENS)?) {
        vocab.entry(token.clone()).or_insert(id);
    }
    Ok(vocab)
}

/// The merges, in order of priority.
fn listed_merges(metadata: &Metadata) -> Result<Merges> {
    let key = "tokenizer.ggml.merges";
    let halves = |merge: &String| {
        // The first character may itself be a space, so the separator is searched for after it.
        let skip = merge.chars().next().map_or(0, char::len_utf8);
        let space = merge.get(skip..).and_then(|rest| rest.find(' '));
        let (left, right) = merge.split_at(skip + space?);
        Some((left.to_owned(), right.get(1..)?.to_owned()))
    };
    let merges = metadata.strings(key)?.iter().map(halves).collect::<Option<_>>();
    merges.ok_or_else(|| Error::Tokenizer {
        path: metadata.path().to_owned(),
        reason: format!("`{key}`: expected two parts and a space between them in every merge"),
    })
}

/// Control and user-defined tokens, which are matched before text is split and merged.
fn added_tokens(metadata: &Metadata) -> Result<Vec<AddedToken>> {
    let tokens = metadata.strings(TOKENS)?;
    let kinds = metadata.i32s(KINDS)?;
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
