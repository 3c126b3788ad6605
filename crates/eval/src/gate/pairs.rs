//! Runs of one exam, paired by case.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::council::{AgentId, CategoryId};
use crate::error::{Error, Result};
use crate::exam::{ExamRun, Record};
use crate::scoring::Help;
use crate::suite::Tier;

/// The runs of one exam: candidate, champion and base model sit the same cases with the same options.
#[derive(Clone, Copy, Debug)]
pub struct Sitting<'a> {
    /// The candidate's run.
    pub candidate: &'a ExamRun,
    /// The champion's run; none while there is no champion.
    pub champion: Option<&'a ExamRun>,
    /// The base model's run. Without a champion the candidate is compared with it.
    pub base: Option<&'a ExamRun>,
}

/// The result of one model on one case.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mark {
    /// The score, between 0 and 1: the mean over the seeds of the exam.
    pub score: f64,
    /// Whether most of its answers refuse what deserves an answer.
    pub refused: bool,
}

/// One case with the marks of all who sat it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairedCase<'a> {
    /// What the case examines.
    pub category: &'a CategoryId,
    /// The agent asked.
    pub agent: &'a AgentId,
    /// Who may have seen the case.
    pub tier: Tier,
    /// The number of its cluster within the exam. Cases of one cluster (one fact, one template) are not independent.
    pub cluster: usize,
    /// The case's weight in every mean.
    pub weight: f64,
    /// Whether the case asks for a refusal. All others deserve an answer.
    pub asks_refusal: bool,
    /// The candidate's mark.
    pub candidate: Mark,
    /// The champion's mark.
    pub champion: Option<Mark>,
    /// The base model's mark.
    pub base: Option<Mark>,
}

impl Mark {
    /// Whether the score is full, with every seed.
    pub(super) fn passes(self) -> bool {
        self.score > 1.0 - 1e-9
    }
}

impl<'a> PairedCase<'a> {
    /// The mark that the candidate has to beat: the champion's, or the base model's while there is no champion.
    pub(super) fn reference(&self) -> Option<Mark> {
        self.champion.or(self.base)
    }

    /// Candidate minus reference; 0 for a case that the reference has not answered.
    pub(super) fn difference(&self) -> f64 {
        self.reference().map_or(0.0, |reference| self.candidate.score - reference.score)
    }
}

impl<'a> Sitting<'a> {
    /// The run that the candidate is compared with.
    ///
    /// # Errors
    /// If there is neither a champion nor a base model.
    pub(super) fn reference(&self) -> Result<&'a ExamRun> {
        self.champion.or(self.base).ok_or_else(|| Error::Incomparable {
            what: "runs of a champion or a base model",
            expected: "at least one".into(),
            found: "none".into(),
        })
    }

    /// The cases that candidate and reference have in common, in the reference's order. Two cases are the same if their
    /// ids and questions are.
    ///
    /// # Errors
    /// If the runs cannot be compared: other options or another version of the scoring, fewer cases in common than the
    /// share `overlap`, or a score that is not between 0 and 1.
    pub(super) fn paired(&self, overlap: f64) -> Result<Vec<PairedCase<'a>>> {
        let reference = self.reference()?;
        for run in [Some(self.candidate), self.base].into_iter().flatten() {
            same_conditions(reference, run)?;
        }
        let candidate = marks(self.candidate)?;
        let champion = self.champion.map(marks).transpose()?;
        let base = self.base.map(marks).transpose()?;
        let of = |marks: &Option<Marks<'_>>, key| marks.as_ref()?.get(&key).copied();
        let mut clusters = HashMap::new();
        let paired: Vec<PairedCase<'a>> = reference
            .records
            .iter()
            .filter(first_of_case())
            .filter_map(|record| {
                let key = key(record);
                let next = clusters.len();
                let cluster = record.cluster.as_deref().unwrap_or(&record.case);
                Some(PairedCase {
                    category: &record.category,
                    agent: &record.agent,
                    tier: record.tier,
                    weight: record.weight,
                    asks_refusal: record.score.rules.iter().any(|rule| rule.kind == "refusal"),
                    candidate: *candidate.get(&key)?,
                    champion: of(&champion, key),
                    base: of(&base, key),
                    cluster: *clusters.entry(cluster).or_insert(next),
                })
            })
            .collect();
        let of_reference = reference.records.iter().filter(first_of_case()).count();
        let suites = [self.candidate, reference].map(|run| run.manifest.suite.cases);
        let cases = suites[0].max(suites[1]).max(candidate.len()).max(of_reference);
        if paired.is_empty() || (paired.len() as f64) < overlap * cases as f64 {
            return Err(Error::Incomparable {
                what: "cases in common",
                expected: format!("at least {:.0} % of {cases}", overlap * 100.0),
                found: paired.len().to_string(),
            });
        }
        Ok(paired)
    }
}

fn same_conditions(reference: &ExamRun, run: &ExamRun) -> Result<()> {
    let same = |what, expected: String, found: String| {
        let same = expected == found;
        same.then_some(()).ok_or(Error::Incomparable { what, expected, found })
    };
    let (r, c) = (&reference.manifest, &run.manifest);
    same("scoring version", r.scoring_version.to_string(), c.scoring_version.to_string())?;
    same("exam options", format!("{:?}", r.options), format!("{:?}", c.options))
}

type Key<'a> = (&'a str, durable::Digest);
type Marks<'a> = BTreeMap<Key<'a>, Mark>;

fn key(record: &Record) -> Key<'_> {
    (record.case.as_str(), record.prompt)
}

fn first_of_case<'a>() -> impl FnMut(&&'a Record) -> bool {
    let mut seen = BTreeSet::new();
    move |record| seen.insert(record.case.as_str())
}

/// Every case's mark: the mean over its seeds.
fn marks(run: &ExamRun) -> Result<Marks<'_>> {
    let mut all: BTreeMap<Key<'_>, Vec<(f64, bool)>> = BTreeMap::new();
    for record in &run.records {
        let score = record.score.value;
        if !((0.0..=1.0).contains(&score) && record.weight.is_finite() && record.weight > 0.0) {
            return Err(Error::Incomparable {
                what: "score and weight",
                expected: format!("a score in [0, 1] and a positive weight for {}", record.case),
                found: format!("{score} and {}", record.weight),
            });
        }
        all.entry(key(record)).or_default().push((score, record.score.help == Help::Refused));
    }
    let mark = |answers: Vec<(f64, bool)>| {
        let count = answers.len() as f64;
        let refused = answers.iter().filter(|(_, refused)| *refused).count();
        Mark {
            score: answers.iter().map(|(score, _)| score).sum::<f64>() / count,
            refused: refused as f64 > count / 2.0,
        }
    };
    Ok(all.into_iter().map(|(key, answers)| (key, mark(answers))).collect())
}
