//! Builds a data set from clean rows.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chat_format::{Conversation, jsonl};
use serde::Serialize;

use crate::duplicates::Duplicate;
use crate::generate::Generator;
use crate::household::Phrasings;
use crate::leaks::{ExamQuestions, Leak, Leaks};
use crate::left_out::{self, LeftOut, Place};
use crate::manifest::{Manifest, ManifestFile, Origin};
use crate::mix::{Mix, Warning};
use crate::pairs::{self, Pair};
use crate::personas::{self, Persona};
use crate::row::Row;
use crate::sources::{LeakedPrompt, leaked_prompts};
use crate::split::{Partition, Split};
use crate::{
    EnrichConfig, Error, GeneratorData, GeneratorFiles, Household, Recipe, Result, private, remarks,
};

/// The share of duplicate rows above which the report warns.
const REPETITION: f64 = 0.02;

/// A data set, not yet written.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Dataset {
    /// Its rows: those read, in their order, then those generated, then those that the base model answered (replay).
    pub rows: Vec<Conversation>,
    /// The split of each row.
    pub splits: Vec<Split>,
    /// A right and a wrong answer for every generated training row that has one. None under a [control](crate::Control).
    pub pairs: Vec<Pair>,
    /// How it was built.
    pub report: Report,
}

/// How a data set was built.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// Rows read.
    pub read: usize,
    /// Rows generated.
    pub made: usize,
    /// Rows that the base model answered.
    pub replayed: usize,
    /// Rows left out as near duplicates of an earlier one. Row numbers start at 0, rows read before rows generated.
    pub duplicates: Vec<Duplicate>,
    /// Rows left out as too similar to an exam question.
    pub leaks: Vec<Leak>,
    /// The rows left out, each once, with its reason; `left-out.jsonl` lists them.
    #[serde(serialize_with = "count")]
    pub left_out: Vec<LeftOut>,
    /// Whether the splits were drawn from the rows read, or given.
    pub splits: Origin,
    /// The personas of the generated rows, by agent.
    pub personas: Vec<Persona>,
    /// The composition of the remaining rows.
    pub mix: Mix,
    /// Counts of refusal patterns in vendors' system prompts.
    pub system_prompts: Vec<LeakedPrompt>,
    #[serde(skip)]
    inputs: Vec<ManifestFile>,
    #[serde(skip)]
    council: Vec<ManifestFile>,
    #[serde(skip)]
    suites: Vec<ManifestFile>,
}

/// Rows, and which of them are too similar to an exam question.
struct Gathered<'a> {
    questions: &'a ExamQuestions,
    rule: &'a Leaks,
    rows: Vec<Conversation>,
    leaks: Vec<Leak>,
}

impl<'a> Gathered<'a> {
    fn new(questions: &'a ExamQuestions, rule: &'a Leaks) -> Self {
        Self { questions, rule, rows: Vec::new(), leaks: Vec::new() }
    }

    /// Appends rows and returns how many.
    fn add(&mut self, rows: Vec<Conversation>) -> Result<usize> {
        let (before, count) = (self.rows.len(), rows.len());
        let leaks = self.questions.leaks(&rows, self.rule)?.into_iter();
        self.leaks.extend(leaks.map(|leak| Leak { row: leak.row + before, ..leak }));
        self.rows.extend(rows);
        Ok(count)
    }
}

impl Dataset {
    /// Builds a data set as configured.
    ///
    /// # Errors
    /// If the configuration names no inputs, a file cannot be read or is invalid, or no row is left.
    pub fn build(config: &EnrichConfig) -> Result<Dataset> {
        if config.inputs.is_empty() {
            return Err(Error::NoInputs);
        }
        let mut data = GeneratorData::load(&config.council)?;
        let mut council = data_files(&config.council, &data)?;
        let system_prompts = config.system_prompts.as_ref().map(leaked_prompts).transpose()?;
        let Read { rows, places, files: mut inputs } = Read::all(&config.inputs)?;
        let mut remarks = remarks::without_effect(config);
        for source in &config.sources {
            let (file, prompts) = (source.file(), source.read()?);
            let used = data.add_harmful(&prompts);
            inputs.push(ManifestFile::of(file.clone(), used)?);
            if used < prompts.len() && config.recipe != Recipe::None {
                remarks.push(Warning::PromptsLeftOut { file, prompts: prompts.len(), used });
            }
        }
        let personas = personas::choose(&rows, &mut data.council, &data.personas);
        let (questions, suites) = exams(&config.suites)?;
        let read = rows.len();
        let partition = Partition::new(&data, config.split, config.seed);
        let generator = Generator::new(&data, &partition, config.seed);
        let mut all = Gathered::new(&questions, &config.leaks);
        all.add(rows)?;
        let mut made = recipe(config, &generator, &all.rows, &all.leaks)?;
        remarks.extend(remarks::refusals(config, read, generator.max_refusals()));
        if let Some(facts) = &config.council.facts {
            let (rows, files) = fact_rows(facts, config, &data)?;
            if let Some(asked) = config.fact_rows.filter(|asked| *asked > rows.len()) {
                remarks.push(Warning::FewerFacts { asked, made: rows.len() });
            }
            made.extend(rows);
            council.extend(files);
        }
        let generated = all.add(made.iter().map(Row::conversation).collect())?;
        let replay = Read::all(config.replay.as_slice())?;
        let replayed = all.add(replay.rows)?;
        inputs.extend(replay.files);
        let Gathered { rows, leaks, .. } = all;

        let duplicates = config.duplicates.find(&rows);
        let private = private::scan(&rows, |row| left_out::name(&rows[row], places.get(row)));
        let mut keep = vec![true; rows.len()];
        let left_out = left_out::list(&rows, &places, &duplicates, &leaks);
        for (row, _) in &left_out {
            keep[*row] = false;
        }
        let left_out: Vec<_> = left_out.into_iter().map(|(_, left_out)| left_out).collect();
        let read_kept = keep[..read].iter().filter(|keep| **keep).count();
        let kept = rows.into_iter().zip(&keep).filter_map(|(row, keep)| keep.then_some(row));
        let mut rows: Vec<_> = kept.collect();
        if rows.is_empty() {
            return Err(Error::Empty { read, left_out: left_out.len() });
        }
        let mut splits = partition.assign(&rows, read_kept);
        let kept = made.iter().zip(&keep[read..]).filter(|(_, keep)| **keep);
        let trained = kept.zip(&splits[read_kept..]).filter(|(_, split)| **split == Split::Train);
        let pairs: Vec<Pair> = match config.control {
            None => trained.filter_map(|((row, _), _)| Pair::of(row)).collect(),
            Some(_) => Vec::new(),
        };
        if let Some(control) = config.control {
            control.apply(&mut rows, &mut splits, &config.suites, config.seed)?;
        }
        let mut mix = Mix::of(&rows, &splits).with_pairs(&pairs);
        mix.warnings.extend(config.control.map(|control| Warning::Control { control }));
        let share = duplicates.len() as f64 / (read + generated + replayed) as f64;
        if share > REPETITION {
            mix.warnings.push(Warning::Repetition { share });
        }
        for (split, expected) in config.split.expected(rows.len()) {
            let rows = mix.by_split.get(&split).copied().unwrap_or(0);
            if rows * 2 < expected {
                mix.warnings.push(Warning::Split { split, rows, expected });
            }
        }
        mix.warnings.extend(private);
        remarks.extend(remarks::household(config, &data, &personas));
        mix.warnings.extend(remarks);
        let made = made.len();
        let system_prompts = system_prompts.unwrap_or_default();
        let report = Report {
            read,
            made,
            replayed,
            duplicates,
            leaks,
            left_out,
            splits: Origin::Drawn,
            personas,
            mix,
            system_prompts,
            inputs,
            council,
            suites,
        };
        Ok(Dataset { rows, splits, pairs, report })
    }

    /// A data set of splits as they are: no row is generated, and none of these is left out or moved. The report warns of rows
    /// that are too similar to exam questions; `config` says which suites and from which similarity. Replay rows are added to
    /// the training split; those that are too similar are left out and listed.
    ///
    /// # Errors
    /// If a file cannot be read or is invalid, or there is no row to train.
    pub fn as_given(config: &EnrichConfig, parts: &[(Split, PathBuf)]) -> Result<Dataset> {
        let paths: Vec<_> = parts.iter().map(|(_, path)| path.clone()).collect();
        let Read { mut rows, places, mut files } = Read::all(&paths)?;
        let entries = files.iter().map(|file| file.entries);
        let splits = parts.iter().zip(entries);
        let mut splits: Vec<Split> =
            splits.flat_map(|((split, _), rows)| std::iter::repeat_n(*split, rows)).collect();
        if !splits.contains(&Split::Train) {
            return Err(Error::Empty { read: rows.len(), left_out: 0 });
        }
        let (questions, suites) = exams(&config.suites)?;
        let kept_leaks = questions.leaks(&rows, &config.leaks)?.len();
        let read = rows.len();
        let replay = Read::all(config.replay.as_slice())?;
        let leaks = questions.leaks(&replay.rows, &config.leaks)?;
        let left_out = left_out::list(&replay.rows, &[], &[], &leaks);
        let dropped: HashSet<usize> = left_out.iter().map(|(row, _)| *row).collect();
        let replay_rows = replay.rows.into_iter().enumerate();
        rows.extend(replay_rows.filter(|(row, _)| !dropped.contains(row)).map(|(_, row)| row));
        splits.resize(rows.len(), Split::Train);
        files.extend(replay.files);
        let mut mix = Mix::of(&rows, &splits);
        if kept_leaks > 0 {
            mix.warnings.push(Warning::KeptLeaks { rows: kept_leaks });
        }
        let name = |row: usize| left_out::name(&rows[row], places.get(row));
        mix.warnings.extend(private::scan(&rows, name));
        let report = Report {
            read,
            made: 0,
            replayed: rows.len() - read,
            duplicates: Vec::new(),
            leaks: leaks.into_iter().map(|leak| Leak { row: leak.row + read, ..leak }).collect(),
            left_out: left_out.into_iter().map(|(_, row)| row).collect(),
            splits: Origin::Given,
            personas: Vec::new(),
            mix,
            system_prompts: Vec::new(),
            inputs: files,
            council: Vec::new(),
            suites,
        };
        Ok(Dataset { rows, splits, pairs: Vec::new(), report })
    }

    /// The rows of a split, in order.
    pub fn of(&self, split: Split) -> impl Iterator<Item = &Conversation> {
        let rows = self.rows.iter().zip(&self.splits);
        rows.filter(move |(_, of)| **of == split).map(|(row, _)| row)
    }

    /// Writes `train.jsonl`, `valid.jsonl`, `test.jsonl`, `pairs.jsonl`, `left-out.jsonl`, `report.json` and, last,
    /// `manifest.json` into a folder, which is created if missing. Every file is complete or absent, and the manifest has the
    /// digests of the rows and pairs.
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
            outputs.push(ManifestFile { file: name.into(), ..ManifestFile::of(path, entries)? });
        }
        let path = folder.join("pairs.jsonl");
        pairs::write(&path, &self.pairs)?;
        let file = ManifestFile::of(path, self.pairs.len())?;
        outputs.push(ManifestFile { file: "pairs.jsonl".into(), ..file });
        let mut writer = jsonl::Writer::create(folder.join("left-out.jsonl"))?;
        self.report.left_out.iter().try_for_each(|row| writer.write(row))?;
        writer.commit()?;
        durable::write_json(folder.join("report.json"), &self.report)?;
        let manifest = Manifest {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            recipe: config.recipe,
            splits: self.report.splits,
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

/// The files that replaced parts of the built-in data, for the manifest.
fn data_files(files: &GeneratorFiles, data: &GeneratorData) -> Result<Vec<ManifestFile>> {
    let files = [
        (&files.agents, data.council.agents.len()),
        (&files.personas, data.personas.len()),
        (&files.techniques, data.techniques.len()),
        (&files.requests, data.harmful.len() + data.benign.len()),
        (&files.identity, data.identity.len()),
        (&files.routing, data.routing.len()),
        (&files.situations, data.situations.len()),
        (&files.harmless, data.harmless.len()),
        (&files.refusals, data.refusals.who.len()),
    ];
    let given = files.into_iter().filter_map(|(file, entries)| Some((file.clone()?, entries)));
    given.map(|(file, entries)| ManifestFile::of(file, entries)).collect()
}

fn recipe(
    config: &EnrichConfig,
    generator: &Generator,
    read: &[Conversation],
    leaks: &[Leak],
) -> Result<Vec<Row>> {
    let refusals = match config.recipe {
        Recipe::Seed => generator.max_refusals(),
        Recipe::Balanced => config.refusals.count(read.len(), generator.max_refusals()),
        Recipe::None => return Ok(Vec::new()),
    };
    let mut rows = generator.refusals(refusals)?;
    if config.recipe == Recipe::Balanced {
        rows.extend(generator.twins(refusals)?);
        let leaked: HashSet<usize> = leaks.iter().map(|leak| leak.row).collect();
        let usable = read.iter().enumerate().filter(|(row, _)| !leaked.contains(row));
        rows.extend(generator.own_twins(usable.map(|(_, row)| row), refusals / 2)?);
        rows.extend(generator.partial(refusals / 4)?);
        // They balance refusals: without any, a file of one's own asks for them.
        if refusals > 0 || config.council.harmless.is_some() {
            rows.extend(generator.harmless()?);
        }
        rows.extend(generator.situations()?);
    }
    rows.extend(generator.identity()?);
    rows.extend(generator.routing()?);
    Ok(rows)
}

/// The rows about the household's facts, and the files that they are made from, for the manifest.
fn fact_rows(
    path: &Path,
    config: &EnrichConfig,
    data: &GeneratorData,
) -> Result<(Vec<Row>, Vec<ManifestFile>)> {
    let house = Household::load(path)?;
    let phrasings = Phrasings::of(&config.council)?;
    house.check_against(data, &phrasings, path)?;
    let entries =
        house.facts.len() + house.topics.len() + house.scenarios.len() + house.tools.len();
    let count = config.fact_rows.unwrap_or(2 * entries);
    let rows = house.rows_up_to(data, &phrasings, count, config.seed)?;
    let own = config.council.phrasings.as_ref();
    let files = [Some((path, entries)), own.map(|file| (file.as_path(), phrasings.len()))];
    let files = files.into_iter().flatten();
    let files = files.map(|(file, entries)| ManifestFile::of(file.to_path_buf(), entries));
    Ok((rows, files.collect::<Result<_>>()?))
}

/// Rows that were read, and where.
struct Read {
    rows: Vec<Conversation>,
    places: Vec<Place>,
    files: Vec<ManifestFile>,
}

impl Read {
    fn all(paths: &[PathBuf]) -> Result<Read> {
        let mut read = Read { rows: Vec::new(), places: Vec::new(), files: Vec::new() };
        for path in paths {
            let before = read.rows.len();
            let file: Arc<str> = path.file_name().unwrap_or_default().to_string_lossy().into();
            for row in jsonl::Reader::open(path)? {
                let jsonl::Row { line, value, .. } = row?;
                let row = Conversation::try_from(value).map_err(|problem| {
                    chat_format::Error::Row { path: path.clone(), line, problem }
                })?;
                read.rows.push(row);
                read.places.push(Place { file: Arc::clone(&file), line });
            }
            read.files.push(ManifestFile::of(path.clone(), read.rows.len() - before)?);
        }
        Ok(read)
    }
}

/// Writes a list as its length.
fn count<S: serde::Serializer>(list: &[LeftOut], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(list.len() as u64)
}

fn exams(paths: &[PathBuf]) -> Result<(ExamQuestions, Vec<ManifestFile>)> {
    let (mut questions, mut sources) = (ExamQuestions::default(), Vec::new());
    for path in paths {
        let before = questions.len();
        questions.read(path)?;
        sources.push(ManifestFile::of(path.clone(), questions.len() - before)?);
    }
    Ok((questions, sources))
}
