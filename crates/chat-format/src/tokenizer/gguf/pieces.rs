//! SentencePiece BPE vocabularies: tokens over characters, spaces written as `▁`, and byte tokens for characters that
//! have no token.

use gguf::Metadata;
use tokenizers::models::bpe::{BPE, Merges};
use tokenizers::normalizers::{Prepend, Replace, Sequence};
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior::Isolated;
use tokenizers::{DecoderWrapper, NormalizerWrapper, Tokenizer, decoders};

use super::{KINDS, NORMAL, TOKENS, invalid, listed_merges, optional, vocabulary};
use crate::{Error, Result};

const SPACE: &str = "▁";

/// A vocabulary that lists its merges (Gemma 4).
pub(super) fn with_merges(metadata: &Metadata) -> Result<Tokenizer> {
    let merges = listed_merges(metadata)?;
    let mut tokenizer = build(metadata, merges, false)?;
    // No merge crosses a line end, so splitting there gives the same tokens as the whole text, faster.
    let lines = SplitPattern::Regex(r"[^\n]+|\n+".into());
    let lines = Split::new(lines, Isolated, false).map_err(|error| invalid(metadata, error))?;
    tokenizer.with_pre_tokenizer(Some(lines));
    Ok(tokenizer)
}

/// A vocabulary that scores its tokens (Llama 1 and 2, Mistral, Gemma 1 to 3, Phi 3): the two neighbours whose merge has
/// the highest score are merged first. This equals BPE with the merges in descending order of the merged tokens' scores.
pub(super) fn with_scores(metadata: &Metadata) -> Result<Tokenizer> {
    let key = "tokenizer.ggml.add_space_prefix";
    let opens_with_space = !metadata.has(key) || metadata.bool(key)?;
    build(metadata, merges_by_score(metadata)?, opens_with_space)
}

fn merges_by_score(metadata: &Metadata) -> Result<Merges> {
    let tokens = metadata.strings(TOKENS)?;
    let (kinds, scores) = (metadata.i32s(KINDS)?, metadata.f32s("tokenizer.ggml.scores")?);
    if kinds.len() != tokens.len() || scores.len() != tokens.len() {
        let (kinds, scores) = (kinds.len(), scores.len());
        return Err(Error::Tokenizer {
            path: metadata.path().to_owned(),
            reason: format!(
                "expected a kind and a score for each of {} tokens, found {kinds} and {scores}",
                tokens.len()
            ),
        });
    }
    let ids = vocabulary(metadata)?;
    let mut merges = Vec::new();
    for ((token, kind), score) in tokens.iter().zip(kinds).zip(scores) {
        // Control and byte tokens are spelled with ordinary characters, but text never merges into them.
        if kind != NORMAL {
            continue;
        }
        let cuts = token.char_indices().skip(1).map(|(at, _)| token.split_at(at));
        merges.extend(cuts.filter_map(|(left, right)| {
            Some((score, ids.get(left)?, ids.get(right)?, (left.to_owned(), right.to_owned())))
        }));
    }
    merges.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| (a.1, a.2).cmp(&(b.1, b.2))));
    Ok(merges.into_iter().map(|(.., halves)| halves).collect())
}

fn build(metadata: &Metadata, merges: Merges, opens_with_space: bool) -> Result<Tokenizer> {
    let tokens = metadata.strings(TOKENS)?;
    let unknown = optional(metadata, "tokenizer.ggml.unknown_token_id")?
        .and_then(|id| tokens.get(id as usize).cloned());
    let mut model = BPE::builder()
        .vocab_and_merges(vocabulary(metadata)?, merges)
        .byte_fallback(true)
        .fuse_unk(true);
    if let Some(unknown) = unknown {
        model = model.unk_token(unknown);
    }
    let build = || -> tokenizers::Result<Tokenizer> {
        let mut tokenizer = Tokenizer::new(model.build()?);
        let mut steps: Vec<NormalizerWrapper> = Vec::new();
        let mut back: Vec<DecoderWrapper> = vec![
            Replace::new(SPACE, " ")?.into(),
            decoders::byte_fallback::ByteFallback::new().into(),
            decoders::fuse::Fuse::new().into(),
        ];
        if opens_with_space {
            steps.push(Prepend::new(SPACE.to_owned()).into());
            back.push(decoders::strip::Strip::new(' ', 1, 0).into());
        }
        steps.push(Replace::new(" ", SPACE)?.into());
        tokenizer.with_normalizer(Some(Sequence::new(steps)))?;
        tokenizer.with_decoder(Some(decoders::sequence::Sequence::new(back)));
        Ok(tokenizer)
    };
    build().map_err(|error| invalid(metadata, error))
}
