//! Splits rows into training, validation and test sets that share no technique, topic, phrasing or near-twin.

use std::collections::HashMap;
use std::fmt;

use chat_format::{Conversation, Role};
use rand::seq::SliceRandom;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::GeneratorData;
use crate::clusters::Clusters;
use crate::minhash::RowGrams;
use crate::random::rng;

/// The likeness (Jaccard of word 3-grams, without system turns) from which two rows are in the same split. Lower than for
/// duplicates: rows that share half of their 3-grams, about four fifths of their words, still give each other's answer away.
const TWINS: f64 = 0.5;

/// The part of a data set that a row belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Training.
    Train,
    /// Validation during training.
    Valid,
    /// Test after training.
    Test,
}

impl Split {
    /// Every split.
    pub const ALL: [Split; 3] = [Split::Train, Split::Valid, Split::Test];

    /// The split's name; its file is `NAME.jsonl`.
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Valid => "valid",
            Split::Test => "test",
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The shares of the validation and test splits; the rest is for training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Shares {
    /// The share for validation. Default 0.05.
    pub valid: f64,
    /// The share for testing. Default 0.05.
    pub test: f64,
}

impl Default for Shares {
    fn default() -> Self {
        Shares { valid: 0.05, test: 0.05 }
    }
}

impl Shares {
    /// How many of `rows` rows validation and test should have.
    pub(crate) fn expected(&self, rows: usize) -> [(Split, usize); 2] {
        let quota = |share: f64| (share * rows as f64).round() as usize;
        [(Split::Valid, quota(self.valid)), (Split::Test, quota(self.test))]
    }
}

/// The split of each technique and topic. Rows with a technique or topic are generated within one split, so that
/// validation rows share neither frames nor requests with training rows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Partition {
    shares: Shares,
    seed: u64,
    techniques: HashMap<String, Split>,
    topics: HashMap<String, Split>,
}

impl Partition {
    /// Assigns techniques, harmful topics and benign requests to the splits.
    pub fn new(data: &GeneratorData, shares: Shares, seed: u64) -> Partition {
        let techniques = data.techniques.iter().map(|technique| technique.id.clone());
        let harmful = data.harmful.iter().map(|harm| harm.topic.clone());
        let benign = (0..data.benign.len()).map(benign_topic);
        let mut topics = deal(harmful.collect(), shares, seed, "topics");
        topics.extend(deal(benign.collect(), shares, seed, "benign topics"));
        let techniques = deal(techniques.collect(), shares, seed, "techniques");
        Partition { shares, seed, techniques, topics }
    }

    /// The split of a technique; training for an unknown one.
    pub fn of_technique(&self, id: &str) -> Split {
        self.techniques.get(id).copied().unwrap_or(Split::Train)
    }

    /// The split of a topic; training for an unknown one.
    pub fn of_topic(&self, topic: &str) -> Split {
        self.topics.get(topic).copied().unwrap_or(Split::Train)
    }

    /// The split of each row. Rows are dealt in groups: rows of a phrasing or, without one, of a first question, and rows
    /// connected by a likeness of at least [`TWINS`]. A group with rows of a technique or topic goes where those are;
    /// `generated` is the number of the first generated row, before which topics are the user's own words and mean nothing.
    pub fn assign(&self, rows: &[Conversation], generated: usize) -> Vec<Split> {
        let (fixed, groups) = self.groups(rows, generated);
        let mut splits = vec![Split::Train; rows.len()];
        let [(_, mut valid), (_, mut test)] = self.shares.expected(rows.len());
        let mut free = Vec::new();
        for group in groups {
            let Some(split) = group.iter().filter_map(|row| fixed[*row]).min() else {
                free.push(group);
                continue;
            };
            match split {
                Split::Train => {}
                Split::Valid => valid = valid.saturating_sub(group.len()),
                Split::Test => test = test.saturating_sub(group.len()),
            }
            group.into_iter().for_each(|row| splits[row] = split);
        }
        free.shuffle(&mut rng(self.seed, "groups"));
        for group in free {
            let split = if group.len() <= test {
                test -= group.len();
                Split::Test
            } else if group.len() <= valid {
                valid -= group.len();
                Split::Valid
            } else {
                Split::Train
            };
            group.into_iter().for_each(|row| splits[row] = split);
        }
        splits
    }

    /// The split of each row that has a technique or topic, and the groups of rows that stay together, by their lowest row.
    fn groups(
        &self,
        rows: &[Conversation],
        generated: usize,
    ) -> (Vec<Option<Split>>, Vec<Vec<usize>>) {
        let mut clusters = Clusters::new(rows.len());
        let mut first: HashMap<(bool, &str), usize> = HashMap::new();
        let mut fixed = Vec::with_capacity(rows.len());
        for (i, row) in rows.iter().enumerate() {
            let meta = |key: &str| row.meta.get(key).and_then(|value| value.as_str());
            let technique = meta("technique").and_then(|id| self.techniques.get(id));
            let topic = meta("topic").filter(|_| i >= generated);
            let split = technique.or_else(|| topic.and_then(|topic| self.topics.get(topic)));
            fixed.push(split.copied());
            if split.is_none() {
                let phrasing = meta("phrasing").map(|phrasing| (true, phrasing));
                let key = phrasing.unwrap_or_else(|| (false, first_question(row)));
                clusters.join(*first.entry(key).or_insert(i), i);
            }
        }
        clusters.join_similar(&RowGrams::of(rows), TWINS);
        (fixed, clusters.groups())
    }
}

/// The groups of rows connected by pairs of a likeness of at least 0.5 (Jaccard of word 3-grams, without system turns),
/// which [`Dataset::build`](crate::Dataset::build) keeps in one split. Groups and their rows are ascending.
pub fn near_twins(rows: &[Conversation]) -> Vec<Vec<usize>> {
    let mut clusters = Clusters::new(rows.len());
    clusters.join_similar(&RowGrams::of(rows), TWINS);
    clusters.groups()
}

/// The name of a benign request as a topic.
pub(crate) fn benign_topic(nth: usize) -> String {
    format!("benign-{nth:02}")
}

fn deal(mut names: Vec<String>, shares: Shares, seed: u64, label: &str) -> HashMap<String, Split> {
    names.shuffle(&mut rng(seed, label));
    let share = |share: f64| match (share * names.len() as f64).round() as usize {
        // A share above 0 gets at least one, or the split would have no unseen technique.
        0 if share > 0.0 => 1,
        count => count,
    };
    // Training keeps at least one.
    let spare = names.len().saturating_sub(1);
    let valid = share(shares.valid).min(spare);
    let test = share(shares.test).min(spare - valid);
    let split = |(i, name)| {
        let split = match i {
            i if i < valid => Split::Valid,
            i if i < valid + test => Split::Test,
            _ => Split::Train,
        };
        (name, split)
    };
    names.into_iter().enumerate().map(split).collect()
}

fn first_question(row: &Conversation) -> &str {
    let asked = row.messages.iter().find(|message| message.role == Role::User);
    asked.map_or("", |message| message.content.as_str())
}
