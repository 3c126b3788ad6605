//! Everyday questions that have nothing to do with a household: the category `general`.
//!
//! They measure what fine-tuning makes a model forget. Half are asked without a system prompt, half to the agents of the
//! suite's council. The questions are in `data/general.yaml`, which documents their keys.
//!
//! ```
//! use eval::{Council, general};
//!
//! let suite = general::suite(Council::built_in(), 24)?;
//! assert_eq!(suite.cases.len(), 24);
//! suite.check()?;
//! # Ok::<(), eval::Error>(())
//! ```

use std::path::Path;

use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::Value;

use crate::council::{Agent, Council};
use crate::error::{Error, Result};
use crate::scoring::{Language, Rule};
use crate::suite::{Case, Suite, Tier};

/// The id of the category.
pub const CATEGORY: &str = "general";

const FILE: &str = "general.yaml";

/// The questions of one kind.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Kind {
    plain: Vec<Item>,
    persona: Vec<Item>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    id: String,
    ask: String,
    #[serde(default)]
    any: Vec<String>,
    #[serde(default)]
    all: Vec<String>,
    #[serde(default)]
    never: Vec<String>,
    number: Option<f64>,
    json: Option<JsonValue>,
    language: Option<Language>,
    words: Option<[usize; 2]>,
    pass: String,
    fail: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonValue {
    path: String,
    equals: Value,
}

/// The first `count` questions as a suite whose agents are those of `council`, all of them if there are fewer: kinds in
/// turn, with and without a persona in turn, so that a part has the proportions of the whole. The council of the suite has
/// the category, also if `council` does not.
///
/// # Errors
/// If the built-in file is invalid.
pub fn suite(council: &Council, count: usize) -> Result<Suite> {
    let kinds: IndexMap<String, Kind> =
        serde_saphyr::from_str(include_str!("../data/general.yaml"))
            .map_err(|e| Error::Yaml { path: Path::new(FILE).into(), problem: e.to_string() })?;
    let council = with_category(council);
    let mut agents = council.agents.iter().cycle();
    let mut groups = Vec::new();
    for (kind, Kind { plain, persona }) in kinds {
        for (items, asked) in [(plain, Asked::Plainly), (persona, Asked::AsAgent)] {
            let cases = items.into_iter().zip(agents.by_ref());
            groups.push(cases.map(|(item, agent)| case(&kind, item, agent, asked)).collect());
        }
    }
    let cases = in_turn(groups).take(count).collect();
    Ok(Suite::new(CATEGORY, env!("CARGO_PKG_VERSION"), cases).of_council(council))
}

/// How a question is asked.
#[derive(Clone, Copy)]
enum Asked {
    /// Without a system prompt.
    Plainly,
    /// With an agent's system prompt.
    AsAgent,
}

/// The council with the category, which is the built-in council's.
fn with_category(council: &Council) -> Council {
    let mut council = council.clone();
    if council.category(CATEGORY).is_none() {
        council.categories.extend(Council::built_in().category(CATEGORY).cloned());
    }
    council
}

fn case(kind: &str, item: Item, agent: &Agent, asked: Asked) -> Case {
    let mut case = Case::new(
        format!("{CATEGORY}-{}", item.id),
        CATEGORY,
        agent.id.clone(),
        // Public and frozen: it may not decide that a candidate is better.
        Tier::Gold,
        item.ask.clone(),
    );
    if let Asked::AsAgent = asked {
        case.system = agent.system_prompt();
    }
    case.tags = vec![format!("kind:{kind}")];
    case.rules = item.rules();
    (case.pass, case.fail) = (item.pass, item.fail);
    case
}

impl Item {
    fn rules(&self) -> Vec<Rule> {
        let mut rules = vec![Rule::NoRefusal {}];
        let filled = |words: &Vec<String>| (!words.is_empty()).then(|| words.clone());
        rules.extend(filled(&self.all).map(|words| Rule::ContainsAll { words }));
        rules.extend(filled(&self.any).map(|words| Rule::ContainsAny { words }));
        rules.extend(filled(&self.never).map(|words| Rule::ContainsNone { words }));
        rules.extend(self.number.map(|value| Rule::Number { value, tolerance: 0.0, unit: None }));
        rules.extend(
            self.json.as_ref().map(|json| Rule::JsonPath {
                path: json.path.clone(),
                equals: json.equals.clone(),
            }),
        );
        rules.extend(self.language.map(|is| Rule::Language { is }));
        rules.extend(
            self.words
                .map(|[min, max]| Rule::Length { min_words: Some(min), max_words: Some(max) }),
        );
        rules
    }
}

/// The first of every group, then the second of every group, and so on.
fn in_turn<T>(groups: Vec<Vec<T>>) -> impl Iterator<Item = T> {
    let mut groups: Vec<_> = groups.into_iter().map(Vec::into_iter).collect();
    let mut taken = Vec::new();
    loop {
        let before = taken.len();
        taken.extend(groups.iter_mut().filter_map(Iterator::next));
        if taken.len() == before {
            return taken.into_iter();
        }
    }
}
