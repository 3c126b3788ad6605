//! The stage `convert`: cleans the raw rows into conversations.

use std::path::{Path, PathBuf};

use chat_format::clean::{Converter, Options, Origin, Report};
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
    /// The largest share of rows that may be set aside.
    pub max_refused_share: f64,
}

/// The clean rows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CleanRows {
    /// A JSONL file with one conversation per line.
    pub file: Artefact,
    pub rows: u64,
    /// A JSONL file with the rows that could not be read or cleaned, and the reasons.
    pub refused_file: Artefact,
    /// Number of rows in `refused_file`.
    pub refused: u64,
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
        let refused = ctx.dir.join("refused.jsonl");
        let report = Converter::new(options).refused(&refused).convert(&raw, &path)?;
        self.check_refused(&report, &raw)?;
        if report.written == 0 {
            let (expected, found) = ("at least one row", "none".to_owned());
            return Err(Error::Record { path: raw, line: None, expected, found });
        }
        ctx.progress(report.written, report.rows, "cleaning");
        Ok(CleanRows {
            file: ctx.artefact(&path)?,
            rows: report.written,
            refused_file: ctx.artefact(&refused)?,
            refused: report.refused,
            reasoning: report.notes.reasoning,
        })
    }

    fn artefacts(output: &CleanRows) -> Vec<&Artefact> {
        vec![&output.file, &output.refused_file]
    }

    fn describe(output: &CleanRows) -> String {
        let rows = format::count(output.rows);
        let refused = match output.refused {
            0 => String::new(),
            refused => format!(", {} set aside (refused.jsonl)", format::count(refused)),
        };
        format!("{rows} clean rows, {} reasoning blocks removed{refused}", output.reasoning)
    }
}

impl Convert<'_> {
    /// An error if more rows were set aside than the configuration allows.
    fn check_refused(&self, report: &Report, raw: &Path) -> Result<()> {
        if report.refused_share() <= self.max_refused_share {
            return Ok(());
        }
        let first = report.refusals.first();
        let expected = "at most the share `max_refused_share` of rows that cannot be read";
        let (refused, rows) = (format::count(report.refused), format::count(report.rows));
        let reason = first.map_or("", |refusal| refusal.reason.as_str());
        let allowed = self.max_refused_share;
        let found = format!("{refused} of {rows} ({allowed} allowed), the first: {reason}");
        let line = first.map(|refusal| refusal.line as usize);
        Err(Error::Record { path: raw.to_path_buf(), line, expected, found })
    }
}
