//! Tokenized training rows and their trained tokens.

use std::ops::Range;

use chat_format::TrainingRow;
use durable::Digest;
use serde_json::Value;

use crate::config::AnchoredTokens;
use crate::{Error, Result};

/// The tokens of one example, and which of them have a loss.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Example {
    /// All tokens, prompt included.
    pub tokens: Vec<u32>,
    /// Ranges of `tokens` that have a loss.
    pub trained: Vec<Range<usize>>,
    /// Where the answers are from.
    pub source: RowSource,
}

/// Where the answers of a row are from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RowSource {
    /// The training data.
    #[default]
    Data,
    /// The base model, which gave them itself: the row is there so that they stay as they are.
    Replay,
}

impl RowSource {
    /// The source that a row's field `kind` names: `replay`, or the training data.
    pub fn of_kind(kind: Option<&Value>) -> Self {
        if kind.is_some_and(|kind| kind == "replay") { Self::Replay } else { Self::Data }
    }
}

impl Example {
    /// An example of the training data with a loss on these ranges of its tokens.
    pub fn new(tokens: Vec<u32>, trained: Vec<Range<usize>>) -> Self {
        Self { tokens, trained, source: RowSource::Data }
    }

    /// The same tokens from another source.
    #[must_use]
    pub fn from_source(self, source: RowSource) -> Self {
        Self { source, ..self }
    }
}

impl From<TrainingRow> for Example {
    fn from(TrainingRow { tokens, trained }: TrainingRow) -> Self {
        Self::new(tokens, trained)
    }
}

/// An answer that is preferred to another one after the same prompt.
///
/// ```
/// use lora_train::{Dataset, Pair};
///
/// let pair = Pair { prompt: vec![5, 6], chosen: vec![7, 9], rejected: vec![8, 9] };
/// let data = Dataset::pairs("train", [pair], 2048)?;
/// assert_eq!(data.examples(), 1);
/// assert_eq!(data.rows()[1].targets().collect::<Vec<_>>(), [(1, 8), (2, 9)]);
/// # Ok::<(), lora_train::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The tokens before both answers.
    pub prompt: Vec<u32>,
    /// The tokens of the better answer, with the one that ends it.
    pub chosen: Vec<u32>,
    /// The tokens of the worse answer, with the one that ends it.
    pub rejected: Vec<u32>,
}

impl Pair {
    /// The chosen and the rejected answer as rows with a loss on the answer's tokens.
    fn into_examples(self) -> [Example; 2] {
        [self.chosen, self.rejected].map(|answer| {
            let start = self.prompt.len();
            let tokens = [self.prompt.as_slice(), &answer].concat();
            Example { trained: vec![start..tokens.len()], tokens, source: RowSource::Data }
        })
    }
}

/// An example, cut after its last trained token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    number: usize,
    tokens: Vec<u32>,
    targets: Vec<usize>,
    source: RowSource,
}

impl Row {
    /// Cuts `row` to `max_length` tokens and after its last trained token: attention is causal, so
    /// later tokens cannot change the loss. `None` if no trained token is left.
    fn new(number: usize, row: Example, max_length: usize) -> Option<Self> {
        let length = row.tokens.len().min(max_length);
        // The first token cannot be predicted.
        let mut targets: Vec<usize> =
            row.trained.into_iter().flatten().filter(|&t| t > 0 && t < length).collect();
        targets.sort_unstable();
        targets.dedup();
        let last = *targets.last()?;
        let mut tokens = row.tokens;
        tokens.truncate(last + 1);
        Some(Self { number, tokens, targets, source: row.source })
    }

    /// The number of the row in its split, counted from 1.
    pub fn number(&self) -> usize {
        self.number
    }

    /// The tokens that go through the model: all but the last, which is only a target.
    pub fn inputs(&self) -> &[u32] {
        &self.tokens[..self.tokens.len() - 1]
    }

    /// The trained tokens, each with the index in [`inputs`](Self::inputs) of the token before it.
    pub fn targets(&self) -> impl Iterator<Item = (usize, u32)> + '_ {
        self.targets.iter().map(|&t| (t - 1, self.tokens[t]))
    }

    /// The number of trained tokens.
    pub fn trained(&self) -> usize {
        self.targets.len()
    }

    /// All tokens, and the ranges of the trained ones.
    pub(crate) fn scored(&self) -> (&[u32], Vec<Range<usize>>) {
        (&self.tokens, self.targets.iter().map(|&target| target..target + 1).collect())
    }

    /// The tokens before the first trained one.
    fn prompt(&self) -> &[u32] {
        &self.tokens[..self.targets[0]]
    }

    /// The tokens from the first trained one on.
    fn answer(&self) -> &[u32] {
        &self.tokens[self.targets[0]..]
    }

    /// Where its answers are from.
    pub fn source(&self) -> RowSource {
        self.source
    }

    /// For each token of [`inputs`](Self::inputs), whether the prediction of the next one is selected.
    pub(crate) fn predictions(&self, on: AnchoredTokens) -> impl Iterator<Item = bool> + '_ {
        let replay = self.source == RowSource::Replay;
        let mut targets = self.targets.iter().copied().peekable();
        (1..self.tokens.len()).map(move |token| {
            let trained = targets.next_if_eq(&token).is_some();
            match on {
                AnchoredTokens::All => true,
                AnchoredTokens::Untrained => !trained,
                AnchoredTokens::Replay => trained && replay,
            }
        })
    }
}

/// The rows of one split, ready for training.
#[derive(Clone, Debug, Default)]
pub struct Dataset {
    rows: Vec<Row>,
    kind: DataKind,
    truncated: Vec<usize>,
    dropped: Vec<usize>,
}

/// What the rows of a data set are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum DataKind {
    /// Each an example of its own.
    #[default]
    Rows,
    /// A chosen and a rejected answer, one after the other.
    Pairs,
}

impl DataKind {
    /// Rows of an example.
    fn rows(self) -> usize {
        match self {
            Self::Rows => 1,
            Self::Pairs => 2,
        }
    }
}

impl Dataset {
    /// Cuts each row to its first `max_length` tokens. Rows without a trained token after that are
    /// [dropped](Self::dropped). `split` is the name of the split in errors.
    ///
    /// # Errors
    /// [`Error::NoRows`] without rows, [`Error::NothingToTrain`] if no row is left.
    ///
    /// ```
    /// use lora_train::{Dataset, Example};
    ///
    /// let row = Example::new(vec![5, 6, 7, 8], vec![2..3]);
    /// let data = Dataset::new("train", [row], 2048)?;
    /// assert_eq!(data.rows()[0].inputs(), [5, 6]);
    /// assert_eq!(data.rows()[0].targets().collect::<Vec<_>>(), [(1, 7)]);
    /// # Ok::<(), lora_train::Error>(())
    /// ```
    pub fn new(
        split: &str,
        rows: impl IntoIterator<Item = impl Into<Example>>,
        max_length: usize,
    ) -> Result<Self> {
        let mut data = Self::default();
        for (index, row) in rows.into_iter().enumerate() {
            let row = row.into();
            let number = index + 1;
            if row.tokens.len() > max_length {
                data.truncated.push(number);
            }
            match Row::new(number, row, max_length) {
                Some(row) => data.rows.push(row),
                None => data.dropped.push(number),
            }
        }
        data.checked(split, max_length)
    }

    /// Pairs of answers, cut to `max_length` tokens with their prompt. A pair is [dropped](Self::dropped)
    /// if a token to train on is left of only one answer or of none, or if both answers are the same.
    /// `split` is the name of the split in errors.
    ///
    /// # Errors
    /// [`Error::NothingToTrain`] if no pair is left.
    pub fn pairs(
        split: &str,
        pairs: impl IntoIterator<Item = Pair>,
        max_length: usize,
    ) -> Result<Self> {
        let mut data = Self { kind: DataKind::Pairs, ..Self::default() };
        for (index, pair) in pairs.into_iter().enumerate() {
            let number = index + 1;
            let examples = pair.into_examples();
            if examples.iter().any(|example| example.tokens.len() > max_length) {
                data.truncated.push(number);
            }
            let [chosen, rejected] = examples.map(|example| Row::new(number, example, max_length));
            match (chosen, rejected) {
                (Some(chosen), Some(rejected)) if chosen != rejected => {
                    data.rows.extend([chosen, rejected]);
                }
                _ => data.dropped.push(number),
            }
        }
        data.checked(split, max_length)
    }

    /// Rows that are ready for training.
    pub(crate) fn of_rows(rows: Vec<Row>) -> Self {
        Self { rows, ..Self::default() }
    }

    /// Takes out the rows with the numbers that `choose` gives; `None` without any.
    pub(crate) fn split_off(&mut self, choose: impl Fn(&Self) -> Vec<usize>) -> Option<Self> {
        let numbers = choose(self);
        let rows = std::mem::take(&mut self.rows);
        let (out, kept) = rows.into_iter().partition(|row| numbers.contains(&row.number));
        self.rows = kept;
        Some(Self::of_rows(out)).filter(|out| !out.rows.is_empty())
    }

    /// These examples alone.
    pub(crate) fn only(&self, examples: &[usize]) -> Self {
        let rows = examples.iter().flat_map(|&example| &self.rows[self.rows_of(example)]);
        Self { rows: rows.cloned().collect(), kind: self.kind, ..Self::default() }
    }

    /// For each pair its prompt with the two answers of another one: of the nearest pair before it, in a
    /// circle, that has another prompt. `None` if all prompts are the same.
    pub(crate) fn mismatched(&self, max_length: usize) -> Option<Self> {
        let count = self.examples();
        let mut data = Self { kind: DataKind::Pairs, ..Self::default() };
        for example in 0..count {
            let [own, _] = self.pair(example);
            let before = (1..count).map(|back| (example + count - back) % count);
            let other = before
                .map(|other| self.pair(other))
                .find(|[other, _]| other.prompt() != own.prompt())?;
            for row in other {
                let tokens = [own.prompt(), row.answer()].concat();
                let trained = vec![own.prompt().len()..tokens.len()];
                // The prompt is shorter than the limit, since an answer's token fits after it.
                data.rows.extend(Row::new(own.number, Example::new(tokens, trained), max_length));
            }
        }
        Some(data)
    }

    fn pair(&self, example: usize) -> [&Row; 2] {
        let own = &self.rows[self.rows_of(example)];
        [&own[0], &own[own.len() - 1]]
    }

    fn checked(self, split: &str, max_length: usize) -> Result<Self> {
        if self.rows.is_empty() && self.dropped.is_empty() {
            return Err(Error::NoRows { data: format!("{split} data") });
        }
        if self.rows.is_empty() {
            return Err(Error::NothingToTrain {
                split: split.to_owned(),
                rows: self.dropped.len(),
                max_length,
            });
        }
        Ok(self)
    }

    /// Checks that every token is below `vocabulary`.
    pub(crate) fn check_tokens(&self, vocabulary: usize) -> Result<()> {
        for row in &self.rows {
            if let Some(&token) = row.tokens.iter().find(|&&token| token as usize >= vocabulary) {
                return Err(Error::TokenOutOfRange { row: row.number, token, vocabulary });
            }
        }
        Ok(())
    }

    /// The rows that have a trained token; of each pair the chosen and then the rejected answer.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The number of examples that are sampled: rows, or pairs of them.
    pub fn examples(&self) -> usize {
        self.rows.len() / self.kind.rows()
    }

    /// The indices in [`rows`](Self::rows) of an example's rows.
    pub(crate) fn rows_of(&self, example: usize) -> Range<usize> {
        let count = self.kind.rows();
        example * count..(example + 1) * count
    }

    pub(crate) fn kind(&self) -> DataKind {
        self.kind
    }

    /// The numbers (from 1) of the rows or pairs that were longer than the limit.
    pub fn truncated(&self) -> &[usize] {
        &self.truncated
    }

    /// The numbers (from 1) of the rows without a trained token, and of the pairs that were dropped.
    pub fn dropped(&self) -> &[usize] {
        &self.dropped
    }

    /// Trained tokens of all rows.
    pub fn trained_tokens(&self) -> usize {
        self.rows.iter().map(Row::trained).sum()
    }

    /// Input tokens of all rows.
    pub fn processed_tokens(&self) -> usize {
        self.rows.iter().map(|row| row.inputs().len()).sum()
    }

    /// A digest of all tokens and targets, equal for equal training data.
    pub fn digest(&self) -> Digest {
        let mut bytes = match self.kind {
            DataKind::Rows => Vec::new(),
            DataKind::Pairs => b"pairs".to_vec(),
        };
        for row in &self.rows {
            let numbers = [row.tokens.len(), row.targets.len()].into_iter().map(|n| n as u64);
            let targets = row.targets.iter().map(|&target| target as u64);
            let all =
                numbers.chain(row.tokens.iter().map(|&token| u64::from(token))).chain(targets);
            bytes.extend(all.flat_map(u64::to_le_bytes));
            if row.source == RowSource::Replay {
                bytes.extend(b"replay");
            }
        }
        durable::digest(bytes)
    }
}
