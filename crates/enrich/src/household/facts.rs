//! The facts of a household.

use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::data::{filled, no_twice, unique};
use crate::{Error, Number, Result, Template, yaml};

/// What the council knows about the household: a YAML file with these keys.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Household {
    /// The name of the household.
    pub name: String,
    /// The name of the second property, if there is one.
    #[serde(default)]
    pub satellite: String,
    /// The facts, each one attribute of one thing.
    pub facts: Vec<Fact>,
    /// The topics that agents are responsible for.
    #[serde(default)]
    pub topics: Vec<Topic>,
    /// Symptoms and their causes.
    #[serde(default)]
    pub scenarios: Vec<Scenario>,
    /// The agents' tools.
    #[serde(default)]
    pub tools: Vec<Tool>,
}

/// One attribute of one thing.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
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
    /// Whether the thing is several: "receipts", not "the gateway".
    #[serde(default)]
    pub plural: bool,
    /// What an answer must say.
    pub value: String,
    /// Whether its rows come before others if not all rows are wanted.
    #[serde(default)]
    pub core: bool,
}

/// A topic and the agent responsible for it.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
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
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Scenario {
    /// Unique among the scenarios.
    pub id: String,
    /// The agent that is asked.
    pub agent: String,
    /// The cause.
    pub cause: String,
    /// What links the cause to its symptoms: a clause that may stand after "because".
    #[serde(default)]
    pub because: Option<String>,
    /// What to do first.
    pub fix: String,
    /// The symptoms that people notice.
    pub signs: Vec<String>,
    /// Whether its rows come before others if not all rows are wanted.
    #[serde(default)]
    pub core: bool,
}

/// A tool that an agent can call.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Tool {
    /// The tool's name.
    pub name: String,
    /// What it does, in a sentence.
    #[serde(default)]
    pub about: String,
    /// The agent that may call it.
    pub agent: String,
    /// Its arguments, all of them required.
    pub args: Vec<Argument>,
    /// Requests for it, with one slot per argument.
    pub asks: Vec<Template>,
    /// What it returns.
    #[serde(default)]
    pub result: Option<String>,
    /// What the agent says when it has returned, with one slot per argument; needed for rows in which it returns.
    #[serde(default)]
    pub done: Option<Template>,
    /// Whether its rows come before others if not all rows are wanted.
    #[serde(default)]
    pub core: bool,
}

/// An argument of a call.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Argument {
    /// Its name.
    pub name: String,
    /// What it is, in a sentence.
    #[serde(default)]
    pub about: String,
    /// The values it can have. Texts are all there are, unless it is open; numbers are examples.
    pub from: Vec<Choice>,
    /// Whether other texts are allowed.
    #[serde(default)]
    pub open: bool,
}

/// A value of an argument.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
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

    /// The declarations of an agent's tools.
    pub fn tools_of(&self, agent: &str) -> Vec<Value> {
        let own = self.tools.iter().filter(|tool| tool.agent == agent);
        own.map(Tool::declaration).collect()
    }

    fn check(&self, path: &Path) -> Result<()> {
        unique(path, self.facts.iter().map(|fact| fact.id.as_str()))?;
        no_twice(path, self.topics.iter().map(|topic| topic.of.as_str()))?;
        no_twice(path, self.scenarios.iter().map(|scenario| scenario.id.as_str()))?;
        no_twice(path, self.tools.iter().map(|tool| tool.name.as_str()))?;
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

impl Fact {
    /// Whether the thing is one or several.
    pub fn number(&self) -> Number {
        if self.plural { Number::Plural } else { Number::Singular }
    }
}

impl Tool {
    /// The declaration, as OpenAI declares functions: a name, a description and a JSON schema of the arguments.
    pub fn declaration(&self) -> Value {
        let properties: Map<String, Value> =
            self.args.iter().map(|arg| (arg.name.clone(), arg.schema())).collect();
        let required: Vec<&str> = self.args.iter().map(|arg| arg.name.as_str()).collect();
        json!({
            "type": "function",
            "function": {
                "name": self.name,
                "description": self.about,
                "parameters": {
                    "type": "object",
                    "properties": properties,
                    "required": required,
                },
            },
        })
    }

    /// The call as one line of JSON.
    pub fn call(&self, arguments: &Map<String, Value>) -> String {
        json!({ "name": self.name, "arguments": arguments }).to_string()
    }
}

impl Argument {
    /// The JSON schema: the type that all values have, and the texts that are allowed.
    fn schema(&self) -> Value {
        let values = || self.from.iter().map(|choice| &choice.is);
        let kind = match () {
            () if values().all(|value| value.is_i64() || value.is_u64()) => Some("integer"),
            () if values().all(Value::is_number) => Some("number"),
            () if values().all(Value::is_boolean) => Some("boolean"),
            () if values().all(Value::is_string) => Some("string"),
            () => None,
        };
        let mut schema = Map::new();
        schema.extend(kind.map(|kind| ("type".to_owned(), kind.into())));
        if !self.about.is_empty() {
            schema.insert("description".to_owned(), self.about.as_str().into());
        }
        if matches!(kind, Some("string") | None) && !self.open {
            schema.insert("enum".to_owned(), values().cloned().collect());
        }
        Value::Object(schema)
    }
}
