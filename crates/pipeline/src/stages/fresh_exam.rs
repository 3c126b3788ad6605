//! The stage `fresh_exam`: an exam made for this night, taken by a candidate that passes the standing one.

use std::fmt;
use std::path::{Path, PathBuf};

use chat_format::jsonl;
use durable::Digest;
use enrich::Household;
use enrich::household::{FreshWordings, Phrasings};
use enrich::leaks::{ExamQuestions, Leaks};
use eval::{CheckResult, ExamOptions, Gate, Policy, Suite};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::enrich::Splits;
use super::exam::{ExamFiles, ExamRuns, Sitters};
use super::train::TrainedAdapter;
use crate::base_model::BaseModel;
use crate::config::{DataSource, NightConfig, ServingConfig};
use crate::error::{Error, Result};
use crate::exam_ledger::{Drawn, ExamLedger, Origin};
use crate::files;
use crate::registry::BaseRegistry;
use crate::stage::{Artefact, Stage, StageContext};
use crate::stages::StageName;

/// How many times larger than the standing exam a generated one is, unless the configuration says otherwise.
const TIMES: usize = 3;

/// Where fresh exams come from.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FreshSource {
    /// They are generated from a household's facts.
    Household {
        /// Digest of the facts file.
        facts: Digest,
        cases: usize,
        #[serde(skip)]
        path: PathBuf,
    },
    /// A folder of suites, each used once.
    Sealed(PathBuf),
    /// There are none.
    None,
}

impl FreshSource {
    /// The source of a configuration, after a check that it has exams to give.
    pub fn read(config: &NightConfig, standing: &Suite) -> Result<Self> {
        let fresh = config.exam.fresh.clone().unwrap_or_default();
        if let Some(folder) = fresh.sealed {
            sealed(&folder)?;
            return Ok(Self::Sealed(folder));
        }
        let of_data = match &config.setup.data {
            DataSource::Household { facts, .. } => Some(facts.clone()),
            DataSource::Raw(_) | DataSource::Chats(_) | DataSource::RawAndChats { .. } => None,
        };
        let Some(path) = fresh.facts.or(of_data) else { return Ok(Self::None) };
        Household::load(&path)?;
        // No fresh exam asks the everyday questions, which are about no household.
        let council = standing.council();
        let retained = |id: &str| council.category(id).is_some_and(|category| category.retained);
        let own = standing.cases.iter().filter(|case| !retained(case.category.as_str())).count();
        let cases = fresh.cases.unwrap_or(TIMES * own);
        Ok(Self::Household { facts: durable::sha256_file(&path)?, cases, path })
    }
}

impl fmt::Display for FreshSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Household { cases, .. } => {
                write!(f, "fresh exams of {cases} cases, generated on the night")
            }
            Self::Sealed(folder) => write!(f, "fresh exams from {}", folder.display()),
            Self::None => f.write_str(
                "no source of fresh exams (exam.fresh): the standing exam decides alone, at a stricter level",
            ),
        }
    }
}

/// The suites of a folder, sorted by name.
fn sealed(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut suites = files::list(folder)?;
    suites.retain(|path| path.extension().is_some_and(|end| end == "json"));
    match suites.is_empty() {
        true => Err(Error::SealedExams { folder: folder.to_path_buf(), found: "none".to_owned() }),
        false => Ok(suites),
    }
}

#[derive(Serialize)]
pub(crate) struct FreshExam<'a> {
    /// The night's id.
    pub id: &'a str,
    pub model: &'a BaseModel,
    #[serde(serialize_with = "TrainedAdapter::applied")]
    pub trained: &'a TrainedAdapter,
    /// The champion; `None` for the base model.
    pub champion: Option<Digest>,
    /// The standing exam.
    pub exams: &'a ExamFiles,
    /// The training rows, which no question of a generated exam may be similar to.
    #[serde(serialize_with = "Splits::trained")]
    pub splits: &'a Splits,
    pub source: &'a FreshSource,
    /// Digest of the wordings that generated questions are made of.
    pub embedded: Digest,
    pub options: &'a ExamOptions,
    pub policy: &'a Policy,
    pub checks: &'a [CheckResult],
    /// The standing suite.
    #[serde(skip)]
    pub suite: &'a Suite,
    #[serde(skip)]
    pub registry: &'a BaseRegistry,
    #[serde(skip)]
    pub runs: &'a ExamRuns,
    /// Whose weights answer.
    #[serde(skip)]
    pub serving: &'a ServingConfig,
}

/// What came of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FreshResult {
    /// The exam was taken.
    Taken {
        exams: Box<ExamFiles>,
        /// The questions, for an audit.
        suite: Artefact,
        origin: Origin,
        /// Questions left out because a training row is similar.
        left_out: usize,
    },
    /// It was not taken, for this reason.
    NotTaken(String),
    /// There is no source of fresh exams.
    Unavailable,
}

/// The runs of a [`FreshResult`], loaded.
pub(crate) enum FreshRuns {
    Taken(Box<ExamRuns>),
    NotTaken(String),
    Unavailable,
}

impl FreshResult {
    /// How far an exam came for which the time did not suffice.
    pub fn unfinished(&self) -> Option<&str> {
        match self {
            Self::Taken { exams, .. } => exams.unfinished.as_deref(),
            Self::NotTaken(_) | Self::Unavailable => None,
        }
    }

    pub fn load(&self, night: &Path) -> Result<FreshRuns> {
        Ok(match self {
            Self::Taken { exams, .. } => FreshRuns::Taken(Box::new(exams.load(night)?)),
            Self::NotTaken(why) => FreshRuns::NotTaken(why.clone()),
            Self::Unavailable => FreshRuns::Unavailable,
        })
    }
}

impl FreshRuns {
    /// The exam as the gate sees it.
    pub fn evidence(&self) -> eval::FreshExam<eval::Sitting<'_>> {
        match self {
            Self::Taken(runs) => eval::FreshExam::Taken(runs.sitting()),
            Self::NotTaken(why) => eval::FreshExam::Pending(why.clone()),
            Self::Unavailable => eval::FreshExam::Unavailable,
        }
    }
}

impl Stage for FreshExam<'_> {
    const NAME: StageName = StageName::FreshExam;
    const VERSION: u32 = 2;
    type Output = FreshResult;

    fn run(&self, ctx: &mut StageContext<'_>) -> Result<FreshResult> {
        if matches!(self.source, FreshSource::None) {
            return Ok(FreshResult::Unavailable);
        }
        if let Some(unfinished) = &self.exams.unfinished {
            let why = format!("time was up after {unfinished} to the standing exam");
            return Ok(FreshResult::NotTaken(why));
        }
        if !self.passes_standing_exam()? {
            return Ok(FreshResult::NotTaken("the candidate fails the standing exam".to_owned()));
        }
        if ctx.budgets.time_left().is_zero() {
            return Ok(FreshResult::NotTaken("the time was spent".to_owned()));
        }
        let mut ledger = ExamLedger::open(self.registry.all().home())?;
        let origin = match ledger.drawn_for(self.id, self.trained.adapter) {
            Some(drawn) => drawn.origin.clone(),
            None => {
                let now = ctx.budgets.clock().now().timestamp();
                if let Some(why) = self.spent_budget(&ledger, now)? {
                    return Ok(FreshResult::NotTaken(why));
                }
                let origin = self.draw(&ledger)?;
                // On file before its first use: no exam is ever taken twice.
                let drawn = Drawn::new(now, self.id, self.trained.adapter, origin.clone());
                ledger.enter(drawn)?;
                origin
            }
        };
        let (suite, left_out) = self.suite_of(ctx, &origin)?;
        let path = ctx.dir.join("suite.json");
        durable::write_json(&path, &suite)?;
        let Self { model, trained, champion, registry, serving, .. } = *self;
        let sitters = Sitters { model, trained, champion, registry, serving };
        let models = sitters.open(ctx, self.options, None)?;
        let exams = Box::new(sitters.sit(ctx, &models, &suite, self.options, None)?);
        Ok(FreshResult::Taken { exams, suite: ctx.artefact(&path)?, origin, left_out })
    }

    fn artefacts(output: &FreshResult) -> Vec<&Artefact> {
        match output {
            FreshResult::Taken { exams, suite, .. } => {
                exams.artefacts().into_iter().chain([suite]).collect()
            }
            FreshResult::NotTaken(_) | FreshResult::Unavailable => vec![],
        }
    }

    fn describe(output: &FreshResult) -> String {
        match output {
            FreshResult::Taken { exams, origin, left_out, .. } => {
                let similar = match left_out {
                    0 => String::new(),
                    count => format!("; {count} questions left out, similar to training rows"),
                };
                format!("{}, {origin}{similar}", exams.describe())
            }
            FreshResult::NotTaken(why) => format!("not taken: {why}"),
            FreshResult::Unavailable => {
                "no source of fresh exams: the standing exam decides alone".to_owned()
            }
        }
    }
}

impl FreshExam<'_> {
    fn passes_standing_exam(&self) -> Result<bool> {
        let fresh = eval::FreshExam::Pending("it is the next stage".to_owned());
        let evidence = self.runs.evidence(self.exams, fresh, self.checks);
        Ok(Gate::new(self.policy.clone())?.decide(&evidence)?.awaits_fresh_exam())
    }

    /// Why no further exam may be drawn, if the policy's number of failed ones is reached.
    fn spent_budget(&self, ledger: &ExamLedger, now: Timestamp) -> Result<Option<String>> {
        let allowed = self.policy.failed_exams_a_year();
        let failed = ledger.failed_within_a_year(&self.registry.all().state()?, now);
        let Some(oldest) = failed.first().filter(|_| failed.len() >= allowed) else {
            return Ok(None);
        };
        let (count, next) = (failed.len(), ledger.leaves_the_year(oldest));
        Ok(Some(format!(
            "{count} fresh exams of the last 365 days ended without a promotion, and the policy allows {allowed} \
             (fresh.yearly / fresh.alpha); the next one can be taken from {next} on"
        )))
    }

    /// The origin of an exam that nobody has seen.
    fn draw(&self, ledger: &ExamLedger) -> Result<Origin> {
        match self.source {
            FreshSource::Sealed(folder) => {
                let suites = sealed(folder)?;
                let count = suites.len();
                for path in suites {
                    let sha256 = durable::sha256_file(&path)?;
                    if !ledger.has_used(sha256) {
                        return Ok(Origin::Sealed { path, sha256 });
                    }
                }
                let found = format!("{count}, all of them used");
                Err(Error::SealedExams { folder: folder.clone(), found })
            }
            FreshSource::Household { .. } | FreshSource::None => Ok(Origin::Seed(random_seed()?)),
        }
    }

    /// The questions, and how many were left out because a training row is similar.
    fn suite_of(&self, ctx: &StageContext<'_>, origin: &Origin) -> Result<(Suite, usize)> {
        match (origin, self.source) {
            (Origin::Seed(seed), FreshSource::Household { cases, path, .. }) => {
                let (wordings, phrasings) = (FreshWordings::embedded()?, Phrasings::embedded()?);
                let house = Household::load(path)?;
                let mut suite =
                    house.fresh_exam(&wordings, &phrasings, self.suite, *cases, seed.0)?;
                let left_out =
                    leave_out_leaks(&mut suite, &self.splits.train.verified(ctx.night)?)?;
                Ok((suite, left_out))
            }
            (Origin::Sealed { path, sha256 }, _) => {
                let found = durable::sha256_file(path)?;
                if found != *sha256 {
                    let (path, expected) = (path.clone(), *sha256);
                    return Err(Error::Corrupt { path, expected, found });
                }
                Ok((Suite::load(path)?, 0))
            }
            (Origin::Seed(_), _) => Err(Error::Record {
                path: self.registry.all().home().fresh_exams(),
                line: None,
                expected: "a sealed exam for this night: the configuration has no household to generate one from",
                found: origin.to_string(),
            }),
        }
    }
}

/// A seed that nobody can know: from the operating system.
fn random_seed() -> Result<crate::exam_ledger::Seed> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| Error::Randomness { reason: error.to_string() })?;
    Ok(crate::exam_ledger::Seed(u64::from_le_bytes(bytes)))
}

/// Removes the questions that a training row is similar to, and counts them.
fn leave_out_leaks(suite: &mut Suite, train: &Path) -> Result<usize> {
    let rows =
        jsonl::Reader::open(train)?.conversations().collect::<chat_format::Result<Vec<_>>>()?;
    let before = suite.cases.len();
    loop {
        let mut questions = ExamQuestions::default();
        for case in &suite.cases {
            for turn in &case.turns {
                questions.add(&suite.name, &case.id, &turn.content);
            }
        }
        // Each row names the nearest question only.
        let leaks = questions.leaks(&rows, &Leaks::default())?;
        if leaks.is_empty() {
            return Ok(before - suite.cases.len());
        }
        suite.cases.retain(|case| leaks.iter().all(|leak| leak.case != case.id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_that_training_rows_contain_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let train = dir.path().join("train.jsonl");
        let case = |id: &str, question: &str| {
            eval::Case::new(id, "domain", "yoda", eval::Tier::HeldOut, question)
        };
        let asked = "Which port does the garden pump listen on after a storm?";
        let cases = vec![
            case("same", asked),
            case("other", "Who feeds the parrots while we are at sea in winter?"),
            case("near", "Which port does the garden pump listen on after a flood?"),
        ];
        let mut suite = Suite::new("fresh", "1", cases);
        let row = serde_json::json!({ "messages": [
            { "role": "user", "content": asked }, { "role": "assistant", "content": "Port 7." },
        ] });
        std::fs::write(&train, format!("{row}\n")).unwrap();
        assert_eq!(leave_out_leaks(&mut suite, &train).unwrap(), 2);
        assert_eq!(suite.cases[0].id, "other");
        assert_eq!(suite.cases.len(), 1);
    }

    #[test]
    fn seeds_differ() {
        assert_ne!(random_seed().unwrap(), random_seed().unwrap());
    }
}
