//! A small night in a scratch folder, run with the real stages. The checks inspect its results.

use std::path::{Path, PathBuf};

use chat_format::{ChatTokenizer, Conversation, jsonl};
use eval::{Council, Policy, Suite};
use jiff::Zoned;
use lora_train::TrainConfig;
use models::Model;

use super::attempt::Attempt;
use super::evaluation_trial::{EvaluationInputs, EvaluationTrial};
use super::memory;
use super::scratch::run_stages;
use super::training_trial::{TrainingInputs, TrainingTrial};
use crate::base_model::BaseModel;
use crate::config::{ModelChoice, NightConfig, NightFile};
use crate::error::{Error, Result, io_error};
use crate::home::Home;
use crate::inputs::RowInputs;
use crate::preference;
use crate::runner::Runner;
use crate::schedule::ScheduleStatus;
use crate::stages::convert::{CleanRows, Convert};
use crate::stages::enrich::{Enrich, EnrichmentRecipe, Splits};

/// The output of the stage `convert`, and its rows.
#[derive(Debug)]
pub(super) struct Converted {
    pub stage: CleanRows,
    pub rows: Vec<Conversation>,
}

/// The output of the stage `enrich`, and the training rows.
#[derive(Debug)]
pub(super) struct Enriched {
    pub splits: Splits,
    pub rows: Vec<Conversation>,
}

/// The base model. Only its headers were read.
#[derive(Debug)]
pub(super) struct OpenedModel {
    pub base: BaseModel,
    pub model: Model,
}

/// The results of the rehearsal.
pub(super) struct Rehearsal<'a> {
    pub file: &'a NightFile,
    pub choice: &'a ModelChoice,
    pub config: NightConfig,
    pub now: Zoned,
    pub home: Attempt<Home>,
    /// `None` if the caller did not ask the system.
    pub schedule: Attempt<Option<ScheduleStatus>>,
    pub recipe: Attempt<TrainConfig>,
    pub suite: Attempt<Suite>,
    pub policy: Attempt<Policy>,
    pub clean: Attempt<Converted>,
    pub enriched: Attempt<Enriched>,
    pub opened: Attempt<OpenedModel>,
    pub tokenizer: Attempt<ChatTokenizer>,
    pub training: Attempt<TrainingTrial>,
    pub evaluation: Attempt<EvaluationTrial>,
    /// Deleted when the rehearsal is dropped.
    _scratch: tempfile::TempDir,
    /// The folder of the night in the scratch folder.
    pub night: PathBuf,
}

impl<'a> Rehearsal<'a> {
    /// Rehearses the night and passes the current activity to `on_step`.
    pub fn run(
        file: &'a NightFile,
        choice: &'a ModelChoice,
        home: Option<PathBuf>,
        schedule: Attempt<Option<ScheduleStatus>>,
        on_step: &mut dyn FnMut(&str),
    ) -> Result<Self> {
        let mut config = file.choose(choice)?;
        config.home = home.or(config.home);
        let home = Attempt::from(Home::of(&config));
        // On the disk of the home, so that a full disk is noticed.
        let parent = home.done().map_or_else(std::env::temp_dir, |home| home.path().to_path_buf());
        let scratch = tempfile::Builder::new().prefix(".preflight-").tempdir_in(&parent);
        let scratch = scratch.map_err(io_error(&parent, "create a folder in"))?;
        let night = scratch.path().join("night");
        crate::files::private_dir(&night)?;
        let suite = config.read_suite();
        let council = suite.as_ref().map_or(Council::built_in(), Suite::council);
        let policy = config.read_policy(council);
        let mut rehearsal = Self {
            file,
            choice,
            now: Zoned::now(),
            home,
            schedule,
            recipe: Attempt::from(preference::supervised(&config.setup.train)),
            suite: Attempt::from(suite),
            policy: Attempt::from(policy),
            clean: Attempt::NotTried("needs the raw rows"),
            enriched: Attempt::NotTried("needs the clean rows"),
            opened: Attempt::NotTried("needs the model"),
            tokenizer: Attempt::NotTried("needs the model"),
            training: Attempt::NotTried("needs rows, model, tokenizer and recipe"),
            evaluation: Attempt::NotTried("needs the adapter of two iterations, and a suite"),
            config,
            _scratch: scratch,
            night,
        };
        on_step("converting and enriching the rows");
        rehearsal.prepare_rows()?;
        on_step("opening the model");
        rehearsal.open_model(on_step);
        on_step("training two iterations");
        rehearsal.train();
        on_step("a small exam, gate and report");
        rehearsal.evaluate();
        Ok(rehearsal)
    }

    fn prepare_rows(&mut self) -> Result<()> {
        let Self { night, config, .. } = self;
        (self.clean, self.enriched) =
            run_stages(night, u64::MAX, |runner| Ok(prepare(night, config, runner)))?;
        Ok(())
    }

    /// Opens the tokenizer and the model, reading only the model's headers.
    fn open_model(&mut self, on_step: &mut dyn FnMut(&str)) {
        let base = BaseModel::unread(&self.config.setup.model, &mut |done, total| {
            on_step(&format!("fetching the demo model: {} %", 100 * done / total.max(1)));
        });
        let base = match base {
            Ok(base) => base,
            Err(error) => {
                self.opened = Attempt::Failed(error);
                return;
            }
        };
        self.tokenizer = Attempt::from(ChatTokenizer::open(&base.path).map_err(Error::from));
        let model = lora_train::open_model(&base.path).map_err(Error::from);
        self.opened = Attempt::from(model.map(|model| OpenedModel { base, model }));
    }

    fn train(&mut self) {
        if let (Some(opened), Some(tokenizer), Some(enriched), Some(recipe)) =
            (self.opened.done(), self.tokenizer.done(), self.enriched.done(), self.recipe.done())
        {
            let trial = TrainingTrial::run(&TrainingInputs {
                night: &self.night,
                base: &opened.base,
                model: &opened.model,
                tokenizer,
                splits: &enriched.splits,
                recipe,
                max_refused_share: self.config.max_refused_share,
            });
            self.training = Attempt::from(trial);
        }
    }

    fn evaluate(&mut self) {
        let trial = self.training.done().and_then(|training| training.run.as_ref());
        let (Some(opened), Some(clean), Some(enriched), Some(run), Some(suite), Some(recipe)) = (
            self.opened.done(),
            self.clean.done(),
            self.enriched.done(),
            trial,
            self.suite.done(),
            self.recipe.done(),
        ) else {
            return;
        };
        let trial = memory::limit(&self.config, recipe).and_then(|memory_limit| {
            EvaluationTrial::run(&EvaluationInputs {
                memory_limit,
                recipe,
                night: &self.night,
                base: &opened.base,
                clean: &clean.stage,
                splits: &enriched.splits,
                trained: &run.trained,
                suite,
                options: &self.config.exam.options,
                policy: &self.policy.done().cloned().unwrap_or_default(),
            })
        });
        self.evaluation = Attempt::from(trial);
    }
}

/// Runs the stages `convert` and `enrich`.
fn prepare(
    night: &Path,
    config: &NightConfig,
    runner: &mut Runner<'_>,
) -> (Attempt<Converted>, Attempt<Enriched>) {
    let inputs = match RowInputs::read(config) {
        Ok(inputs) => inputs,
        Err(error) => return (Attempt::Failed(error), Attempt::NotTried("needs the clean rows")),
    };
    let RowInputs { rows, treatment } = &inputs;
    let clean = runner.run(&Convert {
        rows,
        max_refused_share: config.max_refused_share,
        scrub: &config.scrub,
        merge: config.merges(rows, treatment),
    });
    let clean = clean.and_then(|stage| {
        let mut rows = Vec::new();
        for part in &stage.parts {
            rows.extend(read(&part.file.verified(night)?)?);
        }
        Ok(Converted { stage, rows })
    });
    let clean = Attempt::from(clean);
    let Attempt::Done(Converted { stage: clean_rows, .. }) = &clean else {
        return (clean, Attempt::NotTried("needs the clean rows"));
    };
    let suite = &config.exam.suite;
    let enriched = EnrichmentRecipe::load(config).and_then(|recipe| {
        let suite_digest = durable::sha256_file(suite)?;
        let stage = Enrich {
            clean: clean_rows,
            embedded: enrich::embedded_data(),
            recipe: &recipe,
            treatment,
            suite_digest,
            suite,
            everyday: None,
            replay: None,
        };
        let splits = runner.run(&stage)?;
        let rows = read(&splits.train.verified(night)?)?;
        Ok(Enriched { splits, rows })
    });
    (clean, Attempt::from(enriched))
}

fn read(path: &Path) -> Result<Vec<Conversation>> {
    Ok(jsonl::Reader::open(path)?.conversations().collect::<chat_format::Result<_>>()?)
}
