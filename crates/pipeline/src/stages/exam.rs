//! The stage `exam`: base model, candidate and champion answer the same suite.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chat_format::ChatTokenizer;
use durable::Digest;
use eval::exam::Budget;
use eval::{
    Answerer, BestScores, CheckResult, Council, Drifts, Evidence, ExamOptions, ExamRun, FreshExam,
    ModelAnswerer, Outcome, Progress, Sitting, Subject, Suite,
};
use models::{Adapter, Model};
use serde::{Deserialize, Serialize};

use super::train::TrainedAdapter;
use crate::answer_cache::AnswerCache;
use crate::base_model::BaseModel;
use crate::config::{ExamWeights, ServingConfig};
use crate::drift::DriftPlan;
use crate::error::{Error, Result};
use crate::exam_model::{ExamModel, ExamWork};
use crate::interrupt::UntilInterrupted;
use crate::registry::{BaseRegistry, ExamId};
use crate::served_exam::ServedExam;
use crate::stage::{Artefact, Stage, StageContext};
use crate::stages::StageName;

#[derive(Serialize)]
pub(crate) struct Exam<'a> {
    pub model: &'a BaseModel,
    #[serde(serialize_with = "TrainedAdapter::applied")]
    pub trained: &'a TrainedAdapter,
    /// The champion; `None` for the base model.
    pub champion: Option<Digest>,
    pub suite_digest: Digest,
    /// Sampling, seeds and batch size.
    pub options: &'a ExamOptions,
    pub scoring_version: u32,
    /// How drifts from the base are measured, if they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drift: Option<&'a DriftPlan>,
    #[serde(skip)]
    pub suite: &'a Suite,
    /// The registry of the base model, which holds the champion.
    #[serde(skip)]
    pub registry: &'a BaseRegistry,
    /// Whose weights answer.
    #[serde(skip)]
    pub serving: &'a ServingConfig,
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
    /// The best scores of served models on the exam when it was taken: a promotion of this night must not raise its own
    /// floors. Only of the standing exam.
    #[serde(default)]
    pub best: Option<BestScores>,
    /// How far candidate and champion are from the base, if it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drifts: Option<Drifts>,
    /// How far the runs came, if the time was spent before their end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unfinished: Option<String>,
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

    pub fn artefacts(&self) -> Vec<&Artefact> {
        let runs = [Some(&self.base), Some(&self.candidate), self.champion.as_ref()];
        runs.into_iter().flatten().flat_map(|run| [&run.manifest, &run.answers]).collect()
    }

    pub fn describe(&self) -> String {
        let (base, candidate) = (self.base.score, self.candidate.score);
        let mut text = format!("{} cases, base {base:.2}, candidate {candidate:.2}", self.cases);
        if let Some(champion) = &self.champion {
            text += &format!(", champion {:.2}", champion.score);
        }
        if let Some(unfinished) = &self.unfinished {
            text += &format!("; time was up after {unfinished}");
        }
        text
    }
}

impl ExamRuns {
    /// What the gate decides by. `files` are those of these runs.
    pub fn evidence<'a>(
        &'a self,
        files: &'a ExamFiles,
        fresh: FreshExam<Sitting<'a>>,
        checks: &[CheckResult],
    ) -> Evidence<'a> {
        Evidence {
            standing: self.sitting(),
            fresh,
            best: files.best.as_ref(),
            drifts: files.drifts,
            checks: checks.to_vec(),
        }
    }

    /// The runs as the gate compares them.
    pub fn sitting(&self) -> Sitting<'_> {
        Sitting {
            candidate: &self.candidate,
            champion: self.champion.as_ref(),
            base: Some(&self.base),
        }
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
    /// Answers that are missing because the time was spent.
    #[serde(default)]
    missing: usize,
}

/// The base model, opened.
pub(super) struct BaseOpened<'a> {
    weights: Weights<'a>,
    tokenizer: ChatTokenizer,
}

/// Who has its weights.
enum Weights<'a> {
    Night(Box<ExamModel>),
    Server(ServedExam<'a>),
}

/// What all runs of an exam share.
struct ExamSetup<'a> {
    base: &'a BaseOpened<'a>,
    /// Number of runs.
    runs: u64,
    suite: &'a Suite,
    options: &'a ExamOptions,
}

impl Stage for Exam<'_> {
    const NAME: StageName = StageName::Exam;
    const VERSION: u32 = 2;
    const ACROSS_NIGHTS: bool = true;
    type Output = ExamFiles;

    fn run(&self, ctx: &mut StageContext<'_>) -> Result<ExamFiles> {
        let Self { model, trained, champion, registry, suite, options, serving, .. } = *self;
        let sitters = Sitters { model, trained, champion, registry, serving };
        let mut cache = AnswerCache::open(registry.all().home(), model.sha256)?;
        let compared = self.drift.map(|plan| (plan, suite.council()));
        let models = sitters.open(ctx, options, compared)?;
        let files = sitters.sit(ctx, &models, suite, options, Some(&mut cache))?;
        cache.forget_others()?;
        let drifts = match self.drift {
            _ if files.unfinished.is_some() => None,
            Some(plan) => Some(sitters.drifts(ctx, &models, plan, suite.council())?),
            None => None,
        };
        Ok(ExamFiles { best: registry.best(&self.id())?, drifts, ..files })
    }

    fn artefacts(output: &ExamFiles) -> Vec<&Artefact> {
        output.artefacts()
    }

    fn is_complete(output: &ExamFiles) -> bool {
        output.unfinished.is_none()
    }

    /// The best scores are those before this night.
    fn taken_over(&self, files: ExamFiles) -> Result<ExamFiles> {
        Ok(ExamFiles { best: self.registry.best(&self.id())?, ..files })
    }

    fn describe(output: &ExamFiles) -> String {
        output.describe()
    }
}

impl Exam<'_> {
    /// What scores must have in common to be compared with those of this exam.
    pub fn id(&self) -> ExamId {
        ExamId { suite: self.suite_digest, scoring_version: self.scoring_version }
    }
}

/// Who sits the exams of a night.
#[derive(Clone, Copy)]
pub(super) struct Sitters<'a> {
    pub model: &'a BaseModel,
    pub trained: &'a TrainedAdapter,
    /// The champion; `None` for the base model.
    pub champion: Option<Digest>,
    pub registry: &'a BaseRegistry,
    /// Whose weights answer.
    pub serving: &'a ServingConfig,
}

/// One of them.
struct Sitter {
    name: &'static str,
    /// Digest and folder of the adapter; `None` for the base model.
    adapter: Option<(Digest, PathBuf)>,
}

impl Sitter {
    /// The folder of the adapter.
    fn folder(&self) -> Option<&Path> {
        self.adapter.as_ref().map(|(_, folder)| folder.as_path())
    }

    fn adapter(&self, base: &Model) -> Result<Adapter> {
        Ok(match &self.adapter {
            None => Adapter::none(base),
            Some((_, path)) => Adapter::load(path, base)?,
        })
    }
}

impl<'a> Sitters<'a> {
    /// Opens the base model, with room for an adapter and the answers to a batch, and for a comparison with the base if there
    /// is to be one.
    pub fn open(
        &self,
        ctx: &mut StageContext<'_>,
        options: &ExamOptions,
        compared: Option<(&DriftPlan, &Council)>,
    ) -> Result<BaseOpened<'a>> {
        let tokenizer = ctx.tokenizer(&self.model.path)?;
        let (candidate, champion) = self.adapted(ctx)?;
        if let (ExamWeights::Server, Some((digest, folder))) =
            (self.serving.exam, &candidate.adapter)
        {
            ctx.progress(0, 0, "the server is told of the candidate");
            let exam =
                ServedExam::begin(self.serving, self.model, self.registry, (*digest, folder))?;
            return Ok(BaseOpened { weights: Weights::Server(exam), tokenizer });
        }
        ctx.progress(0, 0, "opening the model");
        let adapters: Vec<&Path> = candidate
            .folder()
            .into_iter()
            .chain(champion.as_ref().and_then(Sitter::folder))
            .collect();
        let longest = compared.map(|(plan, council)| plan.longest(&tokenizer, council));
        let compared = longest.transpose()?.unwrap_or_default();
        let work = ExamWork { rows: options.batch, compared };
        let model = ExamModel::open(&self.model.path, &adapters, work, ctx.memory_limit)?;
        Ok(BaseOpened { weights: Weights::Night(Box::new(model)), tokenizer })
    }

    /// The candidate, and the champion if there is one.
    fn adapted(&self, ctx: &StageContext<'_>) -> Result<(Sitter, Option<Sitter>)> {
        let adapter = Some((self.trained.adapter, ctx.night.join(&self.trained.folder)));
        let candidate = Sitter { name: "candidate", adapter };
        let champion = match self.champion {
            None => None,
            Some(adapter) => {
                let adapter = Some((adapter, self.registry.verified(adapter)?));
                Some(Sitter { name: "champion", adapter })
            }
        };
        Ok((candidate, champion))
    }

    /// How far candidate and champion are from the base.
    fn drifts(
        &self,
        ctx: &mut StageContext<'_>,
        base: &BaseOpened<'_>,
        plan: &DriftPlan,
        council: &Council,
    ) -> Result<Drifts> {
        let BaseOpened { weights: Weights::Night(opened), tokenizer } = base else {
            // The night's file was checked.
            let problem = "serving.exam: server: expected no measurement of drift";
            return Err(Error::Server(problem.to_owned()));
        };
        let opened: &ExamModel = opened;
        let subject = (opened, self.model.sha256);
        let sequences =
            plan.sequences(ctx, subject, tokenizer, council, self.registry.all().home())?;
        let (candidate, champion) = self.adapted(ctx)?;
        let mut drift =
            |it: Sitter| sequences.drift(ctx, opened, &it.adapter(&opened.model)?, it.name);
        let candidate = drift(candidate)?;
        let champion = champion.map(drift).transpose()?;
        Ok(Drifts { candidate, champion })
    }

    /// Base model, candidate and champion answer the same suite, or the rest of it after a restart. Answers are taken from
    /// the cache and kept there, if there is one.
    pub fn sit(
        &self,
        ctx: &mut StageContext<'_>,
        base: &BaseOpened<'_>,
        suite: &Suite,
        options: &ExamOptions,
        mut cache: Option<&mut AnswerCache>,
    ) -> Result<ExamFiles> {
        let setup =
            ExamSetup { base, runs: 2 + u64::from(self.champion.is_some()), suite, options };
        let (candidate, champion) = self.adapted(ctx)?;
        let sitters = [Some(Sitter { name: "base", adapter: None }), Some(candidate), champion];
        let mut runs = Vec::new();
        for (index, sitter) in sitters.into_iter().flatten().enumerate() {
            runs.push(self.run_one(ctx, &setup, index as u64, &sitter, cache.as_deref_mut())?);
        }
        let missing: usize = runs.iter().map(|run: &RunFiles| run.missing).sum();
        let all = runs.len() * suite.cases.len() * options.seeds.len();
        let unfinished = (missing > 0).then(|| format!("{} of {all} answers", all - missing));
        let mut runs = runs.into_iter();
        let (Some(base), Some(candidate)) = (runs.next(), runs.next()) else {
            return Err(ctx.out_of_time());
        };
        Ok(ExamFiles {
            base,
            candidate,
            champion: runs.next(),
            best: None,
            drifts: None,
            unfinished,
            cases: suite.cases.len(),
        })
    }

    /// `index` counts the runs.
    fn run_one(
        &self,
        ctx: &mut StageContext<'_>,
        setup: &ExamSetup<'_>,
        index: u64,
        sitter: &Sitter,
        cache: Option<&mut AnswerCache>,
    ) -> Result<RunFiles> {
        let name = sitter.name;
        let digest = sitter.adapter.as_ref().map(|(digest, _)| *digest);
        let subject = Subject {
            model: self.model.name(),
            model_digest: Some(self.model.sha256),
            adapter: digest.map(|_| name.to_owned()),
            adapter_digest: digest,
        };
        let BaseOpened { weights, tokenizer } = setup.base;
        let dir = ctx.dir.join(name);
        // A night that has an adapter ends with a verdict: everybody answers one batch at least.
        let time = Some(ctx.budgets.time_left().max(Duration::from_millis(1)));
        let exam = eval::Exam::new(setup.suite, setup.options.clone());
        let interrupt = ctx.budgets.interrupt();
        let exam = exam.with_budget(Budget { time, ..Budget::default() });
        let mut report = |progress: Progress<'_>| {
            let (done, total) = (progress.done as u64, progress.total as u64);
            ctx.progress(index * total + done, setup.runs * total, name);
        };
        let mut sit = |answerer: &mut dyn Answerer| {
            let mut answerer = UntilInterrupted { answerer, interrupt };
            exam.sit(&mut answerer, &dir, &mut report)
        };
        let answered = |model: &mut dyn Answerer, arithmetic: &str| match cache {
            None => Ok(sit(model)),
            Some(cache) => cache.answerer(model, arithmetic, tokenizer).map(|mut it| sit(&mut it)),
        };
        let outcome = match weights {
            Weights::Server(exam) => answered(&mut exam.answerer(tokenizer, subject), "server"),
            Weights::Night(opened) => {
                let ExamModel { model: base, options, .. } = &**opened;
                let adapter = sitter.adapter(base)?;
                let model = ModelAnswerer::new(base, &adapter, tokenizer, subject)?;
                answered(&mut model.with_options(options.clone()), &base.arithmetic())
            }
        }?;
        let outcome = outcome.or_else(|error| interrupt.check().and(Err(error.into())))?;
        let (Outcome::Complete(run) | Outcome::Partial { run, .. }) = outcome;
        let all = setup.suite.cases.len() * setup.options.seeds.len();
        Ok(RunFiles {
            folder: dir.strip_prefix(ctx.night).unwrap_or(&dir).to_path_buf(),
            manifest: ctx.artefact(&dir.join("manifest.json"))?,
            answers: ctx.artefact(&dir.join("answers.jsonl"))?,
            score: run.summary()?.overall.score,
            missing: all.saturating_sub(run.records.len()),
        })
    }
}
