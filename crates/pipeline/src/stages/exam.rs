//! The stage `exam`: base model, candidate and champion answer the same suite.

use std::path::{Path, PathBuf};

use chat_format::ChatTokenizer;
use durable::Digest;
use eval::{ExamOptions, ExamRun, ModelAnswerer, Outcome, Progress, Subject, Suite};
use models::{Adapter, Model};
use serde::{Deserialize, Serialize};

use super::train::TrainedAdapter;
use crate::base_model::BaseModel;
use crate::error::Result;
use crate::registry::Registry;
use crate::stage::{Artefact, Stage, StageContext};
use crate::stages::StageName;

#[derive(Serialize)]
pub(crate) struct Exam<'a> {
    pub model: &'a BaseModel,
    pub trained: &'a TrainedAdapter,
    /// The champion; `None` for the base model.
    pub champion: Option<Digest>,
    pub suite_digest: Digest,
    /// Sampling, seeds and batch size.
    pub options: &'a ExamOptions,
    pub scoring_version: u32,
    #[serde(skip)]
    pub suite: &'a Suite,
    /// The registry, which holds the champion.
    #[serde(skip)]
    pub registry: &'a Registry,
}

/// The exam runs on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ExamFiles {
    /// The model without an adapter.
    pub base: RunFiles,
    /// The model with the candidate.
    pub candidate: RunFiles,
    /// The model with the champion.
    pub champion: Option<RunFiles>,
    cases: usize,
}

pub(crate) struct ExamRuns {
    pub base: ExamRun,
    pub candidate: ExamRun,
    pub champion: Option<ExamRun>,
}

impl ExamFiles {
    pub fn load(&self, night: &Path) -> Result<ExamRuns> {
        let load = |run: &RunFiles| ExamRun::load(night.join(&run.folder));
        Ok(ExamRuns {
            base: load(&self.base)?,
            candidate: load(&self.candidate)?,
            champion: self.champion.as_ref().map(load).transpose()?,
        })
    }
}

/// One run on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RunFiles {
    /// The run's folder, relative to the night's.
    folder: PathBuf,
    /// Subject, suite and options of the run.
    manifest: Artefact,
    answers: Artefact,
    /// Mean score over all cases.
    score: f64,
}

/// What all runs of the exam share.
struct ExamSetup {
    model: Model,
    tokenizer: ChatTokenizer,
    /// Number of runs.
    runs: u64,
}

impl Stage for Exam<'_> {
    const NAME: StageName = StageName::Exam;
    type Output = ExamFiles;

    fn run(&self, ctx: &mut StageContext<'_>) -> Result<ExamFiles> {
        ctx.progress(0, 0, "opening the model");
        let setup = ExamSetup {
            model: Model::open(&self.model.path)?,
            tokenizer: ctx.tokenizer(&self.model.path)?,
            runs: 2 + u64::from(self.champion.is_some()),
        };
        let folder = ctx.night.join(&self.trained.folder);
        let base = self.run_one(ctx, &setup, 0, "base", None)?;
        let candidate = Some((self.trained.adapter, folder));
        let candidate = self.run_one(ctx, &setup, 1, "candidate", candidate)?;
        let champion = match self.champion {
            None => None,
            Some(adapter) => {
                let champion = Some((adapter, self.registry.verified(adapter)?));
                Some(self.run_one(ctx, &setup, 2, "champion", champion)?)
            }
        };
        Ok(ExamFiles { base, candidate, champion, cases: self.suite.cases.len() })
    }

    fn artefacts(output: &ExamFiles) -> Vec<&Artefact> {
        let runs = [Some(&output.base), Some(&output.candidate), output.champion.as_ref()];
        runs.into_iter().flatten().flat_map(|run| [&run.manifest, &run.answers]).collect()
    }

    fn describe(output: &ExamFiles) -> String {
        let (base, candidate) = (output.base.score, output.candidate.score);
        let mut text = format!("{} cases, base {base:.2}, candidate {candidate:.2}", output.cases);
        if let Some(champion) = &output.champion {
            text += &format!(", champion {:.2}", champion.score);
        }
        text
    }
}

impl Exam<'_> {
    /// Runs the suite with one adapter, or the rest of it after a restart. `index` counts the runs.
    fn run_one(
        &self,
        ctx: &mut StageContext<'_>,
        setup: &ExamSetup,
        index: u64,
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
            None => Adapter::none(&setup.model),
            Some((_, path)) => Adapter::load(path, &setup.model)?,
        };
        let dir = ctx.dir.join(name);
        // Without a budget: a night that has an adapter ends with a verdict.
        let exam = eval::Exam::new(self.suite, self.options.clone());
        let mut answerer = ModelAnswerer::new(&setup.model, &adapter, &setup.tokenizer, subject)?;
        let mut report = |progress: Progress<'_>| {
            let (done, total) = (progress.done as u64, progress.total as u64);
            ctx.progress(index * total + done, setup.runs * total, name);
        };
        match exam.sit(&mut answerer, &dir, &mut report)? {
            Outcome::Partial { .. } => Err(ctx.out_of_time()),
            Outcome::Complete(run) => Ok(RunFiles {
                folder: dir.strip_prefix(ctx.night).unwrap_or(&dir).to_path_buf(),
                manifest: ctx.artefact(&dir.join("manifest.json"))?,
                answers: ctx.artefact(&dir.join("answers.jsonl"))?,
                score: run.summary()?.overall.score,
            }),
        }
    }
}
