//! A small night in a scratch folder, with the real stages: what the checks look at.

use std::path::{Path, PathBuf};

use chat_format::{ChatTokenizer, Conversation, jsonl};
use eval::{Council, Policy, Suite};
use jiff::Zoned;
use lora_train::{Bytes, TrainConfig};
use models::{Model, WeightResidency};

use super::dress::Dress;
use super::finding::Finding;
use super::machine::Timers;
use super::two_steps::TwoSteps;
use crate::config::{Budgets, Choice, NightConfig, NightFile};
use crate::error::{Error, Result, io_error};
use crate::guards::Guards;
use crate::home::Home;
use crate::journal::Journal;
use crate::model::BaseModel;
use crate::observer::Event;
use crate::runner::Runner;
use crate::stages::convert::{Clean, Convert, RawRows};
use crate::stages::enrich::{Enrich, Recipe, Splits};

/// What became of a step of the rehearsal.
#[derive(Debug)]
pub(super) enum Tried<T> {
    /// It worked.
    Done(T),
    /// It did not.
    Failed(Error),
    /// It could not be tried for want of this.
    Missed(&'static str),
}

impl<T> From<Result<T>> for Tried<T> {
    fn from(result: Result<T>) -> Self {
        match result {
            Ok(done) => Tried::Done(done),
            Err(error) => Tried::Failed(error),
        }
    }
}

impl<T> Tried<T> {
    pub fn done(&self) -> Option<&T> {
        match self {
            Tried::Done(done) => Some(done),
            _ => None,
        }
    }

    /// The finding of the check that is about this step.
    pub fn judge(&self, finding: impl FnOnce(&T) -> Finding) -> Finding {
        match self {
            Tried::Done(done) => finding(done),
            Tried::Failed(error) => Finding::failed(error),
            Tried::Missed(what) => Finding::skipped(format!("needs {what}")),
        }
    }

    /// The finding of a check that is about something else, and needs this step's result.
    pub fn needed(&self, what: &str, finding: impl FnOnce(&T) -> Finding) -> Finding {
        match self {
            Tried::Done(done) => finding(done),
            _ => Finding::skipped(format!("needs {what}")),
        }
    }
}

/// Clean rows.
#[derive(Debug)]
pub(super) struct Cleaned {
    pub stage: Clean,
    pub rows: Vec<Conversation>,
}

/// The training set.
#[derive(Debug)]
pub(super) struct Enriched {
    pub splits: Splits,
    /// The rows that are trained on.
    pub rows: Vec<Conversation>,
}

/// The base model, of which nothing but headers was read.
#[derive(Debug)]
pub(super) struct Opened {
    pub base: BaseModel,
    pub model: Model,
}

/// Everything that the checks look at.
pub(super) struct Scene<'a> {
    pub file: &'a NightFile,
    pub choice: &'a Choice,
    pub config: NightConfig,
    pub now: Zoned,
    pub home: Tried<Home>,
    pub timers: Tried<Option<Timers>>,
    pub training: Tried<TrainConfig>,
    pub suite: Tried<Suite>,
    pub policy: Tried<Policy>,
    pub clean: Tried<Cleaned>,
    pub enriched: Tried<Enriched>,
    pub opened: Tried<Opened>,
    pub tokenizer: Tried<ChatTokenizer>,
    pub two_steps: Tried<TwoSteps>,
    pub dress: Tried<Dress>,
    /// Goes when the scene does.
    _scratch: tempfile::TempDir,
    /// The night's folder in it.
    pub night: PathBuf,
}

impl<'a> Scene<'a> {
    /// Rehearses the night, telling what it is at.
    pub fn rehearse(
        file: &'a NightFile,
        choice: &'a Choice,
        home: Option<PathBuf>,
        timers: Tried<Option<Timers>>,
        tell: &mut dyn FnMut(&str),
    ) -> Result<Self> {
        let mut config = file.choose(choice)?;
        config.home = home.or(config.home);
        let home = Tried::from(Home::of(&config));
        // Beside the real thing, so that what has no room there has none here.
        let beside = home.done().map_or_else(std::env::temp_dir, |home| home.path().to_path_buf());
        let scratch = tempfile::Builder::new().prefix(".preflight-").tempdir_in(&beside);
        let scratch = scratch.map_err(io_error(&beside, "make a folder in"))?;
        let night = scratch.path().join("night");
        crate::home::private_dir(&night)?;
        let suite = config.read_suite();
        let council = suite.as_ref().map_or(Council::built_in(), Suite::council);
        let policy = config.read_policy(council);
        let mut scene = Self {
            file,
            choice,
            now: Zoned::now(),
            home,
            timers,
            training: Tried::from(TrainConfig::load(&config.setup.train).map_err(Error::from)),
            suite: Tried::from(suite),
            policy: Tried::from(policy),
            clean: Tried::Missed("the raw rows"),
            enriched: Tried::Missed("the clean rows"),
            opened: Tried::Missed("the model"),
            tokenizer: Tried::Missed("the model"),
            two_steps: Tried::Missed("rows, model, tokenizer and recipe"),
            dress: Tried::Missed("an adapter of two iterations"),
            config,
            _scratch: scratch,
            night,
        };
        tell("converting and enriching the rows");
        scene.prepare()?;
        tell("opening the model");
        scene.open(tell);
        tell("training two iterations");
        scene.two_steps = TwoSteps::take(&scene);
        tell("a small exam, gate and report");
        scene.dress = Dress::rehearse(&scene);
        Ok(scene)
    }

    /// The rows, by the stages that make them.
    fn prepare(&mut self) -> Result<()> {
        let Self { night, config, .. } = self;
        (self.clean, self.enriched) = rehearse(night, |runner| Ok(rows(night, config, runner)))?;
        Ok(())
    }

    /// The model's headers and its tokenizer.
    fn open(&mut self, tell: &mut dyn FnMut(&str)) {
        let base = BaseModel::unread(&self.config.setup.model, &mut |done, total| {
            tell(&format!("fetching the demo model: {} %", 100 * done / total.max(1)));
        });
        let base = match base {
            Ok(base) => base,
            Err(error) => {
                self.opened = Tried::Failed(error);
                return;
            }
        };
        self.tokenizer = Tried::from(ChatTokenizer::open(&base.path).map_err(Error::from));
        let model = Model::open_with(&base.path, WeightResidency::Streamed).map_err(Error::from);
        self.opened = Tried::from(model.map(|model| Opened { base, model }));
    }
}

/// Runs stages of a rehearsal in `night`, unseen, whatever the disk has to keep free.
pub(super) fn rehearse<T>(
    night: &Path,
    work: impl FnOnce(&mut Runner<'_>) -> Result<T>,
) -> Result<T> {
    let budgets = Budgets { disk: Bytes(0), ..Budgets::default() };
    work(&mut Runner {
        night,
        journal: &mut Journal::open(night.join("journal.jsonl"))?,
        observer: &mut |_: Event<'_>| (),
        guards: &Guards::new(&budgets, night),
        done: Vec::new(),
    })
}

/// The clean rows, and the training set made of them.
fn rows(
    night: &Path,
    config: &NightConfig,
    runner: &mut Runner<'_>,
) -> (Tried<Cleaned>, Tried<Enriched>) {
    let clean = RawRows::locate(&config.setup.data).and_then(|rows| {
        let stage = runner.run(&Convert { rows: &rows })?;
        let rows = read(&stage.file.verified(night)?)?;
        Ok(Cleaned { stage, rows })
    });
    let clean = Tried::from(clean);
    let Tried::Done(Cleaned { stage, .. }) = &clean else {
        return (clean, Tried::Missed("the clean rows"));
    };
    let enriched = Recipe::load(config.enrich.as_deref()).and_then(|recipe| {
        let suite = &config.exam.suite;
        let suite_digest = durable::sha256_file(suite)?;
        let splits = runner.run(&Enrich { clean: stage, recipe: &recipe, suite_digest, suite })?;
        let rows = read(&splits.train.verified(night)?)?;
        Ok(Enriched { splits, rows })
    });
    (clean, Tried::from(enriched))
}

fn read(path: &Path) -> Result<Vec<Conversation>> {
    Ok(jsonl::Reader::open(path)?.conversations().collect::<chat_format::Result<_>>()?)
}
