//! The facts of a household.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::data::{filled, unique};
use crate::{Error, Result, Template, yaml};

/// What the council knows about the household: a YAML file with these keys.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Household {
    /// The name of the household.
    pub name: String,
    /// The name of the second property.
    pub satellite: String,
    /// The facts, each one attribute of one thing.
    pub facts: Vec<Fact>,
    /// The topics that agents are responsible for.
    pub topics: Vec<Topic>,
    /// Symptoms and their causes.
    pub scenarios: Vec<Scenario>,
    /// The agents' tools.
    pub tools: Vec<Tool>,
}

/// One attribute of one thing.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Fact {
    /// Unique among the facts.
    pub id: String,
    /// The agent that knows it.
    pub agent: String,
    /// The attribute, which selects the phrasings.
    pub kind: String,
    /// The thing, as used in a sentence.
    pub of: String,
    /// What an answer must say.
    pub value: String,
    /// Whether its rows come before others if not all rows are wanted.
    #[serde(default)]
    pub core: bool,
}

/// A topic and the agent responsible for it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Topic {
    /// The agent.
    pub agent: String,
    /// The topic, as used in a sentence.
    pub of: String,
    /// Whether its rows come before others if not all rows are wanted.
    #[serde(default)]
    pub core: bool,
}

/// Symptoms with one cause.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Scenario {
    /// Unique among the scenarios.
    pub id: String,
    /// The agent that is asked.
    pub agent: String,
    /// The cause.
    pub cause: String,
    /// What to do first.
    pub fix: String,
    /// The symptoms that people notice.
    pub signs: Vec<String>,
    /// Whether its rows come before others if not all rows are wanted.
    #[serde(default)]
    pub core: bool,
}

/// A tool that an agent can call.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Tool {
    /// The tool's name.
    pub name: String,
    /// The agent that may call it.
    pub agent: String,
    /// Its arguments, all of them required.
    pub args: Vec<Argument>,
    /// Requests for it, with one slot per argument.
    pub asks: Vec<Template>,
    /// Whether its rows come before others if not all rows are wanted.
    #[serde(default)]
    pub core: bool,
}

/// An argument of a call.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Argument {
    /// Its name.
    pub name: String,
    /// The values it can have.
    pub from: Vec<Choice>,
}

/// A value of an argument.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Choice {
    /// How people say it.
    pub say: String,
    /// The exact identifier or number.
    pub is: Value,
}

impl Household {
    /// Reads and checks a facts file.
    pub fn load(path: impl AsRef<Path>) -> Result<Household> {
        let path = path.as_ref();
        let house: Household = yaml::load(path)?;
        house.check(path)?;
        Ok(house)
    }

    /// The fact of that id.
    pub fn fact(&self, id: &str) -> Option<&Fact> {
        self.facts.iter().find(|fact| fact.id == id)
    }

    /// The scenario of that id.
    pub fn scenario(&self, id: &str) -> Option<&Scenario> {
        self.scenarios.iter().find(|scenario| scenario.id == id)
    }

    /// The tool of that name.
    pub fn tool(&self, name: &str) -> Option<&Tool> {
        self.tools.iter().find(|tool| tool.name == name)
    }

    fn check(&self, path: &Path) -> Result<()> {
        unique(path, self.facts.iter().map(|fact| fact.id.as_str()))?;
        unique(path, self.topics.iter().map(|topic| topic.of.as_str()))?;
        unique(path, self.scenarios.iter().map(|scenario| scenario.id.as_str()))?;
        unique(path, self.tools.iter().map(|tool| tool.name.as_str()))?;
        for scenario in &self.scenarios {
            filled(path, format!("scenarios.{}.signs", scenario.id), scenario.signs.len())?;
        }
        for tool in &self.tools {
            filled(path, format!("tools.{}.asks", tool.name), tool.asks.len())?;
            for arg in &tool.args {
                filled(path, format!("tools.{}.{}.from", tool.name, arg.name), arg.from.len())?;
            }
        }
        // With two values for one attribute of one thing, no answer would be right.
        let mut seen = std::collections::HashSet::new();
        for fact in &self.facts {
            if !seen.insert((&fact.kind, &fact.of)) {
                return Err(Error::Entry {
                    path: path.to_path_buf(),
                    entry: format!("facts.{}", fact.id),
                    expected: "one fact of a kind for one thing".into(),
                    found: format!("a second {} of {}", fact.kind, fact.of),
                });
            }
        }
        Ok(())
    }
}

impl Tool {
    /// The call as one line of JSON.
    pub fn call(&self, arguments: &Map<String, Value>) -> String {
        serde_json::json!({ "name": self.name, "arguments": arguments }).to_string()
    }
}
