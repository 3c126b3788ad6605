use std::fs;
use std::path::{Path, PathBuf};

use durable::Digest;
use jiff::Zoned;
use lora_train::TrainConfig;
use serde_json::json;

use crate::config::NightConfig;
use crate::error::{Error, Result};
use crate::guards::Guards;
use crate::home::{Home, private_dir};
use crate::inputs::Inputs;
use crate::journal::{Entry, Journal};
use crate::ladder::Ladder;
use crate::lock::Lock;
use crate::model::BaseModel;
use crate::nights::{self, NightId};
use crate::notify::Message;
use crate::observer::{Event, Observer};
use crate::registry::Registry;
use crate::report::{self, pick};
use crate::runner::{Runner, StageSummary};
use crate::stage::StageName;
use crate::stages::convert::Convert;
use crate::stages::enrich::{Enrich, Splits};
use crate::stages::second_half::{Decided, SecondHalf};
use crate::stages::train::{Train, Trained};
use crate::summary::{Outcome, Paths, Scores, Summary};

/// A night in a home that this process holds the lock of.
///
/// The stages run in order: convert, enrich, train, exam, gate, promote, report. Each is skipped
/// if the journal says that it finished on the very same input, so a night that was killed goes on
/// where it was, and one whose configuration was mended repeats only what the mend touches.
#[derive(Debug)]
pub struct Night {
    config: NightConfig,
    home: Home,
    id: String,
    dir: PathBuf,
    champion: Option<Digest>,
    resumed: bool,
    journal: Journal,
    _lock: Lock,
}

impl Night {
    /// Takes the lock of the configured home, or of the user's own, and finds the night to work
    /// on: the last one if it is unfinished, else a new one.
    pub fn start_or_resume(config: NightConfig) -> Result<Self> {
        let (home, lock) = enter(&config)?;
        let night = nights::next(&home, &Zoned::now())?;
        Self::open(config, home, night, lock)
    }

    /// Like [`start_or_resume`](Self::start_or_resume), but `None` if a night that began today is
    /// finished: for timers that fire twice to be sure.
    pub fn start_once_a_day(config: NightConfig) -> Result<Option<Self>> {
        let (home, lock) = enter(&config)?;
        match nights::next_of_day(&home, &Zoned::now())? {
            Some(night) => Self::open(config, home, night, lock).map(Some),
            None => Ok(None),
        }
    }

    /// The night's id: its number and the day it began.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The night's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Opens a night's journal, and takes down whom its candidate has to beat: whoever serves when
    /// the night begins, or who serves now if that changed by hand before anybody sat the exam.
    fn open(config: NightConfig, home: Home, night: NightId, lock: Lock) -> Result<Self> {
        let dir = night.dir(&home);
        private_dir(&dir)?;
        let mut journal = night.journal(&home)?;
        let resumed = !journal.is_empty();
        let serving = Registry::new(&home).state()?.champion;
        let champion = match journal.champion() {
            Some(champion) if champion == serving || journal.has_finished(StageName::Exam) => {
                champion
            }
            _ => {
                journal.append(Entry::NightBegun { night: night.id.clone(), champion: serving })?;
                serving
            }
        };
        Ok(Self { config, home, id: night.id, dir, champion, resumed, journal, _lock: lock })
    }

    /// Runs what is left of the night, and tells whom the configuration says.
    pub fn run(mut self, observer: &mut dyn Observer) -> Result<Summary> {
        tracing::info!(night = self.id, resumed = self.resumed, "night");
        observer.event(Event::NightBegun {
            night: &self.id,
            resumed: self.resumed,
            dir: &self.dir,
        });
        let result = self.work(observer);
        let message = match &result {
            Ok(summary) => Message::new(summary.line(), json!({ "summary": summary })),
            Err(error) => {
                let line = format!("night {} stopped: {error}", self.id);
                Message::new(line, json!({ "night": self.id, "error": error.to_string() }))
            }
        };
        self.config.notify.send(&message);
        if let Err(error) = report::write_index(&self.home) {
            tracing::warn!("no index: {error}");
        }
        result
    }

    fn work(&mut self, observer: &mut dyn Observer) -> Result<Summary> {
        let Inputs { training, suite, policy, rows, enrichment } = Inputs::read(&self.config)?;
        let model = BaseModel::locate(&self.config.setup.model, &mut |done, total| {
            let (stage, note) = (StageName::Convert, "fetching the demo model");
            observer.event(Event::Progress { stage, done, total, note });
        })?;
        let guards = Guards::new(&self.config.budgets, self.home.path());
        let registry = Registry::new(&self.home);
        let mut ladder = Ladder::open(&self.home)?;
        ladder.blame_death(&self.journal, &self.dir.join(StageName::Train.as_str()), &training)?;
        let (id, champion) = (self.id.as_str(), self.champion);
        let mut runner = Runner {
            night: &self.dir,
            journal: &mut self.journal,
            observer,
            guards: &guards,
            done: Vec::with_capacity(StageName::ALL.len()),
        };

        let clean = runner.run(&Convert { rows: &rows })?;
        let splits = runner.run(&Enrich {
            clean: &clean,
            recipe: &enrichment,
            // Nothing of the whole suite may leak, whatever part of it tonight's exam is.
            suite_digest: durable::sha256_file(&self.config.exam.suite)?,
            suite: &self.config.exam.suite,
        })?;
        let trained = train(&mut runner, &mut ladder, &model, &splits, &training)?;
        let decided = SecondHalf {
            id,
            model: &model,
            splits: &splits,
            trained: &trained,
            champion,
            suite: &suite,
            options: &self.config.exam.options,
            policy: &policy,
            contaminated: &splits.contaminated,
            registry: &registry,
        }
        .run(&mut runner)?;
        let stages = runner.done;
        let summary = self.summary(stages, &trained, decided, &registry)?;
        durable::write_json(self.dir.join("summary.json"), &summary)?;
        self.journal.append(Entry::NightFinished)?;
        self.tidy_up(&registry);
        Ok(summary)
    }

    fn summary(
        &self,
        stages: Vec<StageSummary>,
        trained: &Trained,
        decided: Decided,
        registry: &Registry,
    ) -> Result<Summary> {
        let Decided { exams, judged, standing, report } = decided;
        let runs = exams.load(&self.dir)?;
        Ok(Summary {
            night: self.id.clone(),
            outcome: Outcome::from(&standing),
            partial: trained.partial().is_some(),
            seconds: stages.iter().map(|stage| stage.seconds).sum(),
            stages,
            losses: trained.losses,
            training: trained.into(),
            scores: Scores::of(&runs)?,
            sample: pick(&runs.base, &runs.candidate, 1).into_iter().next(),
            standing: standing.beside_the_verdict(),
            verdict: judged.verdict,
            paths: Paths::of(&self.home, &self.dir, registry, trained, &report.path)?,
        })
    }

    /// What is nice to have once the night is over: none of it can undo it.
    fn tidy_up(&self, registry: &Registry) {
        let checkpoints = self.dir.join(StageName::Train.as_str()).join("checkpoints");
        let removed = match checkpoints.exists() {
            true => fs::remove_dir_all(&checkpoints).map_err(|e| e.to_string()),
            false => Ok(()),
        };
        let kept = registry.prune(self.config.retention.adapters);
        for (what, result) in
            [("checkpoints", removed), ("retention", kept.map(drop).map_err(|e| e.to_string()))]
        {
            if let Err(error) = result {
                tracing::warn!(what, error, "left undone");
            }
        }
    }
}

/// The adapter, with the fastest plan that the machine has the memory for.
fn train(
    runner: &mut Runner<'_>,
    ladder: &mut Ladder,
    model: &BaseModel,
    splits: &Splits,
    recipe: &TrainConfig,
) -> Result<Trained> {
    let mut full: Option<Error> = None;
    loop {
        let recipe = ladder.within(recipe);
        let error = match runner.run(&Train { model, splits, recipe: &recipe }) {
            Err(error) => error,
            trained => return trained,
        };
        if error.is_out_of_memory() {
            let dir = runner.night.join(StageName::Train.as_str());
            ladder.step_down(&dir, &recipe, error.to_string())?;
            full = Some(error);
        } else if ladder.is_too_short(&error)? {
            // No plan needs so little: the news is what ran out, not the limit that came of it.
            return Err(full.unwrap_or(error));
        } else {
            return Err(error);
        }
    }
}

/// The home of a configuration, and the right to work in it.
fn enter(config: &NightConfig) -> Result<(Home, Lock)> {
    let home = Home::of(config)?;
    let lock = Lock::acquire(&home.lock_file())?;
    Ok((home, lock))
}
