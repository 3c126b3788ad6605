//! What is trained on: token rows with the positions that count.

use std::ops::Range;

use chat_format::TrainingRow;
use durable::Digest;

use crate::{Error, Result};

/// The tokens of one example, and which of them the model learns to predict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The whole rendering, from the first token on.
    pub tokens: Vec<u32>,
    /// Ranges of `tokens` that are trained.
    pub trained: Vec<Range<usize>>,
}

impl From<TrainingRow> for Example {
    fn from(TrainingRow { tokens, trained }: TrainingRow) -> Self {
        Self { tokens, trained }
    }
}

/// One example, cut to what the loss can see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    number: usize,
    tokens: Vec<u32>,
    targets: Vec<usize>,
}

impl Row {
    /// Cuts `row` to `max_length` tokens and to its last trained token.
    ///
    /// Attention is causal, so nothing behind the last trained token can change the loss: those
    /// tokens are never sent through the model. `None` when no trained token is left.
    fn new(number: usize, row: Example, max_length: usize) -> Option<Self> {
        let length = row.tokens.len().min(max_length);
        // Token 0 has no token before it to be predicted from.
        let mut targets: Vec<usize> =
            row.trained.into_iter().flatten().filter(|&t| t > 0 && t < length).collect();
        targets.sort_unstable();
        targets.dedup();
        let last = *targets.last()?;
        let mut tokens = row.tokens;
        tokens.truncate(last + 1);
        Some(Self { number, tokens, targets })
    }

    /// The row's place in its file, counted from 1.
    pub fn number(&self) -> usize {
        self.number
    }

    /// The tokens that go through the model: all but the last, which is only predicted.
    pub fn inputs(&self) -> &[u32] {
        &self.tokens[..self.tokens.len() - 1]
    }

    /// The trained tokens: the position each is predicted from, and its id.
    pub fn targets(&self) -> impl Iterator<Item = (usize, u32)> + '_ {
        self.targets.iter().map(|&t| (t - 1, self.tokens[t]))
    }

    /// How many tokens are trained.
    pub fn trained(&self) -> usize {
        self.targets.len()
    }
}

/// Rows ready to train on, with a record of what was cut.
#[derive(Clone, Debug, Default)]
pub struct Dataset {
    rows: Vec<Row>,
    truncated: Vec<usize>,
    dropped: Vec<usize>,
}

impl Dataset {
    /// Takes the rows of one split, each cut to `max_length` tokens (its head is kept).
    ///
    /// A row without a trained token, be it by its own mask or by the cut, is left out and
    /// [remembered](Self::dropped).
    ///
    /// # Errors
    /// [`Error::NothingToTrain`] when no row is left.
    ///
    /// ```
    /// use lora_train::{Dataset, Example};
    ///
    /// let row = Example { tokens: vec![5, 6, 7, 8], trained: vec![2..3] };
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
        if data.rows.is_empty() {
            return Err(Error::NothingToTrain {
                split: split.to_owned(),
                rows: data.dropped.len(),
                max_length,
            });
        }
        Ok(data)
    }

    /// Checks that a model of `vocabulary` tokens knows every token.
    pub(crate) fn check_tokens(&self, vocabulary: usize) -> Result<()> {
        for row in &self.rows {
            if let Some(&token) = row.tokens.iter().find(|&&token| token as usize >= vocabulary) {
                return Err(Error::TokenOutOfRange { row: row.number, token, vocabulary });
            }
        }
        Ok(())
    }

    /// The rows that are trained on.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Numbers (from 1) of the rows longer than the limit.
    pub fn truncated(&self) -> &[usize] {
        &self.truncated
    }

    /// Numbers (from 1) of the rows left out because nothing in them is trained.
    pub fn dropped(&self) -> &[usize] {
        &self.dropped
    }

    /// Trained tokens of one pass over the rows.
    pub fn trained_tokens(&self) -> usize {
        self.rows.iter().map(Row::trained).sum()
    }

    /// Tokens that go through the model in one pass over the rows.
    pub fn processed_tokens(&self) -> usize {
        self.rows.iter().map(|row| row.inputs().len()).sum()
    }

    /// A digest of what is trained on, to tell whether two runs see the same data.
    pub fn digest(&self) -> Digest {
        let mut bytes = Vec::new();
        for row in &self.rows {
            let numbers = [row.tokens.len(), row.targets.len()].into_iter().map(|n| n as u64);
            let targets = row.targets.iter().map(|&target| target as u64);
            let all =
                numbers.chain(row.tokens.iter().map(|&token| u64::from(token))).chain(targets);
            bytes.extend(all.flat_map(u64::to_le_bytes));
        }
        durable::digest(bytes)
    }
}
