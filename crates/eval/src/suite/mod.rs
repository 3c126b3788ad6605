//! Suites of cases: how they are read, checked and identified.

mod case;
mod check;
mod import;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use durable::Digest;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use case::{Case, Speaker, Tier, Turn};
pub use import::{Imported, LeftOut};

use crate::council::{AgentId, Council};
use crate::error::{Error, Result};
use crate::scoring::{Rule, Scorer};

/// An exam: named, versioned cases read from one JSON file.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Suite {
    /// The exam's name.
    pub name: String,
    /// Changes whenever a case does.
    pub version: String,
    /// The council file, relative to the suite file, that defines the agents and categories; absent for the built-in one.
    #[serde(rename = "council", default, skip_serializing_if = "Option::is_none")]
    council_file: Option<PathBuf>,
    /// The cases, in the order they are asked.
    pub cases: Vec<Case>,
    #[serde(skip)]
    council: Council,
    #[serde(skip)]
    path: PathBuf,
}

/// The file with its cases still unparsed, so that an error in a case can name it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SuiteFile {
    name: String,
    version: String,
    #[serde(default)]
    council: Option<PathBuf>,
    cases: Vec<Value>,
}

impl Suite {
    /// A suite of the built-in council, not yet [checked](Suite::check).
    pub fn new(name: impl Into<String>, version: impl Into<String>, cases: Vec<Case>) -> Suite {
        let (name, version) = (name.into(), version.into());
        let council = Council::built_in().clone();
        Suite { name, version, council_file: None, cases, council, path: PathBuf::new() }
    }

    /// A suite of cases without sample answers, from a file of another kind.
    fn imported(name: String, path: &Path, cases: Vec<Case>, council: Council) -> Suite {
        let version = "imported".to_owned();
        Suite { name, version, council_file: None, cases, council, path: path.to_path_buf() }
    }

    /// The suite with another council; `file` is where the council's file lies, relative to the suite's.
    pub fn with_council(self, file: impl Into<PathBuf>, council: Council) -> Suite {
        Suite { council_file: Some(file.into()), council, ..self }
    }

    /// The suite with another council, which its file does not name: [`Suite::save`] loses it.
    pub(crate) fn of_council(self, council: Council) -> Suite {
        Suite { council, ..self }
    }

    /// This suite's cases and then those of `other`, whose categories are added to the council.
    ///
    /// # Errors
    /// If a case of `other` has the id of one of these, or an agent that the council does not have.
    pub fn joined(mut self, other: Suite) -> Result<Suite> {
        for category in other.council.categories {
            if self.council.category(category.id.as_str()).is_none() {
                self.council.categories.push(category);
            }
        }
        for case in other.cases {
            if self.cases.iter().any(|own| own.id == case.id) {
                let problem = format!("expected every case once, found {} twice", case.id);
                return Err(self.problem(problem));
            }
            self.located(&case, check::ids(&case, &self.council))?;
            self.cases.push(case);
        }
        self.version = format!("{}+{}-{}", self.version, other.name, other.version);
        Ok(self)
    }

    /// Reads a suite and [checks](Suite::check) it.
    ///
    /// # Errors
    /// If the suite file or its council file cannot be read, or does not pass its check; the error names file, case and
    /// field.
    pub fn load(path: impl AsRef<Path>) -> Result<Suite> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path)
            .map_err(|source| Error::Read { path: path.to_path_buf(), source })?;
        let suite = Suite::parse(path, &text)?;
        suite.check()?;
        Ok(suite)
    }

    /// Parses a suite without scoring its sample answers; `path` is what errors name and what the path of a council file
    /// is relative to.
    pub fn parse(path: impl AsRef<Path>, text: &str) -> Result<Suite> {
        let path = path.as_ref().to_path_buf();
        let file: SuiteFile = serde_json::from_str(text)
            .map_err(|e| Error::Json { path: path.clone(), problem: e.to_string() })?;
        let council = match &file.council {
            Some(council) => Council::load(path.with_file_name("").join(council))?,
            None => Council::built_in().clone(),
        };
        let parsed = file.cases.into_iter().enumerate();
        let cases = parsed.map(|(i, value)| parse_case(&path, i, value)).collect::<Result<_>>()?;
        let (name, version, council_file) = (file.name, file.version, file.council);
        let suite = Suite { name, version, council_file, cases, council, path };
        for case in &suite.cases {
            suite.located(case, check::ids(case, &suite.council))?;
        }
        Ok(suite)
    }

    /// Writes the suite as a file that [`Suite::load`] reads, without fields that have their default value.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let mut file = json!(self);
        let cases = file.get_mut("cases").and_then(Value::as_array_mut);
        for case in cases.into_iter().flatten().filter_map(Value::as_object_mut) {
            if case.get("weight") == Some(&json!(1.0)) {
                case.shift_remove("weight");
            }
            let rules = case.get_mut("rules").and_then(Value::as_array_mut);
            for rule in rules.into_iter().flatten().filter_map(Value::as_object_mut) {
                if rule.get("tolerance") == Some(&json!(0.0)) {
                    rule.shift_remove("tolerance");
                }
            }
            if !case.contains_key("tags") {
                let before_samples = case.len().saturating_sub(2);
                case.shift_insert(before_samples, "tags".to_owned(), json!([]));
            }
        }
        Ok(durable::write_json(path.as_ref(), &file)?)
    }

    /// The agents and categories that the cases may name.
    pub fn council(&self) -> &Council {
        &self.council
    }

    /// Refuses a suite that could not tell a good model from a bad one: duplicate cases, agents or categories that the
    /// council does not have, empty rules, rules that any answer or no answer meets, samples with another score than
    /// theirs.
    pub fn check(&self) -> Result<()> {
        if self.cases.is_empty() {
            return Err(self.problem("expected at least one case, found none".into()));
        }
        for (field, value) in [("name", &self.name), ("version", &self.version)] {
            if value.trim().is_empty() {
                return Err(self.problem(format!("{field}: expected a text, found {value:?}")));
            }
        }
        let mut ids = HashSet::new();
        let mut prompts = HashMap::new();
        for case in &self.cases {
            let problem = |field: &str, problem: String| Err((field.to_owned(), problem));
            let twin = prompts.insert(case.prompt_digest(), &case.id);
            let unique = match twin {
                _ if !ids.insert(&case.id) => {
                    problem("id", "expected a unique id, found it twice".into())
                }
                Some(twin) => problem("turns", format!("the same question as case {twin}")),
                None => Ok(()),
            };
            self.located(case, unique)?;
            self.located(case, check::case(case, &self.council))?;
        }
        for (case, scorer) in self.cases.iter().zip(Scorer::of_suite(&self.cases, &self.council)?) {
            self.located(case, check::among_others(case, &scorer))?;
        }
        Ok(())
    }

    /// Identifies the suite's content, its council's included unless that is the built-in one.
    pub fn digest(&self) -> Digest {
        // Serializing plain structs of strings, enums and finite floats cannot fail; if it did, the empty text would
        // still differ from every suite's digest.
        let mut content = serde_json::to_vec(self).unwrap_or_default();
        if !self.council.is_built_in() {
            content.extend(serde_json::to_vec(&self.council).unwrap_or_default());
        }
        durable::digest(content)
    }

    /// A small suite for a smoke test: `per_category` cases of each category, spread over the agents, always the same
    /// ones.
    pub fn smoke(&self, per_category: usize) -> Suite {
        let mut uses: BTreeMap<&AgentId, usize> = BTreeMap::new();
        let mut chosen = vec![false; self.cases.len()];
        for category in &self.council.categories {
            for _ in 0..per_category {
                let next = self
                    .cases
                    .iter()
                    .enumerate()
                    .filter(|(i, case)| case.category == category.id && !chosen[*i])
                    .min_by_key(|(i, case)| (uses.get(&case.agent).copied().unwrap_or(0), *i));
                let Some((i, case)) = next else { break };
                chosen[i] = true;
                *uses.entry(&case.agent).or_default() += 1;
            }
        }
        let cases = self.cases.iter().zip(chosen).filter(|(_, c)| *c).map(|(case, _)| case.clone());
        Suite { name: format!("{}-smoke", self.name), cases: cases.collect(), ..self.clone() }
    }

    /// The part of the suite that carries a tag, such as the short form (`core`) of a long exam.
    pub fn tagged(&self, tag: &str) -> Result<Suite> {
        let tagged = |case: &&Case| case.tags.iter().any(|found| found == tag);
        let cases: Vec<Case> = self.cases.iter().filter(tagged).cloned().collect();
        if cases.is_empty() {
            return Err(self.problem(format!("expected a case tagged {tag:?}, found none")));
        }
        let name = format!("{}-{tag}", self.name);
        Ok(Suite { name, cases, ..self.clone() })
    }

    /// The JSON schema of a suite file, for editors.
    pub fn json_schema() -> serde_json::Value {
        schemars::schema_for!(Suite).to_value()
    }

    fn problem(&self, problem: String) -> Error {
        Error::Suite { path: self.path.clone(), problem }
    }

    /// Says in which case of which file a problem is.
    fn located(&self, case: &Case, result: Result<(), check::Problem>) -> Result<()> {
        let (path, case) = (self.path.clone(), case.id.clone());
        result.map_err(|(field, problem)| Error::Case { path, case, field, problem })
    }
}

fn parse_case(path: &Path, index: usize, value: Value) -> Result<Case> {
    let id = value.get("id").and_then(|id| id.as_str()).map(str::to_owned);
    let error = |field: String, problem: String| Error::Case {
        path: path.to_path_buf(),
        case: id.clone().unwrap_or_else(|| format!("number {} of the file", index + 1)),
        field,
        problem,
    };
    // Rules are parsed one by one first, because an error of the whole case does not say which rule it is about.
    if let Some(rules) = value.get("rules").and_then(|rules| rules.as_array()) {
        for (i, rule) in rules.iter().enumerate() {
            Rule::deserialize(rule).map_err(|e| error(format!("rules[{i}]"), e.to_string()))?;
        }
    }
    serde_json::from_value(value).map_err(|e| error("fields".into(), e.to_string()))
}
