//! The whole way: clean rows in, a data set out.

use std::path::{Path, PathBuf};

use chat_format::{Conversation, Message, jsonl};
use durable::Digest;
use serde::Serialize;

use crate::duplicates::Duplicate;
use crate::generate::Generator;
use crate::leaks::{ExamQuestions, Leak};
use crate::mix::{Mix, Warning};
use crate::row::Row;
use crate::sources::{LeakedPrompt, leaked_prompts};
use crate::split::{Partition, Split};
use crate::{Council, EnrichConfig, Error, Recipe, Result, private};

/// Above this share of repeated rows the input deserves a look.
const REPETITION: f64 = 0.02;

/// A data set, not yet written.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Its rows, in the order they came in and were made.
    pub rows: Vec<Conversation>,
    /// Where each row belongs.
    pub splits: Vec<Split>,
    /// How it came about.
    pub report: Report,
}

/// How a data set came about.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Rows that came in.
    pub read: usize,
    /// Rows that were made.
    pub made: usize,
    /// Rows left out for repeating an earlier one; rows count from 0 over what came in, then what was made.
    pub duplicates: Vec<Duplicate>,
    /// Rows left out for coming near to an exam question.
    pub leaks: Vec<Leak>,
    /// What is left.
    pub mix: Mix,
    /// How vendors' system prompts speak of declining, counted.
    pub system_prompts: Vec<LeakedPrompt>,
    #[serde(skip)]
    inputs: Vec<Source>,
    #[serde(skip)]
    council: Vec<Source>,
    #[serde(skip)]
    suites: Vec<Source>,
}

/// A file that went in or came out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Source {
    /// The file, as the configuration names it.
    pub file: PathBuf,
    /// Its content's digest.
    pub sha256: Digest,
    /// Rows or cases in it.
    pub entries: usize,
}

/// What is needed to tell whether a data set is the same as another: written beside it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Manifest {
    /// The version of this crate.
    pub version: &'static str,
    /// The recipe.
    pub recipe: Recipe,
    /// The seed.
    pub seed: u64,
    /// What came in.
    pub inputs: Vec<Source>,
    /// The files that replaced parts of the built-in council.
    pub council: Vec<Source>,
    /// The exams it was checked against.
    pub suites: Vec<Source>,
    /// What went out.
    pub outputs: Vec<Source>,
}

impl Dataset {
    /// Makes a data set as configured.
    pub fn build(config: &EnrichConfig) -> Result<Dataset> {
        if config.inputs.is_empty() {
            return Err(Error::NoInputs);
        }
        let mut council = Council::load(&config.council)?;
        let files = config.council.sources(&council)?;
        let system_prompts = config.system_prompts.as_ref().map(leaked_prompts).transpose()?;
        let (mut rows, mut inputs) = read(&config.inputs)?;
        for source in &config.sources {
            let entries = council.add_harmful(&source.read()?);
            let file = source.file();
            inputs.push(Source { sha256: durable::sha256_file(&file)?, file, entries });
        }
        let (questions, suites) = exams(&config.suites)?;
        let read = rows.len();
        let partition = Partition::new(&council, config.split, config.seed);
        let generator = Generator::new(&council, &partition, config.seed);
        let made = recipe(config, &generator, read)?;
        rows.extend(made.iter().map(Row::conversation));

        let duplicates = config.duplicates.find(&rows);
        let leaks = questions.leaks(&rows, &config.leaks)?;
        let private = private::scan(&rows);
        let mut keep = vec![true; rows.len()];
        let out = duplicates.iter().map(|duplicate| duplicate.row);
        for row in out.chain(leaks.iter().map(|leak| leak.row)) {
            if let Some(keep) = keep.get_mut(row) {
                *keep = false;
            }
        }
        let rows: Vec<_> = rows.into_iter().zip(keep).filter(|(_, keep)| *keep).collect();
        let mut rows: Vec<_> = rows.into_iter().map(|(row, _)| row).collect();
        if rows.is_empty() {
            return Err(Error::Empty { read, left_out: duplicates.len() + leaks.len() });
        }
        let splits = partition.assign(&rows);
        let mut mix = Mix::of(&rows, &splits);
        let share = duplicates.len() as f64 / (read + made.len()) as f64;
        if share > REPETITION {
            mix.warnings.push(Warning::Repetition { share });
        }
        mix.warnings.extend(private);
        if let Some(control) = config.control {
            control.apply(&mut rows, &splits, config.seed);
        }
        let made = made.len();
        let system_prompts = system_prompts.unwrap_or_default();
        let council = files;
        let report =
            Report { read, made, duplicates, leaks, mix, system_prompts, inputs, council, suites };
        Ok(Dataset { rows, splits, report })
    }

    /// The rows of a split, in order.
    pub fn of(&self, split: Split) -> impl Iterator<Item = &Conversation> {
        let rows = self.rows.iter().zip(&self.splits);
        rows.filter(move |(_, of)| **of == split).map(|(row, _)| row)
    }

    /// Writes `train.jsonl`, `valid.jsonl`, `test.jsonl`, `report.json` and, last, `manifest.json` into a folder, which
    /// is made if need be. Every file is whole or absent, and the manifest vouches for the others.
    pub fn write(&self, folder: impl AsRef<Path>, config: &EnrichConfig) -> Result<Manifest> {
        let folder = folder.as_ref();
        std::fs::create_dir_all(folder)
            .map_err(|source| Error::Read { path: folder.to_path_buf(), source })?;
        let mut outputs = Vec::new();
        for split in Split::ALL {
            let name = format!("{split}.jsonl");
            let path = folder.join(&name);
            let mut writer = jsonl::Writer::create(&path)?;
            let mut entries = 0;
            for row in self.of(split) {
                writer.write(row)?;
                entries += 1;
            }
            writer.commit()?;
            outputs.push(Source {
                file: name.into(),
                sha256: durable::sha256_file(&path)?,
                entries,
            });
        }
        durable::write_json(folder.join("report.json"), &self.report)?;
        let manifest = Manifest {
            version: env!("CARGO_PKG_VERSION"),
            recipe: config.recipe,
            seed: config.seed,
            inputs: self.report.inputs.clone(),
            council: self.report.council.clone(),
            suites: self.report.suites.clone(),
            outputs,
        };
        durable::write_json(folder.join("manifest.json"), &manifest)?;
        Ok(manifest)
    }
}

impl Row {
    /// The row as a clean conversation; what is known about it becomes extra fields.
    pub fn conversation(&self) -> Conversation {
        let mut messages = vec![Message::system(&self.system)];
        for exchange in &self.exchanges {
            messages.push(Message::user(&exchange.user));
            messages.push(Message::assistant(&exchange.assistant));
        }
        let mut conversation = Conversation::new(messages);
        if let Ok(serde_json::Value::Object(meta)) = serde_json::to_value(&self.meta) {
            conversation.meta = meta;
        }
        conversation
    }
}

fn recipe(config: &EnrichConfig, generator: &Generator, read: usize) -> Result<Vec<Row>> {
    let refusals = match config.recipe {
        Recipe::Seed => generator.max_refusals(),
        Recipe::Balanced => config.refusals.count(read, generator.max_refusals()),
    };
    let mut rows = generator.refusals(refusals)?;
    if config.recipe == Recipe::Balanced {
        rows.extend(generator.twins(refusals)?);
        rows.extend(generator.partial(refusals / 4)?);
    }
    rows.extend(generator.identity()?);
    rows.extend(generator.routing()?);
    Ok(rows)
}

fn read(paths: &[PathBuf]) -> Result<(Vec<Conversation>, Vec<Source>)> {
    let (mut rows, mut sources) = (Vec::new(), Vec::new());
    for path in paths {
        let before = rows.len();
        for row in jsonl::Reader::open(path)?.conversations() {
            rows.push(row?);
        }
        let sha256 = durable::sha256_file(path)?;
        sources.push(Source { file: path.clone(), sha256, entries: rows.len() - before });
    }
    Ok((rows, sources))
}

fn exams(paths: &[PathBuf]) -> Result<(ExamQuestions, Vec<Source>)> {
    let (mut questions, mut sources) = (ExamQuestions::default(), Vec::new());
    for path in paths {
        let before = questions.len();
        questions.read(path)?;
        let sha256 = durable::sha256_file(path)?;
        sources.push(Source { file: path.clone(), sha256, entries: questions.len() - before });
    }
    Ok((questions, sources))
}
