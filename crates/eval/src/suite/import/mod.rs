//! Exams of other tools as suites: promptfoo's YAML and JSONL of prompts with expected answers.

mod jsonl;
mod promptfoo;

use std::collections::HashSet;
use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Case, Suite, Tier, Turn};
use crate::council::{Agent, Category, Council};
use crate::error::{Error, Result};
use crate::scoring::Rule;

/// The agent that imported cases address, and their category.
const AGENT: &str = "assistant";
const CATEGORY: &str = "imported";

/// A suite and what of its source it leaves out.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Imported {
    /// The suite.
    pub suite: Suite,
    /// What could not be expressed, in the source's order; empty for a suite file.
    pub left_out: Vec<LeftOut>,
}

/// A part of a source that the suite does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct LeftOut {
    /// Where it stands in the source, such as `tests[3]` or `line 7`.
    pub test: String,
    /// The assertion or key, such as `assert[0] (llm-rubric)`; none for a whole test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
    /// Why it is left out.
    pub reason: String,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.part {
            Some(part) => write!(f, "{}.{part}: {}", self.test, self.reason),
            None => write!(f, "{}: {}", self.test, self.reason),
        }
    }
}

impl Suite {
    /// Reads an exam: a suite file (`.json`, [checked](Suite::check)), a promptfoo configuration (`.yaml`, `.yml`) or JSONL
    /// of prompts with expected answers (`.jsonl`).
    ///
    /// Imported cases have no sample answers, so only an answerer tests their rules. They may be declined where their rules
    /// allow it, and all of them are held out. What cannot be expressed is named in [`Imported::left_out`].
    ///
    /// Of promptfoo: `contains`, `icontains`, `contains-any`, `contains-all` and their `i` forms, `starts-with`, `equals`,
    /// `regex`, `is-json`, `contains-json`, `is-refusal`, each also with `not-`; variables in prompts and values; chats as
    /// JSON; prompts in text files of the configuration's folder; `defaultTest`.
    ///
    /// A line of JSONL has a `prompt`, an `expected` text (which the answer must contain as whole words), number (which it
    /// must state) or list of texts (of which one suffices), and optionally `id` and `system`.
    ///
    /// # Errors
    /// If the file cannot be read or parsed, has another ending, or leaves no case.
    pub fn open(path: impl AsRef<Path>) -> Result<Imported> {
        let path = path.as_ref();
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        let read = || {
            std::fs::read_to_string(path)
                .map_err(|source| Error::Read { path: path.to_path_buf(), source })
        };
        let (cases, left_out) = match ending {
            "json" => return Ok(Imported { suite: Suite::load(path)?, left_out: Vec::new() }),
            "yaml" | "yml" => promptfoo::cases(path, &read()?)?,
            "jsonl" => jsonl::cases(path, &read()?)?,
            _ => {
                let problem = format!(
                    "expected a file that ends in .json, .yaml, .yml or .jsonl, found {ending:?}"
                );
                return Err(Error::Suite { path: path.to_path_buf(), problem });
            }
        };
        if cases.is_empty() {
            let named: Vec<String> = left_out.iter().map(LeftOut::to_string).collect();
            let problem = format!(
                "expected at least one test that can be expressed, found none: {}",
                named.join("; ")
            );
            return Err(Error::Suite { path: path.to_path_buf(), problem });
        }
        let name =
            path.file_stem().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let suite = Suite::imported(name, path, cases, council());
        Ok(Imported { suite, left_out })
    }
}

/// The council of imported suites: one agent, one category.
fn council() -> Council {
    let agent = Agent::named(AGENT, "Assistant", "assistant");
    let category = Category {
        id: CATEGORY.into(),
        about: String::new(),
        refusal: None,
        floor: false,
        retained: false,
    };
    Council { agents: vec![agent], categories: vec![category] }
}

/// A case without sample answers.
fn case(id: String, system: String, turns: Vec<Turn>, rules: Vec<Rule>) -> Case {
    let mut case = Case::new(id, CATEGORY, AGENT, Tier::HeldOut, "");
    (case.system, case.turns, case.rules) = (system, turns, rules);
    case.may_decline = true;
    case
}

/// Makes ids unique: the second case of an id gets the suffix `-2`, and so on.
fn unique_ids(cases: &mut [Case]) {
    let mut seen = HashSet::new();
    for case in cases {
        let id = case.id.clone();
        let mut nth = 1;
        while !seen.insert(case.id.clone()) {
            nth += 1;
            case.id = format!("{id}-{nth}");
        }
    }
}
