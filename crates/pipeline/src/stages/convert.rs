//! The stage `convert`: cleans the raw rows into conversations.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use chat_format::clean::{Converter, Notes, Options, Origin, Report};
use enrich::split::Split;
use serde::{Deserialize, Serialize, Serializer};

use crate::config::ScrubKinds;
use crate::error::{Error, Result, io_error};
use crate::format;
use crate::raw_rows::{RawPart, RawRows};
use crate::served_chats;
use crate::stage::{Artefact, Stage, StageContext};
use crate::stages::StageName;

/// The key by which rows of one growing conversation are told from others.
const SAME: &str = "agent";

#[derive(Serialize)]
pub(crate) struct Convert<'a> {
    pub rows: &'a RawRows,
    /// The largest share of rows that may be set aside.
    pub max_refused_share: f64,
    /// Personal data that is replaced.
    pub scrub: &'a ScrubKinds,
    /// Whether rows that are the beginning of longer ones are merged into them.
    pub merge: bool,
}

/// The clean rows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CleanRows {
    /// JSONL files with one conversation per line: one for each given split, or one of all rows.
    pub parts: Vec<CleanPart>,
    pub rows: u64,
    /// A JSONL file with the rows that could not be read or cleaned, and the reasons.
    pub refused_file: Artefact,
    /// Number of rows in `refused_file`.
    pub refused: u64,
    /// A JSONL file with the places of rows that were merged into longer ones, and of those.
    pub merged_file: Artefact,
    /// Number of rows in `merged_file`.
    pub merged: u64,
    /// Number of reasoning blocks removed.
    pub reasoning: u64,
    /// Personal data replaced, by placeholder.
    pub scrubbed: BTreeMap<String, u64>,
    /// Keys of messages that were left out, by path.
    pub ignored: BTreeMap<String, u64>,
    /// The files that were read.
    pub files: Vec<CleanFile>,
    /// Files that were not read, with the reason.
    pub skipped: Vec<String>,
    /// A JSONL file with preference pairs from recorded chats, if there are such chats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat_pairs: Option<Artefact>,
}

/// The clean rows of a split, or all of them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CleanPart {
    pub split: Option<Split>,
    pub file: Artefact,
}

/// A raw file and the numbers of its rows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CleanFile {
    pub name: String,
    pub read: u64,
    pub written: u64,
    pub refused: u64,
    pub merged: u64,
}

impl Stage for Convert<'_> {
    const NAME: StageName = StageName::Convert;
    const VERSION: u32 = 2;
    type Output = CleanRows;

    fn run(&self, ctx: &mut StageContext<'_>) -> Result<CleanRows> {
        let (parts, base) = self.rows.parts(ctx.dir)?;
        let [refused, merged] = ["refused.jsonl", "merged.jsonl"].map(|name| ctx.dir.join(name));
        let lists = (List::create(&refused)?, List::create(&merged)?);
        let (mut clean, mut reports) = (Vec::new(), Vec::new());
        for RawPart { split, inputs, .. } in parts {
            let path = ctx.dir.join(format!("{}.jsonl", split.map_or("clean", Split::name)));
            let converter = self.converter(&base).refused(lists.0.part()).merged(lists.1.part());
            let report = converter.convert_all(inputs, &path)?;
            lists.0.add()?;
            lists.1.add()?;
            ctx.progress(report.written, report.rows, "cleaning");
            reports.push(report);
            clean.push(CleanPart { split, file: ctx.artefact(&path)? });
        }
        self.check(&reports)?;
        let sum = |of| sum(&reports, of);
        let counts = |of: fn(&Notes) -> Vec<(String, u64)>| {
            reports.iter().flat_map(|report| of(&report.notes)).fold(
                BTreeMap::new(),
                |mut all, (key, count)| {
                    *all.entry(key).or_default() += count;
                    all
                },
            )
        };
        let skipped = reports.iter().flat_map(|report| &report.skipped);
        Ok(CleanRows {
            parts: clean,
            rows: sum(|report| report.written),
            refused_file: ctx.artefact(&refused)?,
            refused: sum(|report| report.refused),
            merged_file: ctx.artefact(&merged)?,
            merged: sum(|report| report.merged),
            reasoning: sum(|report| report.notes.reasoning),
            scrubbed: counts(|notes| owned(&notes.scrubbed)),
            ignored: counts(|notes| owned(&notes.ignored)),
            files: reports.iter().flat_map(|report| files(report, &base)).collect(),
            skipped: skipped
                .map(|s| format!("{}: {}", s.path.display(), s.reason))
                .chain(self.rows.remark.clone())
                .collect(),
            chat_pairs: match self.rows.have_chats() {
                true => Some(ctx.artefact(&ctx.dir.join(served_chats::PAIRS))?),
                false => None,
            },
        })
    }

    fn artefacts(output: &CleanRows) -> Vec<&Artefact> {
        let parts = output.parts.iter().map(|part| &part.file);
        parts.chain([&output.refused_file, &output.merged_file]).chain(&output.chat_pairs).collect()
    }

    fn describe(output: &CleanRows) -> String {
        let CleanRows { rows, reasoning, refused, merged, scrubbed, .. } = output;
        let mut text =
            format!("{} clean rows, {reasoning} reasoning blocks removed", format::count(*rows));
        if *merged > 0 {
            text += &format!(", {} merged into longer ones", format::count(*merged));
        }
        if *refused > 0 {
            text += &format!(", {} set aside (refused.jsonl)", format::count(*refused));
        }
        let replaced: u64 = scrubbed.values().sum();
        if replaced > 0 {
            text += &format!(", {} pieces of personal data replaced", format::count(replaced));
        }
        text
    }
}

impl CleanRows {
    /// The form in the key of a stage that reads the rows.
    pub fn parts<S: Serializer>(
        clean: &&Self,
        serializer: S,
    ) -> std::result::Result<S::Ok, S::Error> {
        clean.parts.serialize(serializer)
    }
}

impl Convert<'_> {
    fn converter(&self, base: &Path) -> Converter {
        // The origin is needed for the share of each chat format in the report.
        let options = Options::default().origin(Origin::Keep).scrub(self.scrub.scrub());
        let converter = Converter::new(options).sources(base);
        if self.merge { converter.merge_grown([SAME]) } else { converter }
    }

    /// An error if there is no row, or if more rows were set aside than the configuration allows.
    fn check(&self, reports: &[Report]) -> Result<()> {
        let rows = sum(reports, |report| report.rows);
        let refused = sum(reports, |report| report.refused);
        let first = reports.iter().find_map(|report| report.refusals.first());
        if refused as f64 > self.max_refused_share * rows as f64 {
            let expected = "at most the share `max_refused_share` of rows that cannot be read";
            let (refused, rows) = (format::count(refused), format::count(rows));
            let reason = first.map_or("", |refusal| refusal.reason.as_str());
            let allowed = self.max_refused_share;
            let found = format!("{refused} of {rows} ({allowed} allowed), the first: {reason}");
            let path = first.map_or_else(PathBuf::new, |refusal| refusal.file.clone());
            let line = first.map(|refusal| refusal.line as usize);
            return Err(Error::Record { path, line, expected, found });
        }
        // The first part has the rows to train; rows for validation alone are not enough.
        let first = reports.first();
        if first.is_none_or(|report| report.written == 0) {
            let files = first.and_then(|report| report.files.first());
            let path = files.map_or_else(PathBuf::new, |file| file.file.clone());
            let (expected, found) = ("at least one row", "none".to_owned());
            return Err(Error::Record { path, line: None, expected, found });
        }
        Ok(())
    }
}

fn sum(reports: &[Report], of: fn(&Report) -> u64) -> u64 {
    reports.iter().map(of).sum()
}

fn owned(counts: &BTreeMap<impl ToString + Ord, u64>) -> Vec<(String, u64)> {
    counts.iter().map(|(key, count)| (key.to_string(), *count)).collect()
}

fn files(report: &Report, base: &Path) -> Vec<CleanFile> {
    let file = |file: &chat_format::clean::FileReport| CleanFile {
        name: file.file.strip_prefix(base).unwrap_or(&file.file).display().to_string(),
        read: file.rows,
        written: file.written,
        refused: file.refused,
        merged: file.merged,
    };
    report.files.iter().map(file).collect()
}

/// A list that the parts of a conversion add to.
struct List<'a> {
    path: &'a Path,
}

impl<'a> List<'a> {
    /// An empty list.
    fn create(path: &'a Path) -> Result<Self> {
        durable::write(path, "")?;
        Ok(Self { path })
    }

    /// The list of the part being converted.
    fn part(&self) -> PathBuf {
        self.path.with_extension("part.jsonl")
    }

    /// Adds the list of a part, and removes it.
    fn add(&self) -> Result<()> {
        let part = self.part();
        let mut bytes = fs::read(self.path).map_err(io_error(self.path, "read"))?;
        bytes.extend(fs::read(&part).map_err(io_error(&part, "read"))?);
        durable::write(self.path, bytes)?;
        fs::remove_file(&part).map_err(io_error(&part, "remove"))
    }
}
