//! Neutral prompts: what a base model is asked so that its own answers can be trained beside a household's rows (replay).
//!
//! The built-in prompts are in `data/neutral.yaml`. A household adds its own with a file of the same form: a YAML mapping
//! from kinds to lists of prompts.

use std::collections::HashSet;
use std::path::Path;

use chat_format::{Conversation, Message};
use eval::{Agent, Council};
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::data::filled;
use crate::duplicates::Duplicates;
use crate::random::key;
use crate::{Error, Result, yaml};

/// The similarity from which a household's prompt is left out as a repetition of another. Lower than for rows: prompts are
/// short, and two that share half of their 3-grams ask the same.
const REPETITION: f64 = 0.5;

/// One prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NeutralPrompt {
    /// What it asks for, such as `explain`.
    pub kind: String,
    /// The prompt.
    pub text: String,
}

/// The value of the key `kind` of rows that a base model answered.
pub const REPLAY: &str = "replay";

/// Under which system prompts a base model answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Personas {
    /// None.
    None,
    /// None for about half of the prompts, an agent's for the others.
    #[default]
    Mixed,
    /// An agent's for every prompt.
    All,
}

impl NeutralPrompt {
    /// The agent that is asked, if any. It depends on the prompt's words only, so that cached answers stay valid when other
    /// prompts are added.
    pub fn agent<'c>(&self, personas: Personas, council: &'c Council) -> Option<&'c Agent> {
        let [coin, agent, ..] = key(0, &self.text);
        let asked = match personas {
            Personas::None => false,
            Personas::Mixed => coin % 2 == 1,
            Personas::All => true,
        };
        let agents = &council.agents;
        asked.then(|| agents.get(usize::from(agent) % agents.len().max(1))).flatten()
    }

    /// The conversation of the prompt and its answer, as a row of kind [`REPLAY`].
    pub fn answered(&self, agent: Option<&Agent>, answer: &str) -> Conversation {
        let system = agent.map(|agent| Message::system(agent.system_prompt()));
        let said = [Message::user(&self.text), Message::assistant(answer)];
        let mut row = Conversation::new(system.into_iter().chain(said).collect());
        row.meta.insert("kind".to_owned(), REPLAY.into());
        row.meta.insert("item".to_owned(), self.kind.as_str().into());
        if let Some(agent) = agent {
            row.meta.insert("agent".to_owned(), agent.id.as_str().into());
        }
        row
    }
}

/// Prompts by kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeutralPrompts(Vec<NeutralPrompt>);

impl NeutralPrompts {
    /// The prompts that are built into the crate.
    ///
    /// # Errors
    /// If the file is invalid.
    pub fn embedded() -> Result<Self> {
        let path = Path::new("neutral.yaml");
        Self::of_kinds(path, yaml::parse(path, include_str!("../data/neutral.yaml"))?)
    }

    /// Reads a file of prompts.
    ///
    /// # Errors
    /// If the file cannot be read, is not a mapping from kinds to lists of texts, or has an empty list, a blank prompt or
    /// the same prompt twice.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::of_kinds(path, yaml::load(path)?)
    }

    fn of_kinds(path: &Path, kinds: IndexMap<String, Vec<String>>) -> Result<Self> {
        filled(path, "the file".into(), kinds.len())?;
        let (mut prompts, mut seen) = (Vec::new(), HashSet::new());
        for (kind, texts) in kinds {
            filled(path, kind.clone(), texts.len())?;
            for (nth, text) in texts.into_iter().enumerate() {
                let refuse = |expected: &str, found: String| Error::Entry {
                    path: path.to_path_buf(),
                    entry: format!("{kind}[{nth}]"),
                    expected: expected.to_owned(),
                    found,
                };
                if text.trim().is_empty() {
                    return Err(refuse("a prompt", "a blank text".into()));
                }
                if !seen.insert(text.trim().to_owned()) {
                    return Err(refuse("every prompt once", format!("{:?} twice", text.trim())));
                }
                prompts.push(NeutralPrompt { kind: kind.clone(), text: text.trim().to_owned() });
            }
        }
        Ok(NeutralPrompts(prompts))
    }

    /// These prompts and those of `others` that do not repeat one of them or each other, and how many were left out.
    pub fn and(self, others: NeutralPrompts) -> (Self, usize) {
        let mut prompts = self.0;
        let before = prompts.len();
        prompts.extend(others.0);
        let rows: Vec<_> = prompts.iter().map(|it| row_of(&it.text)).collect();
        let repeated: HashSet<usize> = Duplicates { likeness: REPETITION }
            .find(&rows)
            .iter()
            .map(|found| found.row)
            .filter(|row| *row >= before)
            .collect();
        let kept = prompts.into_iter().enumerate().filter(|(i, _)| !repeated.contains(i));
        (NeutralPrompts(kept.map(|(_, prompt)| prompt).collect()), repeated.len())
    }

    /// The prompts that are not among `others`.
    pub fn without(mut self, others: &[NeutralPrompt]) -> Self {
        let others: HashSet<&str> = others.iter().map(|it| it.text.as_str()).collect();
        self.0.retain(|prompt| !others.contains(prompt.text.as_str()));
        self
    }

    /// All prompts in a seeded order: kinds in turn, so that any beginning of it has a little of everything. A prompt's
    /// place among those of its kind depends on the seed and on its words.
    pub fn in_order(&self, seed: u64) -> Vec<NeutralPrompt> {
        let mut kinds: IndexMap<&str, Vec<&NeutralPrompt>> = IndexMap::new();
        for prompt in &self.0 {
            kinds.entry(&prompt.kind).or_default().push(prompt);
        }
        for prompts in kinds.values_mut() {
            prompts.sort_by_key(|prompt| key(seed, &prompt.text));
        }
        let longest = kinds.values().map(Vec::len).max().unwrap_or(0);
        let turns = (0..longest).flat_map(|nth| kinds.values().filter_map(move |of| of.get(nth)));
        turns.map(|prompt| (*prompt).clone()).collect()
    }

    /// All prompts, in the order of their files.
    pub fn iter(&self) -> impl Iterator<Item = &NeutralPrompt> {
        self.0.iter()
    }
}

/// A prompt as the user's turn of a conversation, as the checks of rows take it.
fn row_of(prompt: &str) -> Conversation {
    Conversation::new(vec![Message::user(prompt)])
}
