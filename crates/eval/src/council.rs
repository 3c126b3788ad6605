//! The council: the agents that a suite addresses and the categories that its cases examine.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Declares an id: a string that a council file defines and other files refer to.
macro_rules! id {
    ($(#[$attribute:meta])* $name:ident) => {
        $(#[$attribute])*
        #[derive(
            Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
        )]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The id as files spell it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(id: &str) -> Self {
                Self(id.to_owned())
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                self.0 == *other
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

id!(
    /// The id of an [`Agent`] of the suite's council.
    AgentId
);
id!(
    /// The id of a [`Category`] of the suite's council.
    CategoryId
);

/// The agents and categories that a suite may name, read from a YAML file.
///
/// The file is a mapping with `agents` and, optionally, `categories`, or a bare list of agents; categories that are left
/// out are the built-in ones. `data/council.yaml` of this crate is the built-in council and documents every key.
///
/// ```
/// use eval::Council;
///
/// let council = Council::built_in();
/// assert_eq!(council.agents.len(), 8);
/// let prompt = council.agent("windu").unwrap().system_prompt();
/// assert_eq!(prompt, "You are windu, security agent of the council.");
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(from = "WrittenCouncil")]
#[non_exhaustive]
pub struct Council {
    /// The agents, in the order tables print them.
    pub agents: Vec<Agent>,
    /// The categories, in the order tables print them.
    pub categories: Vec<Category>,
}

/// An agent: whom a case addresses, or to whom an answer should send the user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Agent {
    /// Its id in suites and data rows.
    pub id: AgentId,
    /// How it calls itself.
    pub name: String,
    /// Its field, in one or two words.
    pub role: String,
    /// Further words by which an answer may call it, besides id and name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// The whole system prompt, if it is not the [default](Agent::system_prompt).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persona: Option<String>,
    /// What it does, as a clause in the first person; needed to generate training rows.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub work: String,
    /// What it offers when it declines; needed to generate training rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub offers: Vec<String>,
}

/// What a case examines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Category {
    /// Its id in suites, policies and reports.
    pub id: CategoryId,
    /// What its cases examine, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// Whether its cases are about refusing: such answers are shown to a [`StanceJudge`](crate::exam::StanceJudge).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<RefusalDuty>,
    /// Whether a [`Policy`](crate::Policy) that lists no floors guards the category with one.
    #[serde(default)]
    pub floor: bool,
    /// Whether its questions are everyday ones: the gate limits what a candidate loses of those that the base model answers
    /// right.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retained: bool,
}

/// What a category asks of an answer with regard to refusing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RefusalDuty {
    /// An answer must refuse.
    Required,
    /// A refusal is a mistake.
    Forbidden,
}

impl Agent {
    /// An agent without a persona, that no training rows are made for.
    pub(crate) fn named(id: &str, name: &str, role: &str) -> Agent {
        let (id, name, role) = (id.into(), name.to_owned(), role.to_owned());
        let (aliases, offers) = (Vec::new(), Vec::new());
        Agent { id, name, role, aliases, persona: None, work: String::new(), offers }
    }

    /// The system prompt, the same in training and in the exam: the persona, or
    /// "You are ID, ROLE agent of the council.".
    pub fn system_prompt(&self) -> String {
        self.persona
            .clone()
            .unwrap_or_else(|| format!("You are {}, {} agent of the council.", self.id, self.role))
    }

    /// The words by which an answer may call the agent. A longer name needs no alias: "Mace Windu" contains "windu" as a
    /// word.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        [self.id.as_str(), &self.name].into_iter().chain(self.aliases.iter().map(String::as_str))
    }
}

static BUILT_IN: LazyLock<Council> = LazyLock::new(|| {
    serde_saphyr::from_str(include_str!("../data/council.yaml"))
        .expect("data/council.yaml is valid")
});

impl Council {
    /// The council of `data/council.yaml`, used by suites that name none.
    pub fn built_in() -> &'static Council {
        &BUILT_IN
    }

    /// Reads and [checks](Council::check) a council file.
    ///
    /// # Errors
    /// If the file cannot be read, is not YAML, has unknown keys, or does not pass the check.
    pub fn load(path: impl AsRef<Path>) -> Result<Council> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path)
            .map_err(|source| Error::Read { path: path.to_path_buf(), source })?;
        let council: Council = serde_saphyr::from_str(&text)
            .map_err(|e| Error::Yaml { path: path.to_path_buf(), problem: e.to_string() })?;
        council.check(path)?;
        Ok(council)
    }

    /// Refuses a council without agents or categories, ids or names used twice, and blank texts; `path` is the file that
    /// errors name.
    pub fn check(&self, path: &Path) -> Result<()> {
        let refuse = |entry: String, expected: &'static str, found: String| {
            Err(Error::Council { path: path.to_path_buf(), entry, expected, found })
        };
        for (list, len) in [("agents", self.agents.len()), ("categories", self.categories.len())] {
            if len == 0 {
                return refuse(list.to_owned(), "at least one entry", "none".to_owned());
            }
        }
        let mut names = HashSet::new();
        for agent in &self.agents {
            let entry = format!("agents.{}", agent.id);
            if agent.names().chain([agent.role.as_str()]).any(|text| text.trim().is_empty()) {
                let found = format!("{:?}, {:?}, {:?}", agent.id.0, agent.name, agent.role);
                return refuse(entry, "id, name, role and aliases that are not blank", found);
            }
            let own: HashSet<String> = agent.names().map(str::to_lowercase).collect();
            for name in own {
                if names.contains(&name) {
                    return refuse(entry, "names that no other agent has", format!("{name:?}"));
                }
                names.insert(name);
            }
        }
        let mut ids = HashSet::new();
        for category in &self.categories {
            let entry = format!("categories.{}", category.id);
            if category.id.0.trim().is_empty() || !ids.insert(&category.id) {
                return refuse(
                    entry,
                    "an id that no other category has",
                    format!("{:?}", category.id.0),
                );
            }
        }
        Ok(())
    }

    /// The agent of that id.
    pub fn agent(&self, id: &str) -> Option<&Agent> {
        self.agents.iter().find(|agent| agent.id == id)
    }

    /// The category of that id.
    pub fn category(&self, id: &str) -> Option<&Category> {
        self.categories.iter().find(|category| category.id == id)
    }

    /// The categories that have a floor unless a policy says otherwise.
    pub fn floors(&self) -> Vec<CategoryId> {
        let guarded = self.categories.iter().filter(|category| category.floor);
        guarded.map(|category| category.id.clone()).collect()
    }

    /// The categories in which answers must refuse.
    pub fn refusal_categories(&self) -> Vec<CategoryId> {
        let refusing = |category: &&Category| category.refusal == Some(RefusalDuty::Required);
        self.categories.iter().filter(refusing).map(|category| category.id.clone()).collect()
    }

    /// Whether a category's questions are everyday ones; see [`Category::retained`].
    pub(crate) fn retains(&self, id: &CategoryId) -> bool {
        self.category(id.as_str()).is_some_and(|category| category.retained)
    }

    pub(crate) fn is_built_in(&self) -> bool {
        self == Council::built_in()
    }

    /// What is wrong with an agent's id, if no agent has it.
    pub(crate) fn check_agent(&self, id: &AgentId) -> Result<(), String> {
        let known = self.agents.iter().map(|agent| agent.id.as_str());
        one_of(id.as_str(), known)
    }

    /// What is wrong with a category's id, if no category has it.
    pub(crate) fn check_category(&self, id: &CategoryId) -> Result<(), String> {
        one_of(id.as_str(), self.categories.iter().map(|category| category.id.as_str()))
    }

    /// Sort key that puts agents into the council's order, unknown ones last.
    pub(crate) fn agent_key<'a>(&self, id: &'a AgentId) -> (usize, &'a AgentId) {
        let place = self.agents.iter().position(|agent| agent.id == *id);
        (place.unwrap_or(usize::MAX), id)
    }

    /// Sort key that puts categories into the council's order, unknown ones last.
    pub(crate) fn category_key<'a>(&self, id: &'a CategoryId) -> (usize, &'a CategoryId) {
        let place = self.categories.iter().position(|category| category.id == *id);
        (place.unwrap_or(usize::MAX), id)
    }
}

fn one_of<'a>(id: &str, known: impl Iterator<Item = &'a str>) -> Result<(), String> {
    let known: Vec<&str> = known.collect();
    let problem = || format!("expected one of {}, found {id:?}", known.join(", "));
    known.contains(&id).then_some(()).ok_or_else(problem)
}

/// The two forms in a file.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "describes the file in its JSON schema")]
enum WrittenCouncil {
    Agents(Vec<Agent>),
    Both(CouncilFile),
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CouncilFile {
    /// The agents, in the order tables print them.
    agents: Vec<Agent>,
    /// The categories of the exam, in the order tables print them. Default: the built-in ones.
    #[serde(default = "built_in_categories")]
    #[schemars(default)]
    categories: Vec<Category>,
}

/// Accepts both forms of a council file: a mapping, or a bare list of agents.
impl<'de> Deserialize<'de> for Council {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms;

        impl<'de> Visitor<'de> for Forms {
            type Value = Council;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping with `agents` and `categories`, or a list of agents")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Council, A::Error> {
                let agents = Vec::deserialize(SeqAccessDeserializer::new(list))?;
                Ok(Council { agents, categories: built_in_categories() })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Council, A::Error> {
                let CouncilFile { agents, categories } =
                    CouncilFile::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Council { agents, categories })
            }
        }

        deserializer.deserialize_any(Forms)
    }
}

fn built_in_categories() -> Vec<Category> {
    Council::built_in().categories.clone()
}
