//! Renders the rows of the splits for training, and sets aside those that cannot be trained.

use std::ops::AddAssign;
use std::path::{Path, PathBuf};

use chat_format::clean::SOURCE_ROW;
use chat_format::{ChatTokenizer, Conversation, RenderOptions, Supervision, TrainingRow, jsonl};
use enrich::left_out::row_name;
use enrich::split::Split;
use lora_train::{Data, Dataset, Example, RowSource, TrainConfig};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::enrich::Splits;
use crate::error::{Error, Result};
use crate::format;

/// A row that is not trained, or not as a whole: a line of `train/left-out.jsonl`.
#[derive(Debug, Serialize)]
pub(crate) struct NotTrained {
    /// Where it is from: file and line, or for a generated row what it teaches.
    pub row: String,
    /// Whether the row was generated.
    pub made: bool,
    /// The split that it is in.
    pub split: Split,
    #[serde(flatten)]
    pub reason: Reason,
}

#[derive(Debug, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub(crate) enum Reason {
    /// The model's chat template or the tokenizer refuses it.
    Refused { because: String },
    /// Its first trained token comes after `max_seq_length`.
    OverLength { tokens: usize, max_seq_length: usize },
    /// It has no turn to train.
    NothingToTrain,
    /// It is trained, but for what comes after `max_seq_length`.
    Cut { tokens: usize, max_seq_length: usize },
    /// Both answers of the pair are the same.
    Equal,
    /// A replay row that measures how far the model has moved from the base (`nightshift.retention`).
    HeldBack,
}

/// Numbers of rows that are not trained as they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NotTrainedCounts {
    /// Rows read that are in the training set, but not trained.
    pub train: u64,
    /// Rows read that are in the validation set, but not used.
    pub valid: u64,
    /// Rows read that are trained in part.
    pub cut: u64,
    /// Generated rows that are not used.
    pub made: u64,
}

impl AddAssign<&NotTrained> for NotTrainedCounts {
    fn add_assign(&mut self, row: &NotTrained) {
        match (&row.reason, row.made, row.split) {
            (Reason::Cut { .. }, false, Split::Train) => self.cut += 1,
            (Reason::Cut { .. }, ..) => {}
            (_, true, _) => self.made += 1,
            (_, false, Split::Train) => self.train += 1,
            (_, false, _) => self.valid += 1,
        }
    }
}

/// The rendered rows of a night.
pub(crate) struct RenderedData {
    pub data: Data,
    pub not_trained: Vec<NotTrained>,
    /// Training rows that are held back for `nightshift.retention`.
    pub held_back: usize,
}

impl Splits {
    /// Renders and tokenizes the rows of both splits with the model's chat template.
    ///
    /// # Errors
    /// More than the share `max_refused_share` of the rows read is refused by the template; no row is left to train, or
    /// none to measure the retention with.
    pub fn rendered(
        &self,
        night: &Path,
        tokenizer: &ChatTokenizer,
        config: &TrainConfig,
        max_refused_share: f64,
    ) -> Result<RenderedData> {
        let length = config.max_seq_length;
        let mut not_trained = Vec::new();
        let mut rows_of = Vec::new();
        let mut render = |split: Split, path: PathBuf| {
            let rendered = RenderedSplit::read(split, &path, tokenizer, config.supervision())?;
            let (rows, aside) = rendered.fit(length);
            not_trained.extend(aside);
            let (names, rows): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
            rows_of.push(names);
            Ok::<_, Error>((Dataset::new(split.name(), rows, length), self.account.read_of(split)))
        };
        let (train, mut read) = render(Split::Train, self.train.verified(night)?)?;
        let valid = match self.valid_rows {
            0 => None,
            _ => {
                let (valid, more) = render(Split::Valid, self.valid.verified(night)?)?;
                read += more;
                Some(valid)
            }
        };
        check_refused(&not_trained, read, max_refused_share)?;
        let (train, valid) = (train?, valid.transpose()?);
        let before = train.rows().len();
        let data = Data { train, valid, retention: None }.with_retention(config)?;
        let held_back = before - data.train.rows().len();
        if held_back > 0 {
            let rows = data.retention.iter().flat_map(Dataset::rows);
            let names = rows.filter_map(|row| rows_of.first()?.get(row.number() - 1));
            not_trained.extend(names.map(RowName::held_back));
        }
        Ok(RenderedData { data, not_trained, held_back })
    }
}

/// An error if the template refuses more rows than allowed.
fn check_refused(rows: &[NotTrained], read: u64, allowed: f64) -> Result<()> {
    let is_refused = |row: &&NotTrained| matches!(row.reason, Reason::Refused { .. });
    let refused: Vec<_> = rows.iter().filter(|row| !row.made).filter(is_refused).collect();
    let Some(NotTrained { row, reason: Reason::Refused { because }, .. }) = refused.first() else {
        return Ok(());
    };
    if refused.len() as f64 <= allowed * read as f64 {
        return Ok(());
    }
    let (file, line) = row.rsplit_once(':').unwrap_or((row, ""));
    Err(Error::Record {
        path: file.into(),
        line: line.parse().ok(),
        expected: "at most the share `max_refused_share` of rows that the model's chat template refuses",
        found: format!(
            "{} of {} ({allowed} allowed), the first: {because}",
            format::count(refused.len() as u64),
            format::count(read)
        ),
    })
}

/// Where a rendered row is from.
#[derive(Clone)]
struct RowName {
    row: String,
    made: bool,
}

impl RowName {
    fn of(row: &Conversation) -> Self {
        Self { row: row_name(row), made: !row.meta.contains_key(SOURCE_ROW) }
    }

    fn set_aside(self, split: Split, reason: Reason) -> NotTrained {
        NotTrained { row: self.row, made: self.made, split, reason }
    }

    fn held_back(&self) -> NotTrained {
        self.clone().set_aside(Split::Train, Reason::HeldBack)
    }
}

/// The rows of a split, each with its rendered rows or why there are none.
struct RenderedSplit {
    split: Split,
    rows: Vec<(Conversation, chat_format::Result<Vec<TrainingRow>>)>,
}

impl RenderedSplit {
    fn read(
        split: Split,
        path: &Path,
        tokenizer: &ChatTokenizer,
        supervision: Supervision,
    ) -> Result<Self> {
        let rows = jsonl::Reader::open(path)?.conversations();
        let rows = rows.collect::<chat_format::Result<Vec<_>>>()?;
        let render = |row: Conversation| {
            let rendered = tokenizer.training_rows(&row, &RenderOptions::default(), supervision);
            (row, rendered)
        };
        Ok(Self { split, rows: rows.into_par_iter().map(render).collect() })
    }

    /// The rendered rows as examples with their names, and the rows that are not trained, or not as a whole, within `length` tokens.
    fn fit(self, length: usize) -> (Vec<(RowName, Example)>, Vec<NotTrained>) {
        let (mut all, mut aside) = (Vec::new(), Vec::new());
        for (row, rendered) in self.rows {
            let reason = match &rendered {
                Err(error) => Some(Reason::Refused { because: error.to_string() }),
                Ok(rows) => misfit(rows, length),
            };
            let name = RowName::of(&row);
            aside.extend(reason.map(|reason| name.clone().set_aside(self.split, reason)));
            let source = RowSource::of_kind(row.meta.get("kind"));
            let examples = rendered.unwrap_or_default().into_iter().map(Example::from);
            all.extend(examples.map(|example| (name.clone(), example.from_source(source))));
        }
        (all, aside)
    }
}

/// Why the rendered rows of a conversation are not trained as a whole within `max_seq_length` tokens.
fn misfit(rows: &[TrainingRow], max_seq_length: usize) -> Option<Reason> {
    let trained = || rows.iter().flat_map(|row| row.trained.iter().cloned().flatten());
    // The first token of a row cannot be predicted.
    let is_trained = |token: usize| token > 0;
    let (total, within) = (
        trained().filter(|token| is_trained(*token)).count(),
        trained().filter(|token| is_trained(*token) && *token < max_seq_length).count(),
    );
    let tokens = rows.iter().map(|row| row.tokens.len()).max().unwrap_or_default();
    match (total, within) {
        (0, _) => Some(Reason::NothingToTrain),
        (_, 0) => Some(Reason::OverLength { tokens, max_seq_length }),
        _ if within < total => Some(Reason::Cut { tokens, max_seq_length }),
        _ => None,
    }
}
