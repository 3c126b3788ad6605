//! Runs a whole night: takes the lock, resumes or begins, runs the stages, writes the summary.

use std::fs;
use std::path::{Path, PathBuf};

use durable::Digest;
use eval::SCORING_VERSION;
use jiff::Zoned;

use crate::accounting::RowAccount;
use crate::base_model::BaseModel;
use crate::budget_monitor::BudgetMonitor;
use crate::config::{ExamWeights, NightConfig, WhenUnchanged};
use crate::earlier_nights::EarlierNights;
use crate::error::{Error, Result};
use crate::files::private_dir;
use crate::home::Home;
use crate::inputs::Inputs;
use crate::interrupt::Interrupt;
use crate::journal::{Entry, Journal};
use crate::leftovers::Leftovers;
use crate::lock::Lock;
use crate::memory_fallback::{MemoryFallback, within};
use crate::news::{self, ExamInputs, NightInputs};
use crate::nights::{self, NightId};
use crate::notify::{self, Message};
use crate::observer::{Event, Observer};
use crate::registry::{BaseRegistry, Registry};
use crate::replay::Replay;
use crate::report::{self, pick};
use crate::runner::{Runner, StageSummary};
use crate::served_exam::ServedExam;
use crate::serving;
use crate::stages::StageName;
use crate::stages::convert::Convert;
use crate::stages::enrich::{Enrich, Everyday};
use crate::stages::evaluation::{Evaluation, EvaluationOutcome};
use crate::stages::prefer::Trained;
use crate::stages::training::Training;
use crate::summary::{NewRows, Outcome, Paths, PreferencePhase, Summary};

/// A night in a home whose lock this process holds.
///
/// The stages run in order: convert, enrich, train, prefer (if configured), exam, fresh_exam, gate, promote, report.
/// A stage is skipped if the journal has its result for the same input. A night that was killed therefore
/// resumes where it was, and after a change of the configuration only the affected stages run again.
#[derive(Debug)]
pub struct Night {
    config: NightConfig,
    home: Home,
    id: String,
    dir: PathBuf,
    resumed: bool,
    journal: Journal,
    interrupt: Interrupt,
    _lock: Lock,
}

impl Night {
    /// Locks the configured home, or the user's default home, and opens the night to work on: the
    /// last one if it is unfinished, else a new one.
    ///
    /// # Errors
    /// [`Error::Busy`] if another process works in the home; a home or journal that cannot be read.
    pub fn start_or_resume(config: NightConfig) -> Result<Self> {
        let (home, lock) = lock_home(&config)?;
        let night = nights::next(&home, &config.clock.now())?;
        Self::open(config, home, night, lock)
    }

    /// Like [`start_or_resume`](Self::start_or_resume), but `None` if the last night is finished and
    /// began today. For timers that fire twice a day as a safeguard.
    ///
    /// # Errors
    /// As `start_or_resume`.
    pub fn start_once_a_day(config: NightConfig) -> Result<Option<Self>> {
        let (home, lock) = lock_home(&config)?;
        match nights::next_of_day(&home, &config.clock.now())? {
            Some(night) => Self::open(config, home, night, lock).map(Some),
            None => Ok(None),
        }
    }

    /// The night stops when `interrupt` asks for it.
    pub fn interrupted_by(self, interrupt: Interrupt) -> Self {
        Self { interrupt, ..self }
    }

    /// The night's id: its number and start date.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The night's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Opens a night's journal.
    fn open(config: NightConfig, home: Home, night: NightId, lock: Lock) -> Result<Self> {
        let dir = night.dir(&home);
        if !dir.exists() {
            config.budgets.check_start(&config.clock.now())?;
        }
        private_dir(&dir)?;
        let mut journal = night.journal(&home)?.dated_by(&config.clock);
        let resumed = !journal.is_empty();
        if !resumed {
            let (night, base, champion) = (night.id.clone(), None, None);
            journal.append(Entry::NightBegun { night, base, champion })?;
        }
        let interrupt = Interrupt::default();
        Ok(Self { config, home, id: night.id, dir, resumed, journal, interrupt, _lock: lock })
    }

    /// The champion to compare with, and records it: the one when the night began with this base model, or the current one
    /// if it was changed by hand before the exam.
    fn champion(&mut self, registry: &BaseRegistry) -> Result<Option<Digest>> {
        let current = registry.state()?.champion;
        match self.journal.champion(registry.base()) {
            Some(champion) if champion == current || self.journal.has_finished(StageName::Exam) => {
                Ok(champion)
            }
            _ => {
                let (night, base) = (self.id.clone(), Some(registry.base()));
                self.journal.append(Entry::NightBegun { night, base, champion: current })?;
                Ok(current)
            }
        }
    }

    /// Runs the remaining stages, sends the configured notifications and updates the index.
    ///
    /// # Errors
    /// Whatever stops a stage; the next start resumes from there. A spent budget is
    /// [`Error::BudgetSpent`], [`Error::OutOfMemory`] or [`Error::DiskFull`].
    pub fn run(mut self, observer: &mut dyn Observer) -> Result<Summary> {
        tracing::info!(night = self.id, resumed = self.resumed, "night");
        observer.event(Event::NightBegun {
            night: &self.id,
            resumed: self.resumed,
            dir: &self.dir,
        });
        let result = self.run_stages(observer);
        if let Err(error) = &result
            && let Err(unrecorded) = self.record_failure(error)
        {
            tracing::warn!("cannot record the failure: {unrecorded}");
        }
        let message = match &result {
            Ok(summary) => Message::of_night(summary),
            Err(error) => {
                Message::of_stopped_night(&self.id, error).with_advice(&nights::advice(&self.home))
            }
        };
        notify::send(&message, &self.config.notify);
        if let Err(error) = report::write_index(&self.home) {
            tracing::warn!("cannot write the index: {error}");
        }
        result
    }

    /// Records why a start failed, and gives the night up if its time is spent.
    fn record_failure(&mut self, error: &Error) -> Result<()> {
        if !matches!(self.journal.entries().last(), Some(Entry::StageFailed { .. })) {
            self.journal.append(Entry::StartFailed { message: error.to_string() })?;
        }
        match error {
            // Counted from the first start, the time will not come back.
            Error::BudgetSpent { .. } => {
                self.journal.append(Entry::NightGivenUp { reason: error.to_string() })
            }
            _ => Ok(()),
        }
    }

    fn run_stages(&mut self, observer: &mut dyn Observer) -> Result<Summary> {
        let inputs = Inputs::read(&self.config)?;
        let Inputs { mut recipes, suite, policy, fresh, rows, enrichment, treatment, .. } = inputs;
        let Inputs { replay, everyday, drift, .. } = inputs;
        let model = BaseModel::locate(&self.config.setup.model, &self.id, &mut |done, total| {
            let (stage, note) = (StageName::Convert, "fetching the demo model");
            observer.event(Event::Progress { stage, done, total, note });
        })?;
        let Self { config, home, .. } = &self;
        let budgets =
            BudgetMonitor::new(&config.budgets, &self.begun(), home.path(), &config.clock)
                .interrupted_by(self.interrupt.clone());
        let registry = Registry::new(&self.home).of(model.sha256, &model.path);
        let champion = self.champion(&registry)?;
        let mut fallback = MemoryFallback::open(&self.home)?;
        for (stage, recipe) in recipes.stages() {
            fallback.detect_memory_kill(
                &self.journal,
                stage,
                &self.dir.join(stage.as_str()),
                recipe,
            )?;
        }
        let limited = within(&recipes.supervised, self.config.budgets.memory);
        let id = self.id.as_str();
        let earlier = EarlierNights::before(&self.home, id)?;
        let mut runner = Runner {
            night: &self.dir,
            earlier: &earlier,
            journal: &mut self.journal,
            observer,
            budgets: &budgets,
            memory_limit: lora_train::memory::limit(&fallback.apply_to(&limited))?,
            done: Vec::with_capacity(StageName::ALL.len()),
        };

        let max_refused_share = self.config.max_refused_share;
        let merge = self.config.merges(&rows, &treatment);
        let scrub = &self.config.scrub;
        let clean = runner.run(&Convert { rows: &rows, max_refused_share, scrub, merge })?;
        let splits = runner.run(&Enrich {
            clean: &clean,
            embedded: enrich::embedded_data(),
            recipe: &enrichment,
            treatment: &treatment,
            // The whole suite: no case may leak, even if tonight's exam is only a part of it.
            suite_digest: durable::sha256_file(&self.config.exam.suite)?,
            suite: &self.config.exam.suite,
            everyday: everyday.as_ref().map(Everyday::new),
            replay: replay.as_ref().map(|plan| Replay { plan, model: &model, home: &self.home }),
        })?;
        let (model, splits) = (&model, &splits);
        let nights = news::summaries(&earlier, model.sha256);
        let new_rows = news::new_rows(&self.dir, &clean, &nights)?;
        let exam = ExamInputs {
            suite: suite.digest(),
            options: &self.config.exam.options,
            scoring_version: SCORING_VERSION,
            policy: &policy,
            fresh: &fresh,
            drift: drift.as_ref(),
        };
        let inputs = NightInputs::new(model, splits, &recipes, exam).digest()?;
        let mut same = news::same(&nights, inputs);
        match self.config.when_unchanged {
            WhenUnchanged::Skip => {
                // What was taken back by a server's fault may be promoted now.
                let stands = |last: &&Summary| {
                    last.outcome != Outcome::RolledBack && is_there(last, registry.all())
                };
                if let Some(last) = same.next().filter(stands) {
                    // Without an exam, nobody else would notice.
                    let champion =
                        champion.map(|champion| registry.verified(champion)).transpose()?;
                    let stages = runner.done;
                    return self.nothing_new(last, champion, new_rows, stages);
                }
            }
            WhenUnchanged::NextSeed => recipes.advance_seed(same.count() as u64),
        }
        if self.config.serving.exam == ExamWeights::Server {
            ServedExam::check(&self.config.serving, model)?;
        }
        let paused = serving::pause(&self.config.serving)?;
        let training = Training { model, splits, max_refused_share, recipes: &recipes };
        let (supervised, preferred) = training.run(&mut runner, &mut fallback)?;
        let trained = Trained { supervised: &supervised, preferred: preferred.as_ref() };
        let rows = RowAccount::of(&clean, splits, &supervised);
        durable::write_json(self.dir.join("rows.json"), &rows)?;
        let outcome = Evaluation {
            id,
            model,
            clean: &clean,
            rows: &rows,
            new_rows: new_rows.as_ref(),
            splits,
            trained,
            champion,
            suite: &suite,
            options: &self.config.exam.options,
            policy: &policy,
            fresh: &fresh,
            contaminated: &splits.contaminated,
            registry: &registry,
            serving: &self.config.serving,
            paused: &paused,
            drift: drift.as_ref(),
            recipe: &limited,
        }
        .run(&mut runner, &mut fallback)?;
        drop(paused);
        let stages = runner.done;
        let mut summary = self.summary(stages, trained, rows, outcome, &registry)?;
        (summary.base, summary.new_rows) = (Some(model.sha256), new_rows);
        summary.inputs = (!summary.partial).then_some(inputs);
        durable::write_json(self.dir.join("summary.json"), &summary)?;
        self.journal.append(Entry::NightFinished)?;
        self.leftovers().clean_up(registry.all(), &summary, trained);
        Ok(summary)
    }

    fn leftovers(&self) -> Leftovers<'_> {
        let Self { config, home, id, dir, .. } = self;
        Leftovers { retention: &config.retention, home, id, dir, today: config.clock.now().date() }
    }

    /// When the night was first started.
    fn begun(&self) -> Zoned {
        let now = self.config.clock.now();
        let zone = now.time_zone().clone();
        self.journal.begun().map_or(now, |at| at.to_zoned(zone))
    }

    /// Ends a night whose inputs are those of the night `last`: what is known of that one stands.
    fn nothing_new(
        &mut self,
        last: &Summary,
        champion: Option<PathBuf>,
        new_rows: Option<NewRows>,
        stages: Vec<StageSummary>,
    ) -> Result<Summary> {
        let paths = Paths { night: self.dir.clone(), champion, ..last.paths.clone() };
        let summary = Summary {
            night: self.id.clone(),
            outcome: Outcome::NothingNew,
            note: self.config.note.clone(),
            since: Some(last.night.clone()),
            new_rows,
            deleted_chats: self.leftovers().delete_old_chats(),
            seconds: stages.iter().map(|stage| stage.seconds).sum(),
            stages,
            paths,
            ..last.clone()
        };
        durable::write_json(self.dir.join("summary.json"), &summary)?;
        self.journal.append(Entry::NightFinished)?;
        // That night has the same rows.
        for stage in [StageName::Convert, StageName::Enrich] {
            let folder = self.dir.join(stage.as_str());
            if let Err(error) = fs::remove_dir_all(&folder) {
                tracing::warn!("{}: cannot delete: {error}", folder.display());
            }
        }
        Ok(summary)
    }

    fn summary(
        &self,
        stages: Vec<StageSummary>,
        trained: Trained<'_>,
        rows: RowAccount,
        outcome: EvaluationOutcome,
        registry: &BaseRegistry,
    ) -> Result<Summary> {
        let EvaluationOutcome { runs, partial, scores, gate, promotion, report, .. } = outcome;
        Ok(Summary {
            night: self.id.clone(),
            outcome: Outcome::from(&promotion),
            note: self.config.note.clone(),
            since: None,
            new_rows: None,
            base: None,
            inputs: None,
            partial: partial.is_some(),
            done: partial,
            seconds: stages.iter().map(|stage| stage.seconds).sum(),
            stages,
            rows,
            losses: trained.supervised.losses,
            training: trained.supervised.into(),
            preference: trained.preferred.map(PreferencePhase::from),
            scores,
            sample: pick(&runs.base, &runs.candidate, 1).into_iter().next(),
            standing: promotion.deviation(),
            verdict: gate.verdict,
            deleted_chats: self.leftovers().delete_old_chats(),
            paths: Paths {
                home: self.home.path().to_path_buf(),
                night: self.dir.clone(),
                report: self.dir.join(report.path),
                index: self.home.index(),
                adapter: registry.folder(trained.candidate().adapter),
                champion: registry.state()?.champion.map(|adapter| registry.folder(adapter)),
            },
        })
    }
}

/// Whether an adapter that a night has promoted is still there.
fn is_there(night: &Summary, registry: &Registry) -> bool {
    let name = night.paths.adapter.file_name().and_then(|name| name.to_str());
    let adapter = name.and_then(|name| name.parse().ok());
    night.outcome != Outcome::Promoted || adapter.is_some_and(|it| registry.verified(it).is_ok())
}

/// Opens and locks the home of a configuration.
fn lock_home(config: &NightConfig) -> Result<(Home, Lock)> {
    let home = Home::of(config)?;
    let lock = Lock::acquire(&home.lock_file())?;
    Ok((home, lock))
}
