//! Exam questions that have found their way into training rows.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use chat_format::{Conversation, Role};
use serde::{Deserialize, Serialize};

use crate::grams::Grams;
use crate::{Error, Result};

/// When a question counts as leaked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Leaks {
    /// From this likeness (Jaccard of word 3-grams) of a training and an exam question on, the row goes. Default 0.3.
    pub likeness: f64,
    /// Cases that may be met, after somebody has looked.
    pub allow: Vec<String>,
}

impl Default for Leaks {
    fn default() -> Self {
        Leaks { likeness: 0.3, allow: Vec::new() }
    }
}

/// A training question that comes too near to an exam question.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Leak {
    /// The row.
    pub row: usize,
    /// The exam.
    pub suite: String,
    /// The case.
    pub case: String,
    /// How alike the questions are.
    pub likeness: f64,
}

/// The questions of exams, ready to be compared.
#[derive(Debug, Default)]
pub struct ExamQuestions {
    questions: Vec<Question>,
    with: HashMap<u64, Vec<usize>>,
}

#[derive(Debug)]
struct Question {
    suite: String,
    case: String,
    grams: Grams,
}

/// As much of a suite file as matters here.
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
        let grams = Grams::of(question, 3);
        for gram in grams.hashes() {
            self.with.entry(*gram).or_default().push(self.questions.len());
        }
        self.questions.push(Question { suite: suite.to_owned(), case: case.to_owned(), grams });
    }

    /// How many questions there are.
    pub fn len(&self) -> usize {
        self.questions.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.questions.is_empty()
    }

    /// The rows that come too near to a question: for each its nearest.
    pub fn leaks(&self, rows: &[Conversation], rule: &Leaks) -> Vec<Leak> {
        let rows = rows.iter().enumerate();
        rows.filter_map(|(nth, row)| self.nearest(nth, row, rule)).collect()
    }

    fn nearest(&self, nth: usize, row: &Conversation, rule: &Leaks) -> Option<Leak> {
        let mut nearest: Option<Leak> = None;
        for asked in row.messages.iter().filter(|message| message.role == Role::User) {
            let grams = Grams::of(&asked.content, 3);
            let shared: BTreeSet<usize> = grams
                .hashes()
                .iter()
                .filter_map(|gram| self.with.get(gram))
                .flatten()
                .copied()
                .collect();
            for question in shared.into_iter().filter_map(|i| self.questions.get(i)) {
                let likeness = grams.jaccard(&question.grams);
                let nearer = nearest.as_ref().is_none_or(|leak| leak.likeness < likeness);
                if likeness >= rule.likeness && nearer && !rule.allow.contains(&question.case) {
                    nearest = Some(Leak {
                        row: nth,
                        suite: question.suite.clone(),
                        case: question.case.clone(),
                        likeness,
                    });
                }
            }
        }
        nearest
    }
}
