//! Base, candidate and champion answer the same suite.

use std::path::{Path, PathBuf};

use chat_format::ChatTokenizer;
use durable::Digest;
use eval::{Exam as Paper, ExamOptions, ExamRun, ModelAnswerer, Outcome, Progress, Subject, Suite};
use models::{Adapter, Model};
use serde::{Deserialize, Serialize};

use super::train::Trained;
use crate::error::Result;
use crate::model::BaseModel;
use crate::registry::Registry;
use crate::stage::{Artefact, Desk, Stage, StageName};

/// Who answers what.
#[derive(Serialize)]
pub(crate) struct Exam<'a> {
    /// The base model.
    pub model: &'a BaseModel,
    /// The candidate.
    pub trained: &'a Trained,
    /// Who serves.
    pub champion: Option<Digest>,
    /// Digest of the suite.
    pub suite_digest: Digest,
    /// How it is put.
    pub options: &'a ExamOptions,
    /// How answers are judged.
    pub scoring_version: u32,
    /// The suite.
    #[serde(skip)]
    pub suite: &'a Suite,
    /// Where the champion lies.
    #[serde(skip)]
    pub registry: &'a Registry,
}

/// The runs of an exam.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Exams {
    /// The model without an adapter.
    pub base: RunFiles,
    /// The model with the candidate.
    pub candidate: RunFiles,
    /// The model with the adapter that serves.
    pub champion: Option<RunFiles>,
    /// The cases of the suite.
    cases: usize,
}

/// The same, read back.
pub(crate) struct Runs {
    pub base: ExamRun,
    pub candidate: ExamRun,
    pub champion: Option<ExamRun>,
}

impl Exams {
    /// Reads all runs back.
    pub fn load(&self, night: &Path) -> Result<Runs> {
        Ok(Runs {
            base: self.base.load(night)?,
            candidate: self.candidate.load(night)?,
            champion: self.champion.as_ref().map(|run| run.load(night)).transpose()?,
        })
    }
}

/// One run on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RunFiles {
    /// The run's folder within the night's.
    folder: PathBuf,
    /// Who answered what, and how.
    manifest: Artefact,
    /// The answers.
    answers: Artefact,
    /// Its score over all cases.
    score: f64,
}

impl RunFiles {
    /// Reads the run back.
    pub fn load(&self, night: &Path) -> Result<ExamRun> {
        Ok(ExamRun::load(night.join(&self.folder))?)
    }
}

/// What all who sit the exam share.
struct Room {
    model: Model,
    tokenizer: ChatTokenizer,
    /// How many sit it.
    seats: u64,
}

impl Stage for Exam<'_> {
    const NAME: StageName = StageName::Exam;
    type Output = Exams;

    fn run(&self, desk: &mut Desk<'_>) -> Result<Exams> {
        desk.progress(0, 0, "opening the model");
        let room = Room {
            model: Model::open(&self.model.path)?,
            tokenizer: ChatTokenizer::open(&self.model.path)?,
            seats: 2 + u64::from(self.champion.is_some()),
        };
        let folder = desk.night().join(&self.trained.folder);
        let base = self.sit(desk, &room, 0, "base", None)?;
        let candidate = Some((self.trained.adapter, folder));
        let candidate = self.sit(desk, &room, 1, "candidate", candidate)?;
        let champion = match self.champion {
            None => None,
            Some(adapter) => {
                let champion = Some((adapter, self.registry.verified(adapter)?));
                Some(self.sit(desk, &room, 2, "champion", champion)?)
            }
        };
        Ok(Exams { base, candidate, champion, cases: self.suite.cases.len() })
    }

    fn artefacts(output: &Exams) -> Vec<&Artefact> {
        let runs = [Some(&output.base), Some(&output.candidate), output.champion.as_ref()];
        runs.into_iter().flatten().flat_map(|run| [&run.manifest, &run.answers]).collect()
    }

    fn figures(output: &Exams) -> String {
        let (base, candidate) = (output.base.score, output.candidate.score);
        let mut text = format!("{} cases, base {base:.2}, candidate {candidate:.2}", output.cases);
        if let Some(champion) = &output.champion {
            text += &format!(", champion {:.2}", champion.score);
        }
        text
    }
}

impl Exam<'_> {
    /// One sitting, or the rest of it.
    fn sit(
        &self,
        desk: &mut Desk<'_>,
        room: &Room,
        seat: u64,
        name: &'static str,
        adapter: Option<(Digest, PathBuf)>,
    ) -> Result<RunFiles> {
        let subject = Subject {
            model: self.model.name(),
            model_digest: Some(self.model.sha256),
            adapter: adapter.as_ref().map(|_| name.to_owned()),
            adapter_digest: adapter.as_ref().map(|(digest, _)| *digest),
        };
        let adapter = match &adapter {
            None => Adapter::none(&room.model),
            Some((_, path)) => Adapter::load(path, &room.model)?,
        };
        let dir = desk.dir().join(name);
        // No budget: a night that has an adapter ends with a verdict.
        let paper = Paper::new(self.suite, self.options.clone());
        let mut answerer = ModelAnswerer::new(&room.model, &adapter, &room.tokenizer, subject)?;
        let mut tell = |progress: Progress<'_>| {
            let (done, total) = (progress.done as u64, progress.total as u64);
            desk.progress(seat * total + done, room.seats * total, name);
        };
        match paper.sit(&mut answerer, &dir, &mut tell)? {
            Outcome::Partial { .. } => Err(desk.out_of_time()),
            Outcome::Complete(run) => Ok(RunFiles {
                folder: dir.strip_prefix(desk.night()).unwrap_or(&dir).to_path_buf(),
                manifest: desk.artefact(&dir.join("manifest.json"))?,
                answers: desk.artefact(&dir.join("answers.jsonl"))?,
                score: run.summary()?.overall.score,
            }),
        }
    }
}
