//! Which rows train, which validate and which test, so that what is tested was not trained.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use chat_format::{Conversation, Role};
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::Council;
use crate::random::rng;

/// The part of a data set that a row belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Learnt from.
    Train,
    /// Watched while learning.
    Valid,
    /// Looked at afterwards.
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

/// The shares of validation and test; the rest trains.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Shares {
    /// Default 0.05.
    pub valid: f64,
    /// Default 0.05.
    pub test: f64,
}

impl Default for Shares {
    fn default() -> Self {
        Shares { valid: 0.05, test: 0.05 }
    }
}

/// Where each technique and each topic of a request lives. Rows with a technique or topic are made inside one
/// split, so that a validation row shows neither a frame nor a request that training knows.
#[derive(Clone, Debug, PartialEq)]
pub struct Partition {
    shares: Shares,
    seed: u64,
    techniques: HashMap<String, Split>,
    topics: HashMap<String, Split>,
}

impl Partition {
    /// Deals the council's techniques, harmful topics and benign requests out to the splits.
    pub fn new(council: &Council, shares: Shares, seed: u64) -> Partition {
        let techniques = council.techniques.iter().map(|technique| technique.id.clone());
        let harmful = council.harmful.iter().map(|harm| harm.topic.clone());
        let benign = (0..council.benign.len()).map(benign_topic);
        let mut topics = deal(harmful.collect(), shares, seed, "topics");
        topics.extend(deal(benign.collect(), shares, seed, "benign topics"));
        let techniques = deal(techniques.collect(), shares, seed, "techniques");
        Partition { shares, seed, techniques, topics }
    }

    /// The split of a technique; unknown ones train.
    pub fn of_technique(&self, id: &str) -> Split {
        self.techniques.get(id).copied().unwrap_or(Split::Train)
    }

    /// The split of a topic; unknown ones train.
    pub fn of_topic(&self, topic: &str) -> Split {
        self.topics.get(topic).copied().unwrap_or(Split::Train)
    }

    /// Says for each row where it goes: by its technique, else its topic, else together with all rows of its phrasing
    /// or, without one, of its first question.
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

/// The topic under which a benign request is dealt out.
pub(crate) fn benign_topic(nth: usize) -> String {
    format!("benign-{nth:02}")
}

fn deal(mut names: Vec<String>, shares: Shares, seed: u64, label: &str) -> HashMap<String, Split> {
    names.shuffle(&mut rng(seed, label));
    let share = |share: f64| match (share * names.len() as f64).round() as usize {
        // A share of something is never nothing, or there would be no unseen technique at all.
        0 if share > 0.0 => 1,
        count => count,
    };
    // But training keeps at least one.
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
