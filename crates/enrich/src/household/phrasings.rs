//! Phrasings of questions and answers about a household.

use std::collections::BTreeMap;
use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::data::filled;
use crate::{Error, GeneratorFiles, Household, Result, Template, yaml};

const NAME: &str = "phrasings.yaml";

/// Phrasings of questions and answers: a YAML file with the keys of `data/phrasings.yaml`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Phrasings {
    /// For facts, by kind.
    facts: BTreeMap<String, FactPhrasings>,
    pub(super) topics: TopicPhrasings,
    pub(super) scenarios: ScenarioPhrasings,
}

/// For facts of one kind, with the slots `of` and `value`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FactPhrasings {
    /// Questions.
    pub asks: Vec<Template>,
    /// Answers; the first is the shortest.
    pub answers: Vec<Template>,
}

/// For the agent responsible for a topic, with the slots `topic`, `agent` and `role`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TopicPhrasings {
    /// Questions about who is responsible.
    pub asks: Vec<Template>,
    /// Their answers.
    pub answers: Vec<Template>,
    /// Requests for help with the topic.
    pub requests: Vec<Template>,
    /// Answers of the responsible agent.
    pub accepted: Vec<Template>,
    /// Answers of another agent.
    pub passed_on: Vec<Template>,
}

/// For scenarios, with the slots `cause`, `because` and `fix`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ScenarioPhrasings {
    /// Questions that follow the symptom.
    pub asks: Vec<String>,
    /// Answers about scenarios without `because`.
    pub brief: Vec<Template>,
    /// Answers.
    pub answers: Vec<Template>,
}

impl Phrasings {
    /// The phrasings of a household: those of its file, or the built-in ones.
    ///
    /// # Errors
    /// If the file cannot be read or is invalid.
    pub fn of(files: &GeneratorFiles) -> Result<Phrasings> {
        files.phrasings.as_ref().map_or_else(Phrasings::embedded, Phrasings::load)
    }

    /// The number of kinds of facts.
    pub(crate) fn len(&self) -> usize {
        self.facts.len()
    }

    /// The built-in phrasings.
    pub fn embedded() -> Result<Phrasings> {
        Phrasings::parse(Path::new(NAME), include_str!("../../data/phrasings.yaml"))
    }

    /// Reads and checks a file of phrasings.
    pub fn load(path: impl AsRef<Path>) -> Result<Phrasings> {
        let path = path.as_ref();
        let phrasings: Phrasings = yaml::load(path)?;
        phrasings.check(path)?;
        Ok(phrasings)
    }

    fn parse(path: &Path, text: &str) -> Result<Phrasings> {
        let phrasings: Phrasings = yaml::parse(path, text)?;
        phrasings.check(path)?;
        Ok(phrasings)
    }

    fn check(&self, path: &Path) -> Result<()> {
        for (kind, phrasings) in &self.facts {
            filled(path, format!("facts.{kind}.asks"), phrasings.asks.len())?;
            filled(path, format!("facts.{kind}.answers"), phrasings.answers.len())?;
        }
        let topics = &self.topics;
        for (name, list) in [
            ("asks", &topics.asks),
            ("answers", &topics.answers),
            ("requests", &topics.requests),
            ("accepted", &topics.accepted),
            ("passed_on", &topics.passed_on),
        ] {
            filled(path, format!("topics.{name}"), list.len())?;
        }
        filled(path, "scenarios.asks".into(), self.scenarios.asks.len())?;
        filled(path, "scenarios.brief".into(), self.scenarios.brief.len())?;
        filled(path, "scenarios.answers".into(), self.scenarios.answers.len())
    }

    /// The phrasings of a kind of fact.
    pub(super) fn of_kind(&self, house: &Household, kind: &str) -> Result<&FactPhrasings> {
        self.facts.get(kind).ok_or_else(|| {
            let known: Vec<_> = self.facts.keys().map(String::as_str).collect();
            Error::Entry {
                path: format!("facts of {}", house.name).into(),
                entry: "kind".into(),
                expected: format!("one of {}", known.join(", ")),
                found: kind.to_owned(),
            }
        })
    }
}
