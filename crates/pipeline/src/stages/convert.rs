//! The stage `convert`: cleans the raw rows into conversations.

use std::path::PathBuf;

use chat_format::clean::{self, Options, Origin, Strictness};
use durable::Digest;
use enrich::household::{Phrasings, write_raw};
use enrich::{GeneratorData, Household};
use serde::{Deserialize, Serialize};

use crate::config::DataSource;
use crate::error::{Error, Result};
use crate::format;
use crate::stage::{Artefact, Stage, StageContext};
use crate::stages::StageName;

/// The raw rows: a file, or a generator of synthetic rows.
#[derive(Debug, Serialize)]
pub(crate) struct RawRows {
    /// Digest of the file of rows, or of the facts that they are generated from.
    sha256: Digest,
    /// For rows generated from a household: their number and the seed.
    household: Option<(usize, u64)>,
    #[serde(skip)]
    path: PathBuf,
}

impl RawRows {
    /// Finds the file of the rows and takes its digest.
    pub fn locate(source: &DataSource) -> Result<Self> {
        let (path, household) = match source {
            DataSource::Raw(path) if path.is_dir() => (path.join("train.jsonl"), None),
            DataSource::Raw(path) => (path.clone(), None),
            DataSource::Household { facts, rows, seed } => (facts.clone(), Some((*rows, *seed))),
        };
        Ok(Self { sha256: durable::sha256_file(&path)?, household, path })
    }

    /// The file of raw rows. Rows of a household are generated into the stage's folder.
    fn file(&self, ctx: &StageContext<'_>) -> Result<PathBuf> {
        let Some((rows, seed)) = self.household else { return Ok(self.path.clone()) };
        let (data, phrasings) = (GeneratorData::embedded()?, Phrasings::embedded()?);
        let rows = Household::load(&self.path)?.rows(&data, &phrasings, rows, seed)?;
        let path = ctx.dir.join("raw.jsonl");
        write_raw(&path, &rows, seed)?;
        Ok(path)
    }
}

#[derive(Serialize)]
pub(crate) struct Convert<'a> {
    pub rows: &'a RawRows,
}

/// The clean rows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CleanRows {
    /// A JSONL file with one conversation per line.
    pub file: Artefact,
    pub rows: u64,
    /// Number of reasoning blocks removed.
    pub reasoning: u64,
}

impl Stage for Convert<'_> {
    const NAME: StageName = StageName::Convert;
    type Output = CleanRows;

    fn run(&self, ctx: &mut StageContext<'_>) -> Result<CleanRows> {
        let raw = self.rows.file(ctx)?;
        let path = ctx.dir.join("clean.jsonl");
        // The origin is needed for the share of each chat format in the report.
        let options = Options::default().origin(Origin::Keep);
        let report = clean::convert(&raw, &path, options, Strictness::Refuse)?;
        if report.written == 0 {
            let (expected, found) = ("at least one row", "none".to_owned());
            return Err(Error::Record { path: raw, line: None, expected, found });
        }
        ctx.progress(report.written, report.rows, "cleaning");
        Ok(CleanRows {
            file: ctx.artefact(&path)?,
            rows: report.written,
            reasoning: report.notes.reasoning,
        })
    }

    fn artefacts(output: &CleanRows) -> Vec<&Artefact> {
        vec![&output.file]
    }

    fn describe(output: &CleanRows) -> String {
        let rows = format::count(output.rows);
        format!("{rows} clean rows, {} reasoning blocks removed", output.reasoning)
    }
}
