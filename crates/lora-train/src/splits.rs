//! The data files of a run.

use chat_format::ChatTokenizer;

use crate::config::{TrainConfig, TrainMode};
use crate::pair_rows::read_pairs;
use crate::rows::{Columns, read_examples};
use crate::{Data, Dataset, Result};

impl Data {
    /// Reads `train.jsonl` and, if it exists, `valid.jsonl` from the folder `config.data`: rows, or with
    /// a preference loss pairs. Rows for `nightshift.retention` as by [`with_retention`](Self::with_retention).
    ///
    /// # Errors
    /// As for [`read_rows`](crate::read_rows), [`read_pairs`], [`Dataset::new`] and [`Dataset::pairs`];
    /// [`Error::Setting`](crate::Error::Setting) if `config.data` is absent.
    pub fn open(config: &TrainConfig, tokenizer: &ChatTokenizer) -> Result<Self> {
        let folder = config.data_folder()?;
        let split = |name: &str| {
            let path = folder.join(format!("{name}.jsonl"));
            let (columns, length) = (Columns::from(config), config.max_seq_length);
            if config.mode() != TrainMode::Sft {
                return Dataset::pairs(name, read_pairs(&path, tokenizer, &columns)?, length);
            }
            let rows = read_examples(&path, tokenizer, &columns, config.supervision())?;
            Dataset::new(name, rows, length)
        };
        let train = split("train")?;
        let has_valid = folder.join("valid.jsonl").exists();
        let valid = if has_valid { Some(split("valid")?) } else { None };
        Self { train, valid, retention: None }.with_retention(config)
    }
}
