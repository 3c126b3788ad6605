//! Splits rows into training, validation and test sets that share no technique, topic or phrasing.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use chat_format::{Conversation, Role};
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::GeneratorData;
use crate::random::rng;

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
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
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

    /// The split of each row: that of its technique, else of its topic, else one split for all rows with its phrasing or,
    /// without one, its first question.
    pub fn assign(&self, rows: &[Conversation]) -> Vec<Split> {
        let mut splits = vec![Split::Train; rows.len()];
        let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        let (mut valid, mut test) = (quota(self.shares.valid, rows), quota(self.shares.test, rows));
        for (i, row) in rows.iter().enumerate() {
            let meta = |key: &str| row.meta.get(key).and_then(|value| value.as_str());
            splits[i] = match (meta("technique"), meta("topic"), meta("phrasing")) {
                (Some(technique), _, _) => self.of_technique(technique),
                (_, Some(topic), _) => self.of_topic(topic),
                (_, _, Some(phrasing)) => {
                    groups.entry(phrasing.to_owned()).or_default().push(i);
                    continue;
                }
                _ => {
                    groups.entry(format!("ask {}", first_question(row))).or_default().push(i);
                    continue;
                }
            };
            match splits[i] {
                Split::Train => {}
                Split::Valid => valid = valid.saturating_sub(1),
                Split::Test => test = test.saturating_sub(1),
            }
        }
        let mut groups: Vec<_> = groups.into_values().collect();
        groups.shuffle(&mut rng(self.seed, "groups"));
        for group in groups {
            let split = if group.len() <= test {
                test -= group.len();
                Split::Test
            } else if group.len() <= valid {
                valid -= group.len();
                Split::Valid
            } else {
                Split::Train
            };
            for i in group {
                splits[i] = split;
            }
        }
        splits
    }
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

fn quota(share: f64, rows: &[Conversation]) -> usize {
    (share * rows.len() as f64).round() as usize
}

fn first_question(row: &Conversation) -> &str {
    let asked = row.messages.iter().find(|message| message.role == Role::User);
    asked.map_or("", |message| message.content.as_str())
}
