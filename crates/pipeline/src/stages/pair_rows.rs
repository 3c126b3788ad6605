//! Renders the preference pairs of a night, and sets aside those that cannot be trained.

use std::path::Path;

use chat_format::ChatTokenizer;
use lora_train::{Columns, Pair, read_each_pair};
use serde::{Deserialize, Serialize};

use super::training_rows::Reason;
use crate::error::Result;
use crate::format;

/// A pair that is not trained: a line of `prefer/left-out.jsonl`.
#[derive(Debug, Serialize)]
pub(crate) struct PairSetAside {
    /// File and line.
    pub pair: String,
    #[serde(flatten)]
    pub reason: Reason,
}

/// Numbers of pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct PairCounts {
    /// Pairs in the data set.
    pub read: u64,
    /// Pairs whose prompt or answers the model's chat template refuses, or renders so that an answer does not follow
    /// its prompt.
    pub refused: u64,
    /// Pairs with an answer that ends after `max_seq_length`.
    pub over_length: u64,
    /// Pairs whose answers are the same, or empty.
    pub equal: u64,
}

/// The pairs of a night.
#[derive(Debug)]
pub(crate) struct RenderedPairs {
    pub pairs: Vec<Pair>,
    pub counts: PairCounts,
    pub set_aside: Vec<PairSetAside>,
}

impl RenderedPairs {
    /// Renders and tokenizes the pairs in `path` with the model's chat template.
    pub fn read(path: &Path, tokenizer: &ChatTokenizer, max_seq_length: usize) -> Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut all = Self { pairs: vec![], counts: PairCounts::default(), set_aside: vec![] };
        for (line, pair) in read_each_pair(path, tokenizer, &Columns::default())? {
            all.counts.read += 1;
            let reason = match pair {
                Ok(pair) => match misfit(&pair, max_seq_length) {
                    None => {
                        all.pairs.push(pair);
                        continue;
                    }
                    Some(reason) => reason,
                },
                Err(error) => Reason::Refused { because: error.to_string() },
            };
            match reason {
                Reason::Refused { .. } => all.counts.refused += 1,
                Reason::OverLength { .. } | Reason::Cut { .. } => all.counts.over_length += 1,
                Reason::Equal | Reason::NothingToTrain | Reason::HeldBack => all.counts.equal += 1,
            }
            all.set_aside.push(PairSetAside { pair: format!("{name}:{line}"), reason });
        }
        Ok(all)
    }
}

/// Why a pair is not trained; an answer that is cut would end in the middle.
fn misfit(pair: &Pair, max_seq_length: usize) -> Option<Reason> {
    let tokens = pair.prompt.len() + pair.chosen.len().max(pair.rejected.len());
    match pair {
        _ if pair.chosen.is_empty() || pair.rejected.is_empty() => Some(Reason::NothingToTrain),
        _ if pair.chosen == pair.rejected => Some(Reason::Equal),
        _ if tokens > max_seq_length => Some(Reason::OverLength { tokens, max_seq_length }),
        _ => None,
    }
}

impl PairCounts {
    /// Pairs that are trained.
    pub fn trained(&self) -> u64 {
        self.read - self.refused - self.over_length - self.equal
    }
}

impl std::fmt::Display for PairCounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { read, refused, over_length, equal } = *self;
        write!(f, "{} of {} pairs trained", format::count(self.trained()), format::count(read))?;
        let aside = [
            (refused, "refused by the template"),
            (over_length, "longer than max_seq_length"),
            (equal, "with equal or empty answers"),
        ];
        for (count, what) in aside.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, ", {} {what}", format::count(count))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_trained_whole_or_not_at_all() {
        let pair = |prompt: usize, chosen: &[u32], rejected: &[u32]| Pair {
            prompt: vec![1; prompt],
            chosen: chosen.to_vec(),
            rejected: rejected.to_vec(),
        };
        assert!(misfit(&pair(2, &[5, 6], &[7]), 4).is_none());
        assert!(matches!(
            misfit(&pair(2, &[5], &[7, 8, 9]), 4),
            Some(Reason::OverLength { tokens: 5, max_seq_length: 4 })
        ));
        assert!(matches!(misfit(&pair(2, &[5, 6], &[5, 6]), 4), Some(Reason::Equal)));
        assert!(matches!(misfit(&pair(2, &[], &[5]), 4), Some(Reason::NothingToTrain)));
    }

    #[test]
    fn counts_are_said_in_words() {
        let counts = PairCounts { read: 1200, refused: 2, over_length: 0, equal: 1 };
        assert_eq!(
            counts.to_string(),
            "1,197 of 1,200 pairs trained, 2 refused by the template, 1 with equal or empty answers"
        );
        assert_eq!(PairCounts::default().to_string(), "0 of 0 pairs trained");
    }
}
