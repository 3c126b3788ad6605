//! Exam questions that leaked into training rows, found by similarity.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};

use chat_format::{Conversation, Role};
use serde::{Deserialize, Serialize};

use crate::grams::{Grams, Index};
use crate::{Error, Result, yaml};

/// When a question counts as leaked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Leaks {
    /// The similarity in words (Jaccard of 3-grams) to an exam question from which a row is left out. Default 0.3.
    pub likeness: f64,
    /// The similarity in [sentence structure](Grams::of_build) from which a row is left out: the exam's sentence with other
    /// nouns is still the exam's sentence. Default 0.7.
    pub build: f64,
    /// A YAML list of [cases](Allowed) that rows may be similar to, each with a reason.
    pub allowlist: Option<PathBuf>,
}

impl Default for Leaks {
    fn default() -> Self {
        Leaks { likeness: 0.3, build: 0.7, allowlist: None }
    }
}

/// An entry of the allowlist: a person found the similarity harmless.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allowed {
    /// The case that rows may be similar to.
    pub case: String,
    /// Why.
    pub reason: String,
}

/// A training question that is too similar to an exam question.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Leak {
    /// The row.
    pub row: usize,
    /// The exam.
    pub suite: String,
    /// The case.
    pub case: String,
    /// What is similar: words or sentence structure.
    pub by: Measure,
    /// The similarity, between 0 and 1.
    pub likeness: f64,
}

/// What of two questions is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Measure {
    /// Their words.
    Words,
    /// Their sentence structure.
    Build,
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Measure::Words => "words",
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
        self.words.add(&Grams::of(question, 3));
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

    /// The rows that are too similar to a question, each with its most similar question in words or, if there is none, in
    /// sentence structure.
    ///
    /// # Errors
    /// If the allowlist cannot be read or lacks a reason.
    pub fn leaks(&self, rows: &[Conversation], rule: &Leaks) -> Result<Vec<Leak>> {
        let allowed = rule.allowed()?;
        let nearest = |(row, chat): (usize, &Conversation)| {
            let nearest = self.nearest(chat, rule, &allowed)?;
            let (suite, case) = self.names.get(nearest.question)?.clone();
            Some(Leak { row, suite, case, by: nearest.by, likeness: nearest.likeness })
        };
        Ok(rows.iter().enumerate().filter_map(nearest).collect())
    }

    fn nearest(
        &self,
        chat: &Conversation,
        rule: &Leaks,
        allowed: &HashSet<String>,
    ) -> Option<Near> {
        let asked = chat.messages.iter().filter(|message| message.role == Role::User);
        let asked: Vec<&str> = asked.map(|message| message.content.as_str()).collect();
        let words = asked.iter().flat_map(|text| {
            let near = self.words.near(&Grams::of(text, 3), rule.likeness);
            near.into_iter().map(|near| Near::new(Measure::Words, near))
        });
        let builds = asked.iter().flat_map(|text| {
            let near = self.builds.near(&Grams::of_build(text), rule.build);
            near.into_iter().map(|near| Near::new(Measure::Build, near))
        });
        let forbidden = |near: &Near| {
            self.names.get(near.question).is_some_and(|(_, case)| !allowed.contains(case))
        };
        let first = |a: Near, b: Near| if b.likeness > a.likeness { b } else { a };
        let by_words = words.filter(forbidden).reduce(first);
        by_words.or_else(|| builds.filter(forbidden).reduce(first))
    }
}

/// A question that another is similar to.
struct Near {
    by: Measure,
    question: usize,
    likeness: f64,
}

impl Near {
    fn new(by: Measure, (question, likeness): (usize, f64)) -> Self {
        Near { by, question, likeness }
    }
}
