//! What a machine was found not to have: memory limits for training, each lower than one that was
//! too high.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use lora_train::memory::physical_memory;
use lora_train::metrics::Metrics;
use lora_train::{Bytes, TrainConfig};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, io_error};
use crate::files::read_if_there;
use crate::home::Home;
use crate::journal::{Entry, Journal};
use crate::report::words;
use crate::stage::StageName;

/// A plan that ran out of memory is followed by one that may take this much of what it took.
const NEXT: (u64, u64) = (3, 4);
/// A process that had this share of the machine's memory when it died without a word was most
/// probably killed for it.
const FATAL: (u64, u64) = (9, 10);

/// The memory limit of a home, once training has run out of memory in it. It stays until somebody
/// removes `memory.json`: what a machine did not have last night it does not have tonight.
#[derive(Debug)]
pub(crate) struct Ladder {
    path: PathBuf,
    rung: Option<Rung>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rung {
    memory_limit: Bytes,
    because: String,
    at: Timestamp,
}

impl Ladder {
    /// The ladder of a home.
    pub fn open(home: &Home) -> Result<Self> {
        let path = home.path().join("memory.json");
        let refuse = |e: serde_json::Error| Error::Record {
            path: path.clone(),
            line: None,
            expected: "a memory limit (remove the file to try the fastest plan again)",
            found: e.to_string(),
        };
        let rung = read_if_there(&path)?.map(|bytes| serde_json::from_slice(&bytes)).transpose();
        Ok(Self { rung: rung.map_err(refuse)?, path })
    }

    /// The recipe, within the limit. How much memory a plan takes changes its speed, and nothing
    /// that it computes.
    pub fn within(&self, recipe: &TrainConfig) -> TrainConfig {
        let mut recipe = recipe.clone();
        if let Some(Rung { memory_limit: found, .. }) = self.rung {
            let limit = &mut recipe.nightshift.memory_limit;
            *limit = Some(limit.map_or(found, |stated| stated.min(found)));
        }
        recipe
    }

    /// Takes down that training in `dir` ran out of memory.
    pub fn step_down(&mut self, dir: &Path, recipe: &TrainConfig, because: String) -> Result<()> {
        let planned = planned(dir).or(recipe.nightshift.memory_limit.map(|limit| limit.0));
        let taken = planned.or_else(physical_memory).unwrap_or(u64::MAX);
        let memory_limit = Bytes(taken / NEXT.1 * NEXT.0);
        tracing::warn!(memory_limit = memory_limit.0, because, "the next plan needs less memory");
        let rung = Rung { memory_limit, because, at: Timestamp::now() };
        durable::write_json(&self.path, &rung)?;
        self.rung = Some(rung);
        Ok(())
    }

    /// Steps down if the last process of this night died in training with the machine's memory
    /// full. Whoever stops in good order says so in the journal, and is never blamed.
    pub fn blame_death(
        &mut self,
        journal: &Journal,
        dir: &Path,
        recipe: &TrainConfig,
    ) -> Result<()> {
        let died = matches!(
            journal.entries().last(),
            Some(Entry::StageBegun { stage: StageName::Train, .. })
        );
        let (Some(all), true) = (physical_memory(), died) else { return Ok(()) };
        let metrics = Metrics::read(dir.join("metrics.jsonl")).unwrap_or_default();
        let last = metrics.updates().next_back();
        let used = last.map(|update| update.rss_bytes.max(update.peak_memory_bytes));
        match used {
            Some(used) if used >= all / FATAL.1 * FATAL.0 => {
                let because = format!(
                    "the process died with {} of {}",
                    words::bytes(used),
                    words::bytes(all)
                );
                self.step_down(dir, recipe, because)
            }
            _ => Ok(()),
        }
    }

    /// Whether an error says that no plan is within the limit found here. The limit is then
    /// forgotten: it would refuse every night to come.
    pub fn is_too_short(&mut self, error: &Error) -> Result<bool> {
        let refused = matches!(
            error,
            Error::Train(lora_train::Error::Setting { key, .. }) if key == "nightshift.memory_limit"
        );
        if !refused || self.rung.is_none() {
            return Ok(false);
        }
        self.rung = None;
        fs::remove_file(&self.path).map_err(io_error(&self.path, "remove"))?;
        Ok(true)
    }
}

/// What the plan of the run in `dir` was expected to take.
fn planned(dir: &Path) -> Option<u64> {
    let metrics = Metrics::read(dir.join("metrics.jsonl")).ok()?;
    metrics.plan().map(|work| work.estimated_memory_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place {
        dir: tempfile::TempDir,
        home: Home,
    }

    fn place() -> Place {
        let dir = tempfile::tempdir().unwrap();
        Place { home: Home::open(dir.path().join("home")).unwrap(), dir }
    }

    fn limit(ladder: &Ladder) -> Option<u64> {
        ladder.within(&TrainConfig::default()).nightshift.memory_limit.map(|limit| limit.0)
    }

    #[test]
    fn each_rung_is_lower_and_is_remembered() {
        let place = place();
        let mut ladder = Ladder::open(&place.home).unwrap();
        assert_eq!(limit(&ladder), None);
        let mut recipe = TrainConfig::default();
        recipe.nightshift.memory_limit = Some(Bytes(800));
        for expected in [600, 450] {
            ladder.step_down(place.dir.path(), &recipe, "full".into()).unwrap();
            assert_eq!(limit(&Ladder::open(&place.home).unwrap()), Some(expected));
            recipe = ladder.within(&recipe);
        }
        // A stated limit that is lower still counts.
        recipe.nightshift.memory_limit = Some(Bytes(100));
        assert_eq!(ladder.within(&recipe).nightshift.memory_limit, Some(Bytes(100)));
    }

    #[test]
    fn only_a_death_with_full_memory_is_blamed_on_it() {
        let died = |stage| Entry::StageBegun { stage, key: durable::digest("") };
        let stopped = Entry::StageFailed { stage: StageName::Train, message: "time".into() };
        let full = physical_memory().unwrap();
        for (what, entries, used, blamed) in [
            ("killed when full", vec![died(StageName::Train)], full, true),
            ("killed with room", vec![died(StageName::Train)], full / 2, false),
            ("a budget stop", vec![died(StageName::Train), stopped], full, false),
            ("killed elsewhere", vec![died(StageName::Exam)], full, false),
        ] {
            let place = place();
            let mut journal = Journal::open(place.dir.path().join("journal.jsonl")).unwrap();
            entries.into_iter().for_each(|entry| journal.append(entry).unwrap());
            let mut update = lora_train::metrics::Update::default();
            (update.step, update.rss_bytes) = (1, used);
            let line = serde_json::to_string(&update).unwrap();
            durable::append_line(place.dir.path().join("metrics.jsonl"), &line).unwrap();
            let mut ladder = Ladder::open(&place.home).unwrap();
            ladder.blame_death(&journal, place.dir.path(), &TrainConfig::default()).unwrap();
            assert_eq!(limit(&ladder).is_some(), blamed, "{what}");
        }
    }

    #[test]
    fn a_limit_that_no_plan_keeps_is_forgotten() {
        let place = place();
        let mut ladder = Ladder::open(&place.home).unwrap();
        ladder.step_down(place.dir.path(), &TrainConfig::default(), "full".into()).unwrap();
        let text = "nightshift: { memory_limit: 0 }\nbatch_size: 0";
        let other = Error::Train(TrainConfig::from_yaml(text, "t.yaml").unwrap_err());
        assert!(!ladder.is_too_short(&other).unwrap());
        let short = Error::Train(lora_train::Error::Setting {
            location: Default::default(),
            key: "nightshift.memory_limit".into(),
            expected: "more".into(),
            found: "less".into(),
        });
        assert!(ladder.is_too_short(&short).unwrap());
        assert_eq!(limit(&Ladder::open(&place.home).unwrap()), None);
    }
}
