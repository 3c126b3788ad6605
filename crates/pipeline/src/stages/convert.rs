//! Raw rows to clean conversations.

use std::path::PathBuf;

use chat_format::clean::{self, Options, Origin, Strictness};
use durable::Digest;
use enrich::household::{Phrasings, write_raw};
use enrich::{GeneratorData, Household};
use serde::{Deserialize, Serialize};

use crate::config::DataSource;
use crate::error::{Error, Result};
use crate::report::words;
use crate::stage::{Artefact, Desk, Stage, StageName};

/// Where the raw rows are, and what is in them.
#[derive(Debug, Serialize)]
pub(crate) struct RawRows {
    /// Digest of the file they are in or are made from.
    sha256: Digest,
    /// For rows made from a household: how many, and the seed.
    household: Option<(usize, u64)>,
    #[serde(skip)]
    path: PathBuf,
}

impl RawRows {
    /// Finds the rows and takes the digest of their file.
    pub fn locate(source: &DataSource) -> Result<Self> {
        let (path, household) = match source {
            DataSource::Raw(path) if path.is_dir() => (path.join("train.jsonl"), None),
            DataSource::Raw(path) => (path.clone(), None),
            DataSource::Household { facts, rows, seed } => (facts.clone(), Some((*rows, *seed))),
        };
        Ok(Self { sha256: durable::sha256_file(&path)?, household, path })
    }

    /// The file of raw rows, which is made if they come from a household.
    fn file(&self, desk: &Desk<'_>) -> Result<PathBuf> {
        let Some((rows, seed)) = self.household else { return Ok(self.path.clone()) };
        let (data, phrasings) = (GeneratorData::embedded()?, Phrasings::embedded()?);
        let rows = Household::load(&self.path)?.rows(&data, &phrasings, rows, seed)?;
        let path = desk.dir().join("raw.jsonl");
        write_raw(&path, &rows, seed)?;
        Ok(path)
    }
}

/// The rows to be cleaned.
#[derive(Serialize)]
pub(crate) struct Convert<'a> {
    /// Where they come from.
    pub rows: &'a RawRows,
}

/// Clean rows on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Clean {
    /// One conversation a line.
    pub file: Artefact,
    /// How many.
    pub rows: u64,
    /// Blocks of reasoning taken out.
    pub reasoning: u64,
}

impl Stage for Convert<'_> {
    const NAME: StageName = StageName::Convert;
    type Output = Clean;

    fn run(&self, desk: &mut Desk<'_>) -> Result<Clean> {
        let raw = self.rows.file(desk)?;
        let path = desk.dir().join("clean.jsonl");
        // So that the mix can say which families the rows came from.
        let options = Options::default().origin(Origin::Keep);
        let report = clean::convert(&raw, &path, options, Strictness::Refuse)?;
        if report.written == 0 {
            let (expected, found) = ("at least one row", "none".to_owned());
            return Err(Error::Record { path: raw, line: None, expected, found });
        }
        desk.progress(report.written, report.rows, "cleaning");
        Ok(Clean {
            file: desk.artefact(&path)?,
            rows: report.written,
            reasoning: report.notes.reasoning,
        })
    }

    fn artefacts(output: &Clean) -> Vec<&Artefact> {
        vec![&output.file]
    }

    fn figures(output: &Clean) -> String {
        let rows = words::count(output.rows);
        format!("{rows} clean rows, {} blocks of reasoning taken out", output.reasoning)
    }
}
