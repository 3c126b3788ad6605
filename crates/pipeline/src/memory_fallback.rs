//! Lowers the memory limit after training or an exam ran out of memory, and remembers the limit.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use lora_train::memory::{limit, physical_memory};
use lora_train::metrics::Metrics;
use lora_train::{Bytes, TrainConfig};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, io_error};
use crate::files::read_if_there;
use crate::format;
use crate::home::Home;
use crate::journal::{Entry, Journal};
use crate::runner::Runner;
use crate::stages::StageName;

/// The next limit, as a fraction of what the failed plan took: numerator and denominator.
const NEXT: (u64, u64) = (3, 4);
/// A process that died using this fraction of the machine's memory was most probably killed by the
/// system for it: numerator and denominator.
const FATAL: (u64, u64) = (9, 10);

/// The memory limit found for a home after a stage ran out of memory. It applies to later nights
/// too, until somebody removes `memory.json`.
#[derive(Debug)]
pub(crate) struct MemoryFallback {
    path: PathBuf,
    step: Option<Step>,
}

/// One reduction of the limit, as stored in `memory.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    memory_limit: Bytes,
    because: String,
    at: Timestamp,
}

/// The recipe with a memory limit of at most the night's.
pub(crate) fn within(recipe: &TrainConfig, memory: Option<Bytes>) -> TrainConfig {
    let mut recipe = recipe.clone();
    let limit = &mut recipe.nightshift.memory_limit;
    *limit = [*limit, memory].into_iter().flatten().min();
    recipe
}

impl MemoryFallback {
    /// Reads the limit of a home, if there is one.
    pub fn open(home: &Home) -> Result<Self> {
        let path = home.path().join("memory.json");
        let error = |e: serde_json::Error| Error::Record {
            path: path.clone(),
            line: None,
            expected: "a memory limit (remove the file to try the fastest plan again)",
            found: e.to_string(),
        };
        let step = read_if_there(&path)?.map(|bytes| serde_json::from_slice(&bytes)).transpose();
        Ok(Self { step: step.map_err(error)?, path })
    }

    /// The recipe with its memory limit lowered to the one found. The limit changes the speed of
    /// training, not its result.
    pub fn apply_to(&self, recipe: &TrainConfig) -> TrainConfig {
        let mut recipe = recipe.clone();
        if let Some(Step { memory_limit: found, .. }) = self.step {
            let limit = &mut recipe.nightshift.memory_limit;
            *limit = Some(limit.map_or(found, |stated| stated.min(found)));
        }
        recipe
    }

    /// Runs a stage whose models stay within the memory limit of `recipe`. After running out of memory it goes on where it
    /// was, within a lower limit.
    pub fn within_memory<T>(
        &mut self,
        runner: &mut Runner<'_>,
        (stage, recipe): (StageName, &TrainConfig),
        run: impl Fn(&mut Runner<'_>, &TrainConfig) -> Result<T>,
    ) -> Result<T> {
        let mut out_of_memory: Option<Error> = None;
        loop {
            let recipe = self.apply_to(recipe);
            runner.memory_limit = limit(&recipe)?;
            let error = match run(runner, &recipe) {
                Err(error) => error,
                done => return done,
            };
            if error.is_out_of_memory() {
                let dir = runner.night.join(stage.as_str());
                self.step_down(&dir, &recipe, error.to_string())?;
                out_of_memory = Some(error);
            } else if self.forget_if_too_low(&error)? {
                // No plan fits. Report what ran out rather than the limit derived from it. A limit that another night
                // has found is left aside.
                match out_of_memory {
                    Some(error) => return Err(error),
                    None => continue,
                }
            } else {
                return Err(error);
            }
        }
    }

    /// Lowers the limit after the stage in `dir` ran out of memory, and stores it.
    pub fn step_down(&mut self, dir: &Path, recipe: &TrainConfig, because: String) -> Result<()> {
        let allowed = limit(recipe)?;
        let taken = planned_bytes(dir).map_or(allowed, |planned| planned.min(allowed));
        let memory_limit = Bytes(taken / NEXT.1 * NEXT.0);
        tracing::warn!(memory_limit = memory_limit.0, because, "lowered the memory limit");
        let step = Step { memory_limit, because, at: Timestamp::now() };
        durable::write_json(&self.path, &step)?;
        self.step = Some(step);
        Ok(())
    }

    /// Steps down if the last process of this night died during a training with the machine's memory
    /// nearly full. `stage` is that training, and `dir` its folder. A process that stopped with an error has left it in the journal, so its end is
    /// not counted.
    pub fn detect_memory_kill(
        &mut self,
        journal: &Journal,
        stage: StageName,
        dir: &Path,
        recipe: &TrainConfig,
    ) -> Result<()> {
        let died = matches!(
            journal.entries().last(),
            Some(Entry::StageBegun { stage: begun, .. }) if *begun == stage
        );
        let (Some(all), true) = (physical_memory(), died) else { return Ok(()) };
        let metrics = Metrics::read(dir.join("metrics.jsonl")).unwrap_or_default();
        let last = metrics.updates().next_back();
        let used = last.map(|update| update.rss_bytes.max(update.peak_memory_bytes));
        match used {
            Some(used) if used >= all / FATAL.1 * FATAL.0 => {
                let (used, all) = (format::bytes(used), format::bytes(all));
                self.step_down(dir, recipe, format!("the process died with {used} of {all}"))
            }
            _ => Ok(()),
        }
    }

    /// Whether `error` says that no plan fits the limit found here. The limit is then removed, as
    /// every later night would fail with it.
    pub fn forget_if_too_low(&mut self, error: &Error) -> Result<bool> {
        let refused = matches!(
            error,
            Error::Train(lora_train::Error::Setting { key, .. }) if key == "nightshift.memory_limit"
        );
        if !refused || self.step.is_none() {
            return Ok(false);
        }
        self.step = None;
        fs::remove_file(&self.path).map_err(io_error(&self.path, "remove"))?;
        Ok(true)
    }
}

/// The memory in bytes that the plan of the run in `dir` expected.
fn planned_bytes(dir: &Path) -> Option<u64> {
    let metrics = Metrics::read(dir.join("metrics.jsonl")).ok()?;
    metrics.plan().map(|work| work.estimated_memory_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget_monitor::BudgetMonitor;
    use crate::clock::Clock;
    use crate::config::Budgets;
    use crate::earlier_nights::EarlierNights;
    use crate::observer::Event;

    struct TestHome {
        dir: tempfile::TempDir,
        home: Home,
    }

    fn test_home() -> TestHome {
        let dir = tempfile::tempdir().unwrap();
        TestHome { home: Home::open(dir.path().join("home")).unwrap(), dir }
    }

    fn limit(fallback: &MemoryFallback) -> Option<u64> {
        fallback.apply_to(&TrainConfig::default()).nightshift.memory_limit.map(|limit| limit.0)
    }

    #[test]
    fn each_step_is_lower_and_is_stored() {
        let test = test_home();
        let mut fallback = MemoryFallback::open(&test.home).unwrap();
        assert_eq!(limit(&fallback), None);
        let mut recipe = TrainConfig::default();
        recipe.nightshift.memory_limit = Some(Bytes(800));
        for expected in [600, 450] {
            fallback.step_down(test.dir.path(), &recipe, "full".into()).unwrap();
            assert_eq!(limit(&MemoryFallback::open(&test.home).unwrap()), Some(expected));
            recipe = fallback.apply_to(&recipe);
        }
        // A stated limit that is lower still counts.
        recipe.nightshift.memory_limit = Some(Bytes(100));
        assert_eq!(fallback.apply_to(&recipe).nightshift.memory_limit, Some(Bytes(100)));
    }

    /// A stage, such as an exam, that has room in so many bytes.
    fn run_within(test: &TestHome, stated: u64, room: u64, least: u64) -> (Result<u64>, Vec<u64>) {
        let mut fallback = MemoryFallback::open(&test.home).unwrap();
        let mut recipe = TrainConfig::default();
        recipe.nightshift.memory_limit = Some(Bytes(stated));
        let night = test.dir.path();
        let mut runner = Runner {
            night,
            earlier: &EarlierNights::default(),
            journal: &mut Journal::open(night.join("journal.jsonl")).unwrap(),
            observer: &mut |_: Event<'_>| (),
            budgets: &BudgetMonitor::new(
                &Budgets::default(),
                &jiff::Zoned::now(),
                night,
                &Clock::default(),
            ),
            memory_limit: 0,
            done: vec![],
        };
        let tried = std::cell::RefCell::new(vec![]);
        let result =
            fallback.within_memory(&mut runner, (StageName::Exam, &recipe), |runner, _| {
                tried.borrow_mut().push(runner.memory_limit);
                match runner.memory_limit {
                    limit if limit < least => Err(Error::Train(lora_train::Error::Setting {
                        location: Default::default(),
                        key: "nightshift.memory_limit".into(),
                        expected: "more".into(),
                        found: "less".into(),
                    })),
                    limit if limit > room => Err(Error::OutOfMemory { reason: "no room".into() }),
                    limit => Ok(limit),
                }
            });
        (result, tried.into_inner())
    }

    #[test]
    fn a_stage_without_room_goes_on_within_lower_limits_until_no_plan_fits() {
        let test = test_home();
        let (done, tried) = run_within(&test, 1600, 1000, 100);
        assert_eq!((done.unwrap(), tried), (900, vec![1600, 1200, 900]));
        // The next night begins there.
        let (done, tried) = run_within(&test, 1600, 1000, 100);
        assert_eq!((done.unwrap(), tried), (900, vec![900]));
        // What another stage has found is left aside by one that needs more.
        let (done, tried) = run_within(&test, 1600, 2000, 1500);
        assert_eq!((done.unwrap(), tried), (1600, vec![900, 1600]));
        let (done, tried) = run_within(&test, 1600, 1000, 1100);
        assert!(matches!(done, Err(Error::OutOfMemory { .. })), "what ran out, not the last limit");
        assert_eq!(tried, [1600, 1200, 900]);
        assert_eq!(limit(&MemoryFallback::open(&test.home).unwrap()), None);
    }

    #[test]
    fn only_a_death_with_full_memory_lowers_the_limit() {
        let died = |stage| Entry::StageBegun { stage, key: durable::digest("") };
        let stopped = Entry::StageFailed { stage: StageName::Train, message: "time".into() };
        let full = physical_memory().unwrap();
        for (what, entries, used, lowered) in [
            ("killed when full", vec![died(StageName::Train)], full, true),
            ("killed with room", vec![died(StageName::Train)], full / 2, false),
            ("a budget stop", vec![died(StageName::Train), stopped], full, false),
            ("killed elsewhere", vec![died(StageName::Exam)], full, false),
        ] {
            let test = test_home();
            let mut journal = Journal::open(test.dir.path().join("journal.jsonl")).unwrap();
            entries.into_iter().for_each(|entry| journal.append(entry).unwrap());
            let mut update = lora_train::metrics::Update::default();
            (update.step, update.rss_bytes) = (1, used);
            let line = serde_json::to_string(&update).unwrap();
            durable::append_line(test.dir.path().join("metrics.jsonl"), &line).unwrap();
            let mut fallback = MemoryFallback::open(&test.home).unwrap();
            fallback
                .detect_memory_kill(
                    &journal,
                    StageName::Train,
                    test.dir.path(),
                    &TrainConfig::default(),
                )
                .unwrap();
            assert_eq!(limit(&fallback).is_some(), lowered, "{what}");
        }
    }

    #[test]
    fn a_limit_below_every_plan_is_removed() {
        let test = test_home();
        let mut fallback = MemoryFallback::open(&test.home).unwrap();
        fallback.step_down(test.dir.path(), &TrainConfig::default(), "full".into()).unwrap();
        let text = "nightshift: { memory_limit: 0 }\nbatch_size: 0";
        let other = Error::Train(TrainConfig::from_yaml(text, "t.yaml").unwrap_err());
        assert!(!fallback.forget_if_too_low(&other).unwrap());
        let short = Error::Train(lora_train::Error::Setting {
            location: Default::default(),
            key: "nightshift.memory_limit".into(),
            expected: "more".into(),
            found: "less".into(),
        });
        assert!(fallback.forget_if_too_low(&short).unwrap());
        assert_eq!(limit(&MemoryFallback::open(&test.home).unwrap()), None);
    }
}
