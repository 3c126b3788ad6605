//! Asks an answerer the cases of a suite, and keeps the answers on disk.

mod answerer;
#[cfg(feature = "judge")]
mod chat_judge;
#[cfg(feature = "judge")]
mod endpoint;
mod opinion;
mod pairwise;
mod record;
mod run;
mod summary;

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

pub use self::answerer::{Answer, Answerer, Finish, Question, Sampling, Subject};
#[cfg(feature = "judge")]
pub use self::chat_judge::ChatJudge;
pub use self::opinion::StanceJudge;
pub use self::pairwise::{Comparison, PairJudge, PairOpinion, Preference, compare};
pub use self::record::{ExamOptions, Host, Manifest, Opinion, Record, SuiteId};
pub use self::run::ExamRun;
pub use self::summary::{Agreement, Mean, Share, Summary};
use crate::error::{Error, Result};
use crate::scoring::Scorer;
use crate::suite::{Case, Suite};

/// The limits of one sitting. A sitting that continues a run has a budget of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// Tokens of all answers; none for no limit.
    pub tokens: Option<usize>,
    /// Wall-clock time; none for no limit.
    pub time: Option<Duration>,
}

/// The budget that ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BudgetSpent {
    /// Tokens.
    Tokens {
        /// What was allowed.
        limit: usize,
        /// What was used.
        used: usize,
    },
    /// Wall-clock time.
    Time {
        /// What was allowed.
        limit: Duration,
        /// What was used.
        used: Duration,
    },
}

impl fmt::Display for BudgetSpent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BudgetSpent::Tokens { limit, used } => {
                write!(f, "the budget of {limit} tokens is spent ({used} used)")
            }
            BudgetSpent::Time { limit, used } => write!(
                f,
                "the budget of {:.1} s is spent ({:.1} s used)",
                limit.as_secs_f64(),
                used.as_secs_f64()
            ),
        }
    }
}

/// How a sitting ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Every case is answered.
    Complete(ExamRun),
    /// A budget ran out first. The answers are on disk, and another sitting continues after them.
    Partial {
        /// The answers so far.
        run: ExamRun,
        /// The budget that ran out.
        spent: BudgetSpent,
    },
}

/// Progress after each batch.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Progress<'a> {
    /// Answers on disk, including those of earlier sittings.
    pub done: usize,
    /// Answers of the whole exam.
    pub total: usize,
    /// The batch's answers.
    pub latest: &'a [Record],
}

/// An exam: a suite and how it is taken.
///
/// Answers are written to disk batch by batch. If the process is killed, sitting again in the same folder repeats only
/// the unfinished batches, each with the same cases as before, and gives the same answers as an uninterrupted exam.
pub struct Exam<'a> {
    suite: &'a Suite,
    options: ExamOptions,
    budget: Budget,
}

impl<'a> Exam<'a> {
    /// An exam without a budget.
    pub fn new(suite: &'a Suite, options: ExamOptions) -> Exam<'a> {
        Exam { suite, options, budget: Budget::default() }
    }

    /// Limits each sitting. The limits are checked between batches.
    pub fn with_budget(self, budget: Budget) -> Exam<'a> {
        Exam { budget, ..self }
    }

    /// Takes the exam, or continues it, in the folder `dir`.
    ///
    /// # Errors
    /// If the options ask for nothing, the folder holds another exam, a file cannot be read or written, or the answerer
    /// fails.
    pub fn sit(
        &self,
        answerer: &mut dyn Answerer,
        dir: impl AsRef<Path>,
        on_batch: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Outcome> {
        let dir = dir.as_ref();
        let mut run = self.open(answerer.subject(), dir)?;
        let log = dir.join(run::RECORDS);
        let batches = self.batches();
        let total = batches.iter().map(|b| b.cases.len()).sum();
        keep_whole_batches(&mut run.records, &batches);
        run::write_lines(&log, &run.records)?;

        let scorers = Scorer::of_suite(&self.suite.cases, self.suite.council())?;
        let (start, mut tokens, before) = (Instant::now(), 0, run.records.len());
        let mut done = 0;
        for batch in &batches {
            done += batch.cases.len();
            if done <= before {
                continue;
            }
            if let Some(spent) = self.budget.spent(tokens, start.elapsed()) {
                return Ok(Outcome::Partial { run, spent });
            }
            let fresh = self.answer(batch, answerer, &scorers)?;
            for record in &fresh {
                durable::append_line(&log, &run::to_line(record))?;
            }
            tokens += fresh.iter().map(|r| r.tokens).sum::<usize>();
            on_batch(Progress { done, total, latest: &fresh });
            run.records.extend(fresh);
        }
        Ok(Outcome::Complete(run))
    }

    /// Starts the folder, or reads it and checks that it holds the beginning of this exam.
    fn open(&self, subject: Subject, dir: &Path) -> Result<ExamRun> {
        if self.options.batch == 0 {
            return Err(Error::Options { field: "batch" });
        }
        if self.options.seeds.is_empty() {
            return Err(Error::Options { field: "seeds" });
        }
        let manifest = Manifest::new(subject, self.suite, self.options.clone());
        if !dir.join(run::MANIFEST).exists() {
            let run = ExamRun { manifest, records: Vec::new() };
            run.save(dir)?;
            return Ok(run);
        }
        let run = ExamRun::load(dir)?;
        let found = &run.manifest;
        let same = |what, expected: String, found: String| {
            let path = dir.to_path_buf();
            let same = expected == found;
            same.then_some(()).ok_or(Error::OtherExam { path, what, expected, found })
        };
        same("suite", manifest.suite.digest.to_string(), found.suite.digest.to_string())?;
        same("subject", format!("{:?}", manifest.subject), format!("{:?}", found.subject))?;
        same("setting", format!("{:?}", manifest.options), format!("{:?}", found.options))?;
        let versions = (manifest.scoring_version, found.scoring_version);
        same("scoring version", versions.0.to_string(), versions.1.to_string())?;
        Ok(run)
    }

    fn batches(&self) -> Vec<Batch<'a>> {
        let cases: Vec<(usize, &Case)> = self.suite.cases.iter().enumerate().collect();
        let of_seed = |&seed| {
            let batches = cases.chunks(self.options.batch);
            batches.map(move |cases| Batch { seed, cases: cases.to_vec() })
        };
        self.options.seeds.iter().flat_map(of_seed).collect()
    }

    fn answer(
        &self,
        batch: &Batch<'_>,
        answerer: &mut dyn Answerer,
        scorers: &[Scorer<'_>],
    ) -> Result<Vec<Record>> {
        let questions: Vec<Question<'_>> = batch.cases.iter().map(|(_, c)| (*c).into()).collect();
        let sampling = Sampling { seed: batch.seed, ..self.options.sampling };
        let answers = answerer.answer(&questions, &sampling).map_err(|source| {
            let first_case = batch.cases.first().map_or_else(String::new, |(_, c)| c.id.clone());
            Error::Answerer { first_case, source }
        })?;
        if answers.len() != questions.len() {
            let (expected, found) = (questions.len(), answers.len());
            return Err(Error::AnswerCount { expected, found });
        }
        let cases = batch.cases.iter().zip(answers);
        Ok(cases
            .filter_map(|((i, case), answer)| {
                let score = scorers.get(*i)?.score(&answer.text);
                Some(Record::new(case, batch.seed, answer, score))
            })
            .collect())
    }
}

/// Cases that are asked together, with their indices in the suite.
struct Batch<'a> {
    seed: u64,
    cases: Vec<(usize, &'a Case)>,
}

impl Budget {
    fn spent(&self, tokens: usize, time: Duration) -> Option<BudgetSpent> {
        let tokens_spent = self
            .tokens
            .filter(|limit| tokens >= *limit)
            .map(|limit| BudgetSpent::Tokens { limit, used: tokens });
        let time_spent = self
            .time
            .filter(|limit| time >= *limit)
            .map(|limit| BudgetSpent::Time { limit, used: time });
        tokens_spent.or(time_spent)
    }
}

/// Keeps the records of the leading complete batches. An incomplete batch is asked again as a whole, because answers may depend
/// on the other cases of their batch.
fn keep_whole_batches(records: &mut Vec<Record>, batches: &[Batch<'_>]) {
    let mut kept = 0;
    for batch in batches {
        let end = kept + batch.cases.len();
        let there = records.get(kept..end).is_some_and(|found| {
            found.iter().zip(&batch.cases).all(|(r, (_, c))| r.case == c.id && r.seed == batch.seed)
        });
        if !there {
            break;
        }
        kept = end;
    }
    records.truncate(kept);
}
