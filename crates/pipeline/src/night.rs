use std::fs;
use std::path::{Path, PathBuf};

use durable::Digest;
use eval::{Check, CheckResult, SCORING_VERSION};
use serde::Serialize;

use crate::config::NightConfig;
use crate::error::{Error, Result, io_error};
use crate::home::{Home, private_dir};
use crate::inputs::Inputs;
use crate::journal::{Entry, Journal};
use crate::lock::Lock;
use crate::model::BaseModel;
use crate::observer::{Event, Observer};
use crate::registry::Registry;
use crate::report::{Report, Sample, pick};
use crate::runner::{Deadline, Runner, StageSummary};
use crate::stage::StageName;
use crate::stages::convert::Convert;
use crate::stages::enrich::Enrich;
use crate::stages::exam::{Exam, Exams};
use crate::stages::gate::Gate;
use crate::stages::promote::{Promote, Standing};
use crate::stages::train::{Losses, Train, Trained};

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

/// How a night ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The candidate is champion.
    Promoted,
    /// The candidate did not get past the gate.
    Refused,
}

/// A finished night, for programs and for the terminal.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// The night's id.
    pub night: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Every stage.
    pub stages: Vec<StageSummary>,
    /// Seconds of all stages.
    pub seconds: f64,
    /// How the training went.
    pub losses: Losses,
    /// How all who sat the exam scored.
    pub scores: Scores,
    /// The gate's decision with every rule.
    pub verdict: eval::Verdict,
    /// The case that gained most, before and after.
    pub sample: Option<Sample>,
    /// Where things are.
    pub paths: Paths,
}

/// The scores of an exam.
#[derive(Debug, Clone, Serialize)]
pub struct Scores {
    /// The model without an adapter.
    pub base: eval::Summary,
    /// The model with the night's adapter.
    pub candidate: eval::Summary,
    /// The model with the adapter that served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub champion: Option<eval::Summary>,
}

/// Where a night's files are.
#[derive(Debug, Clone, Serialize)]
pub struct Paths {
    /// The home.
    pub home: PathBuf,
    /// The night's folder.
    pub night: PathBuf,
    /// The page about the night.
    pub report: PathBuf,
    /// The candidate, content-addressed; mlx-lm loads it as it is.
    pub adapter: PathBuf,
    /// The adapter that serves from now on; none for the base model.
    pub champion: Option<PathBuf>,
}

impl Night {
    /// Takes the lock of the configured home, or of the user's own, and finds the night to work
    /// on: the last one if it is unfinished, else a new one.
    pub fn start_or_resume(config: NightConfig) -> Result<Self> {
        let (home, lock) = enter(&config)?;
        let last = last_night(&home)?;
        Self::go_on(config, home, last, lock)
    }

    /// Like [`start_or_resume`](Self::start_or_resume), but `None` if a night that began today is
    /// finished: for timers that fire twice to be sure.
    pub fn start_once_a_day(config: NightConfig) -> Result<Option<Self>> {
        let (home, lock) = enter(&config)?;
        match last_night(&home)? {
            Some(last) if last.finished && last.id.ends_with(&today()) => Ok(None),
            last => Self::go_on(config, home, last, lock).map(Some),
        }
    }

    fn go_on(config: NightConfig, home: Home, last: Option<Last>, lock: Lock) -> Result<Self> {
        match last {
            Some(last) if !last.finished => Self::open(config, home, last.id, lock),
            last => Self::begin(config, home, last.map_or(1, |last| last.number + 1), lock),
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

    fn begin(config: NightConfig, home: Home, number: u32, lock: Lock) -> Result<Self> {
        let id = format!("{number:04}-{}", today());
        private_dir(&home.nights().join(&id))?;
        Self::open(config, home, id, lock)
    }

    /// Opens a night's journal, and writes its first line if it has none.
    fn open(config: NightConfig, home: Home, id: String, lock: Lock) -> Result<Self> {
        let dir = home.nights().join(&id);
        let mut journal = Journal::open(dir.join("journal.jsonl"))?;
        let resumed = !journal.is_empty();
        if !resumed {
            let champion = Registry::new(&home).state()?.champion;
            journal.append(Entry::NightBegun { night: id.clone(), champion })?;
        }
        let champion = match journal.entries().first() {
            Some(Entry::NightBegun { champion, .. }) => *champion,
            _ => None,
        };
        Ok(Self { config, home, id, dir, champion, resumed, journal, _lock: lock })
    }

    /// Runs what is left of the night.
    pub fn run(mut self, observer: &mut dyn Observer) -> Result<Summary> {
        let deadline = Deadline::after(self.config.budgets.wall_clock.0);
        observer.event(Event::NightBegun {
            night: &self.id,
            resumed: self.resumed,
            dir: &self.dir,
        });
        let Inputs { training, suite, policy, rows, enrichment } = Inputs::read(&self.config)?;
        let model = BaseModel::locate(&self.config.setup.model, &mut |done, total| {
            let (stage, note) = (StageName::Convert, "fetching the demo model");
            observer.event(Event::Progress { stage, done, total, note });
        })?;
        let registry = Registry::new(&self.home);
        let (id, champion) = (self.id.as_str(), self.champion);
        let mut runner = Runner {
            night: &self.dir,
            journal: &mut self.journal,
            observer,
            deadline,
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
        let trained = runner.run(&Train { model: &model, splits: &splits, recipe: &training })?;
        let exams = runner.run(&Exam {
            model: &model,
            trained: &trained,
            champion,
            suite_digest: suite.digest(),
            options: &self.config.exam.options,
            scoring_version: SCORING_VERSION,
            suite: &suite,
            registry: &registry,
        })?;
        let checks = checks(&splits.contaminated);
        let judged = runner.run(&Gate { exams: &exams, policy: &policy, checks: &checks })?;
        let verdict = &judged.verdict;
        let standing = runner.run(&Promote {
            id,
            trained: &trained,
            champion,
            verdict,
            registry: &registry,
        })?;
        let stages = runner.done.clone();
        let report = runner.run(&Report {
            id,
            model: &model,
            model_name: model.name(),
            splits: &splits,
            trained: &trained,
            champion,
            exams: &exams,
            verdict,
            standing,
            stages: &stages,
        })?;
        let stages = runner.done;

        let summary = Summary {
            night: self.id.clone(),
            outcome: match standing {
                Standing::Promoted => Outcome::Promoted,
                Standing::Refused | Standing::Overtaken => Outcome::Refused,
            },
            seconds: stages.iter().map(|stage| stage.seconds).sum(),
            stages,
            losses: trained.losses,
            scores: scores(&exams, &self.dir)?,
            sample: best_sample(&exams, &self.dir)?,
            verdict: judged.verdict,
            paths: paths(&self.home, &self.dir, &registry, &trained, &report.path)?,
        };
        durable::write_json(self.dir.join("summary.json"), &summary)?;
        self.journal.append(Entry::NightFinished)?;
        Ok(summary)
    }
}

/// The checks that earlier stages made for the gate. That the adapter fits the model is checked
/// by loading it, which is strict about every name and shape, so here it is known to be so.
fn checks(contaminated: &[String]) -> Vec<CheckResult> {
    vec![
        CheckResult { check: Check::Contamination, problems: contaminated.to_vec() },
        CheckResult { check: Check::Adapter, problems: vec![] },
    ]
}

/// The home of a configuration, and the right to work in it.
fn enter(config: &NightConfig) -> Result<(Home, Lock)> {
    let root = config.home.clone().or_else(Home::default_path).ok_or_else(|| Error::Config {
        path: "night".into(),
        reason: "home: expected a folder, found none: this user has no data folder".into(),
    })?;
    let home = Home::open(root)?;
    let lock = Lock::acquire(&home.path().join("night.lock"))?;
    Ok((home, lock))
}

/// The last night of a home.
struct Last {
    number: u32,
    id: String,
    finished: bool,
}

/// Numbers, not dates, decide which night is the last: clocks can go back.
fn last_night(home: &Home) -> Result<Option<Last>> {
    let dir = home.nights();
    let mut last: Option<(u32, String)> = None;
    for item in fs::read_dir(&dir).map_err(io_error(&dir, "list"))? {
        let name = item.map_err(io_error(&dir, "list"))?.file_name().to_string_lossy().into_owned();
        let number = name.split_once('-').and_then(|(number, _)| number.parse().ok());
        if let Some(number) = number.filter(|number| last.as_ref().is_none_or(|l| number > &l.0)) {
            last = Some((number, name));
        }
    }
    let Some((number, id)) = last else { return Ok(None) };
    let finished = Journal::open(dir.join(&id).join("journal.jsonl"))?.is_finished();
    Ok(Some(Last { number, id, finished }))
}

/// The date, local time.
fn today() -> String {
    jiff::Zoned::now().date().to_string()
}

fn scores(exams: &Exams, night: &Path) -> Result<Scores> {
    let champion = match &exams.champion {
        Some(run) => Some(run.load(night)?.summary()?),
        None => None,
    };
    Ok(Scores {
        base: exams.base.load(night)?.summary()?,
        candidate: exams.candidate.load(night)?.summary()?,
        champion,
    })
}

fn best_sample(exams: &Exams, night: &Path) -> Result<Option<Sample>> {
    let (base, candidate) = (exams.base.load(night)?, exams.candidate.load(night)?);
    Ok(pick(&base, &candidate, 1).into_iter().next())
}

fn paths(
    home: &Home,
    night: &Path,
    registry: &Registry,
    trained: &Trained,
    report: &Path,
) -> Result<Paths> {
    Ok(Paths {
        home: home.path().to_path_buf(),
        night: night.to_path_buf(),
        report: night.join(report),
        adapter: registry.folder(trained.adapter),
        champion: registry.state()?.champion.map(|adapter| registry.folder(adapter)),
    })
}
