//! Suites of cases: read, checked, identified.

mod check;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};

use durable::Digest;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Agent;

use crate::error::{Error, Result};
use crate::scoring::rule::Rule;

/// What a case examines.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// Stays who it is under fake authority, narrative framing, requests to disclose.
    Identity,
    /// Knows what the other agents do and sends the asker to the right one.
    CrossAgent,
    /// Draws the conclusion from logs and schedules.
    Reasoning,
    /// Knows exact thresholds, ports, addresses.
    Domain,
    /// Refuses what it must refuse, whatever the frame.
    Jailbreak,
    /// Calls the right tool with exact arguments.
    ToolCalling,
    /// Helps with harmless requests that look like attacks.
    OverRefusal,
}

impl Category {
    /// Every category, in the order tables print them.
    pub const ALL: [Category; 7] = [
        Category::Identity,
        Category::CrossAgent,
        Category::Reasoning,
        Category::Domain,
        Category::Jailbreak,
        Category::ToolCalling,
        Category::OverRefusal,
    ];

    /// The category's name in files and tables.
    pub fn name(self) -> &'static str {
        match self {
            Category::Identity => "identity",
            Category::CrossAgent => "cross_agent",
            Category::Reasoning => "reasoning",
            Category::Domain => "domain",
            Category::Jailbreak => "jailbreak",
            Category::ToolCalling => "tool_calling",
            Category::OverRefusal => "over_refusal",
        }
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Who may have seen a case.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Frozen and public; training may have drifted towards it.
    Gold,
    /// Grows over time; visible to whoever writes training data.
    Extended,
    /// Never visible to anything that writes training data: only this tier decides a promotion.
    HeldOut,
}

impl Tier {
    /// Every tier.
    pub const ALL: [Tier; 3] = [Tier::Gold, Tier::Extended, Tier::HeldOut];
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Tier::Gold => "gold",
            Tier::Extended => "extended",
            Tier::HeldOut => "held_out",
        })
    }
}

/// Who speaks in a turn of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Speaker {
    /// The person asking.
    User,
    /// What the model is taken to have said earlier.
    Assistant,
}

/// One turn of a case's conversation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Turn {
    /// Who speaks.
    pub role: Speaker,
    /// What is said.
    pub content: String,
}

/// One question of the exam and how its answer is judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Unique in the suite; runs are paired by it.
    pub id: String,
    /// What the case examines.
    pub category: Category,
    /// The agent that is asked.
    pub agent: Agent,
    /// Who may have seen the case.
    pub tier: Tier,
    /// The system prompt; none if empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub system: String,
    /// The conversation; the last turn is the user's.
    pub turns: Vec<Turn>,
    /// How an answer is judged; see [`Rule`].
    pub rules: Vec<Rule>,
    /// The case's share in every mean.
    #[serde(default = "one")]
    pub weight: f64,
    /// Free labels, such as the technique of a jailbreak.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// A sample answer that must score 1.
    pub pass: String,
    /// A sample answer that must score 0.
    pub fail: String,
}

fn one() -> f64 {
    1.0
}

impl Case {
    /// Identifies what is put to the model: the system prompt and the turns.
    pub fn prompt_digest(&self) -> Digest {
        let mut bytes = Vec::new();
        let turns = self.turns.iter().map(|turn| (turn.role as u8, turn.content.as_str()));
        for (role, text) in std::iter::once((2, self.system.as_str())).chain(turns) {
            bytes.push(role);
            // With its length in front no text can run over into the next one.
            bytes.extend((text.len() as u64).to_le_bytes());
            bytes.extend(text.as_bytes());
        }
        durable::digest(bytes)
    }
}

/// An exam: named, versioned cases read from one JSON file.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Suite {
    /// The exam's name.
    pub name: String,
    /// Changes whenever a case does.
    pub version: String,
    /// The cases, in the order they are put.
    pub cases: Vec<Case>,
    #[serde(skip)]
    path: PathBuf,
}

/// The file before its cases are looked at, so that an error in one can name it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SuiteFile {
    name: String,
    version: String,
    cases: Vec<serde_json::Value>,
}

impl Suite {
    /// Reads a suite and [checks](Suite::check) it: a suite that loads can be trusted.
    pub fn load(path: impl AsRef<Path>) -> Result<Suite> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path)
            .map_err(|source| Error::Read { path: path.to_path_buf(), source })?;
        let suite = Suite::parse(path, &text)?;
        suite.check()?;
        Ok(suite)
    }

    /// Reads a suite from text without checking it; `path` is what errors will name.
    pub fn parse(path: impl AsRef<Path>, text: &str) -> Result<Suite> {
        let path = path.as_ref().to_path_buf();
        let file: SuiteFile = serde_json::from_str(text)
            .map_err(|e| Error::Json { path: path.clone(), problem: e.to_string() })?;
        let cases = file
            .cases
            .into_iter()
            .enumerate()
            .map(|(i, value)| parse_case(&path, i, value))
            .collect::<Result<_>>()?;
        Ok(Suite { name: file.name, version: file.version, cases, path })
    }

    /// Refuses a suite that could not tell a good model from a bad one: duplicate cases, empty
    /// rules, rules that any answer or none can meet, samples that are not judged as they should.
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
            let named = |field: &str, problem: String| self.case_problem(&case.id, field, problem);
            if !ids.insert(&case.id) {
                return Err(named("id", "expected a unique id, found it twice".into()));
            }
            if let Some(twin) = prompts.insert(case.prompt_digest(), &case.id) {
                return Err(named("turns", format!("the same question as case {twin}")));
            }
            check::case(case).map_err(|(field, problem)| named(&field, problem))?;
        }
        Ok(())
    }

    /// Identifies the suite's content: two runs of suites with one digest were asked and judged
    /// alike.
    pub fn digest(&self) -> Digest {
        // Serializing plain structs of strings, enums and finite floats cannot fail; were it to,
        // an empty text would still differ from every suite's digest.
        durable::digest(serde_json::to_vec(self).unwrap_or_default())
    }

    /// A small suite for a quick look: `per_category` cases of each category, spread over the
    /// agents, always the same ones.
    pub fn smoke(&self, per_category: usize) -> Suite {
        let mut uses: BTreeMap<Agent, usize> = BTreeMap::new();
        let mut chosen = vec![false; self.cases.len()];
        for category in Category::ALL {
            for _ in 0..per_category {
                let next = self
                    .cases
                    .iter()
                    .enumerate()
                    .filter(|(i, case)| case.category == category && !chosen[*i])
                    .min_by_key(|(i, case)| (uses.get(&case.agent).copied().unwrap_or(0), *i));
                let Some((i, case)) = next else { break };
                chosen[i] = true;
                *uses.entry(case.agent).or_default() += 1;
            }
        }
        let cases = self.cases.iter().zip(chosen).filter(|(_, c)| *c).map(|(case, _)| case.clone());
        Suite {
            name: format!("{}-smoke", self.name),
            version: self.version.clone(),
            cases: cases.collect(),
            path: self.path.clone(),
        }
    }

    /// The part of the suite that carries a tag, such as the short form (`core`) of a long exam.
    pub fn tagged(&self, tag: &str) -> Result<Suite> {
        let tagged = |case: &&Case| case.tags.iter().any(|found| found == tag);
        let cases: Vec<Case> = self.cases.iter().filter(tagged).cloned().collect();
        if cases.is_empty() {
            return Err(self.problem(format!("expected a case tagged {tag:?}, found none")));
        }
        let name = format!("{}-{tag}", self.name);
        Ok(Suite { name, version: self.version.clone(), cases, path: self.path.clone() })
    }

    /// The JSON schema of a suite file, for editors.
    pub fn json_schema() -> serde_json::Value {
        schemars::schema_for!(Suite).to_value()
    }

    fn problem(&self, problem: String) -> Error {
        Error::Suite { path: self.path.clone(), problem }
    }

    fn case_problem(&self, case: &str, field: &str, problem: String) -> Error {
        let (case, field) = (case.to_owned(), field.to_owned());
        Error::Case { path: self.path.clone(), case, field, problem }
    }
}

fn parse_case(path: &Path, index: usize, value: serde_json::Value) -> Result<Case> {
    let id = value.get("id").and_then(|id| id.as_str()).map(str::to_owned);
    let error = |field: String, problem: String| Error::Case {
        path: path.to_path_buf(),
        case: id.clone().unwrap_or_else(|| format!("number {} of the file", index + 1)),
        field,
        problem,
    };
    // Rules one by one first: an error inside a case does not say which of its rules is meant.
    if let Some(rules) = value.get("rules").and_then(|rules| rules.as_array()) {
        for (i, rule) in rules.iter().enumerate() {
            Rule::deserialize(rule).map_err(|e| error(format!("rules[{i}]"), e.to_string()))?;
        }
    }
    serde_json::from_value(value).map_err(|e| error("fields".into(), e.to_string()))
}
