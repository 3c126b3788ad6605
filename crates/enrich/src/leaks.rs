//! Exam questions that leaked into training rows, found by similarity and by containment.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};

use chat_format::{Conversation, Role};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::grams::{Grams, Index};
use crate::{Error, Result, yaml};

/// Words per gram.
const WORDS: usize = 3;

/// The number of 3-grams of a question of six words, the shortest that containment applies to.
const LEAST_CONTAINED: usize = 4;

/// When a question counts as leaked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Leaks {
    /// The similarity in words (Jaccard of 3-grams) to an exam question from which a row is left out. Default 0.3.
    pub likeness: f64,
    /// The similarity in [sentence structure](Grams::of_build) from which a row is left out: the exam's sentence with other
    /// nouns is still the exam's sentence. Default 0.7.
    pub build: f64,
    /// The share of an exam question's word 3-grams from which a turn contains the question, whatever else it says; its row
    /// is left out. Applies to questions of at least six words, because shorter ones ("Who are you?") occur in messages that
    /// ask for something else. Default 0.6: one word of ten may be changed, which removes three of eight 3-grams.
    pub containment: f64,
    /// A YAML list of [cases](Allowed) that rows may be similar to, each with a reason.
    pub allowlist: Option<PathBuf>,
}

impl Default for Leaks {
    fn default() -> Self {
        Leaks { likeness: 0.3, build: 0.7, containment: 0.6, allowlist: None }
    }
}

/// An entry of the allowlist: a person found the similarity harmless.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Allowed {
    /// The case that rows may be similar to.
    pub case: String,
    /// Why.
    pub reason: String,
}

/// A row that is too similar to an exam question or contains one.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Leak {
    /// The row.
    pub row: usize,
    /// The exam.
    pub suite: String,
    /// The case.
    pub case: String,
    /// By what the row was found.
    pub by: Measure,
    /// The value of the measure, between 0 and 1.
    pub likeness: f64,
}

/// How a row is compared with an exam question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Measure {
    /// Similarity of a question in words.
    Words,
    /// Share of the exam question's words that a turn contains.
    Containment,
    /// Similarity of a question in sentence structure.
    Build,
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Measure::Words => "words",
            Measure::Containment => "containment",
            Measure::Build => "build",
        })
    }
}

/// The questions of suites, indexed for comparison.
#[derive(Debug, Default)]
pub struct ExamQuestions {
    /// Suite and case of each question.
    names: Vec<(String, String)>,
    words: Index,
    builds: Index,
}

/// The part of a suite file that is read: any suite's questions can be compared, even if its council is not at hand.
#[derive(Deserialize)]
struct SuiteFile {
    name: String,
    cases: Vec<CaseFile>,
}

#[derive(Deserialize)]
struct CaseFile {
    id: String,
    turns: Vec<TurnFile>,
}

#[derive(Deserialize)]
struct TurnFile {
    role: String,
    content: String,
}

impl Leaks {
    /// The cases of the allowlist.
    fn allowed(&self) -> Result<HashSet<String>> {
        let Some(path) = &self.allowlist else { return Ok(HashSet::new()) };
        let entries: Vec<Allowed> = yaml::load(path)?;
        let unexplained = entries.iter().find(|entry| entry.reason.trim().is_empty());
        match unexplained {
            None => Ok(entries.into_iter().map(|entry| entry.case).collect()),
            Some(entry) => Err(Error::Entry {
                path: path.clone(),
                entry: format!("{}.reason", entry.case),
                expected: "why rows may be similar to the case".into(),
                found: "nothing".into(),
            }),
        }
    }
}

impl ExamQuestions {
    /// Reads the questions of a suite file and adds them.
    pub fn read(&mut self, path: impl AsRef<Path>) -> Result<()> {
        let path: PathBuf = path.as_ref().to_path_buf();
        let text =
            std::fs::read(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
        let suite: SuiteFile =
            serde_json::from_slice(&text).map_err(|source| Error::Suite { path, source })?;
        for case in suite.cases {
            for turn in case.turns.iter().filter(|turn| turn.role == "user") {
                self.add(&suite.name, &case.id, &turn.content);
            }
        }
        Ok(())
    }

    /// Adds one question.
    pub fn add(&mut self, suite: &str, case: &str, question: &str) {
        self.words.add(&Grams::of(question, WORDS));
        self.builds.add(&Grams::of_build(question));
        self.names.push((suite.to_owned(), case.to_owned()));
    }

    /// How many questions there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The rows that are too similar to a question, each with its most similar question in words; if there is none, the
    /// question that it contains, or else its most similar question in sentence structure. Similar are a user's turns; a
    /// question may be contained in any turn but the system's, which is not trained and is the same in the exam.
    ///
    /// # Errors
    /// If the allowlist cannot be read or lacks a reason.
    pub fn leaks(&self, rows: &[Conversation], rule: &Leaks) -> Result<Vec<Leak>> {
        let allowed = rule.allowed()?;
        let nearest = |(row, chat): (usize, &Conversation)| {
            let (by, (question, likeness)) = self.nearest(chat, rule, &allowed)?;
            let (suite, case) = self.names.get(question)?.clone();
            Some(Leak { row, suite, case, by, likeness })
        };
        Ok(rows.par_iter().enumerate().filter_map(nearest).collect())
    }

    fn nearest(
        &self,
        chat: &Conversation,
        rule: &Leaks,
        allowed: &HashSet<String>,
    ) -> Option<(Measure, (usize, f64))> {
        let turns = chat.messages.iter().filter(|message| message.role != Role::System);
        let grams: Vec<_> =
            turns.map(|turn| (turn.role, Grams::of(&turn.content, WORDS))).collect();
        let asked = || grams.iter().filter(|(role, _)| *role == Role::User);
        let questions = || chat.messages.iter().filter(|message| message.role == Role::User);
        let first = |near: &mut dyn Iterator<Item = (usize, f64)>| {
            let forbidden = |(question, _): &(usize, f64)| {
                self.names.get(*question).is_some_and(|(_, case)| !allowed.contains(case))
            };
            near.filter(forbidden).reduce(|a, b| if b.1 > a.1 { b } else { a })
        };
        let words = || first(&mut asked().flat_map(|(_, of)| self.words.near(of, rule.likeness)));
        let contained = || {
            let within = |of| self.words.within(of, rule.containment, LEAST_CONTAINED);
            first(&mut grams.iter().flat_map(|(_, of)| within(of)))
        };
        let builds = || {
            let build = questions().map(|question| Grams::of_build(&question.content));
            first(&mut build.flat_map(|of| self.builds.near(&of, rule.build)))
        };
        let by = |measure: Measure| move |near| (measure, near);
        words()
            .map(by(Measure::Words))
            .or_else(|| contained().map(by(Measure::Containment)))
            .or_else(|| builds().map(by(Measure::Build)))
    }
}
