//! Runs stages, each at most once per input.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use durable::Digest;
use serde::{Deserialize, Serialize};

use crate::budget_monitor::BudgetMonitor;
use crate::earlier_nights::{EarlierNights, EarlierRun};
use crate::error::{Error, Result, io_error};
use crate::files;
use crate::files::{make_private, private_dir};
use crate::journal::{Entry, Journal};
use crate::observer::{Event, Observer};
use crate::stage::{Stage, StageContext};
use crate::stages::StageName;

/// How one stage of a night went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StageSummary {
    /// The stage.
    pub stage: StageName,
    /// Duration of the run that finished it.
    pub seconds: f64,
    /// Whether the result was reused from an earlier, interrupted start.
    pub reused: bool,
    /// One line about the result.
    pub figures: String,
}

/// Runs stages one after the other, each at most once per input, and keeps the journal.
pub(crate) struct Runner<'a> {
    pub night: &'a Path,
    /// The nights whose results may be taken over.
    pub earlier: &'a EarlierNights,
    pub journal: &'a mut Journal,
    pub observer: &'a mut dyn Observer,
    pub budgets: &'a BudgetMonitor,
    /// The memory in bytes that a model may take that answers.
    pub memory_limit: u64,
    /// The finished stages, in order.
    pub done: Vec<StageSummary>,
}

impl Runner<'_> {
    /// The output of `stage`: from the journal if it finished before on the same input, from an earlier night
    /// that did the same, else by running it.
    pub fn run<S: Stage>(&mut self, stage: &S) -> Result<S::Output> {
        let key = key(stage)?;
        if let Some((seconds, output)) = self.stored::<S>(key) {
            let figures = S::describe(&output);
            return Ok(self.reused::<S>(seconds, figures, output));
        }
        if let Some((night, seconds, output)) = self.take_over(stage, key)? {
            let figures = format!("{}; taken over from night {night}", S::describe(&output));
            return Ok(self.reused::<S>(seconds, figures, output));
        }
        self.budgets.check_before(S::NAME)?;
        let dir = self.prepare::<S>(key)?;
        self.journal.append(Entry::StageBegun { stage: S::NAME, key })?;
        tracing::info!(stage = %S::NAME, %key, "begun");
        self.observer.event(Event::StageBegun { stage: S::NAME });
        let begun = Instant::now();
        let mut ctx = StageContext {
            stage: S::NAME,
            night: self.night,
            dir: &dir,
            budgets: self.budgets,
            memory_limit: self.memory_limit,
            observer: &mut *self.observer,
        };
        let output = match stage.run(&mut ctx) {
            Ok(output) => output,
            Err(error) => {
                let message = error.to_string();
                tracing::error!(stage = %S::NAME, message, "failed");
                self.journal.append(Entry::StageFailed { stage: S::NAME, message })?;
                return Err(error);
            }
        };
        make_private(&dir)?;
        let seconds = begun.elapsed().as_secs_f64();
        self.record::<S>(key, seconds, &output)?;
        let figures = S::describe(&output);
        tracing::info!(stage = %S::NAME, seconds, figures, "finished");
        self.observer.event(Event::StageFinished { stage: S::NAME, seconds, figures: &figures });
        self.done.push(StageSummary { stage: S::NAME, seconds, reused: false, figures });
        Ok(output)
    }

    /// Keeps an output under its key.
    fn record<S: Stage>(&mut self, key: Digest, seconds: f64, output: &S::Output) -> Result<()> {
        let output = to_value(S::NAME, output)?;
        self.journal.append(Entry::StageFinished { stage: S::NAME, key, seconds, output })
    }

    /// Notes that `output` is not made anew.
    fn reused<S: Stage>(&mut self, seconds: f64, figures: String, output: S::Output) -> S::Output {
        tracing::info!(stage = %S::NAME, figures, "reused");
        self.observer.event(Event::StageSkipped { stage: S::NAME, figures: &figures });
        self.done.push(StageSummary { stage: S::NAME, seconds, reused: true, figures });
        output
    }

    /// The stored duration and output for `key`, if it can be parsed and its files are unchanged.
    fn stored<S: Stage>(&self, key: Digest) -> Option<(f64, S::Output)> {
        let (seconds, record) = self.journal.finished(S::NAME, key)?;
        Some((seconds, usable::<S>(self.night, record)?))
    }

    /// The output of an earlier night for `key`, if it is complete, with the id of that night and the duration. Its files
    /// become those of this night.
    fn take_over<S: Stage>(
        &mut self,
        stage: &S,
        key: Digest,
    ) -> Result<Option<(String, f64, S::Output)>> {
        if !S::ACROSS_NIGHTS {
            return Ok(None);
        }
        let complete = |run: EarlierRun<'_>| {
            let (seconds, record) = run.finished?;
            let output = usable::<S>(run.night, record).filter(S::is_complete)?;
            Some((run.night.to_path_buf(), seconds, output))
        };
        let Some((night, seconds, output)) = self.earlier.runs(S::NAME, key).find_map(complete)
        else {
            return Ok(None);
        };
        let name = S::NAME.as_str();
        files::link_folder(&night.join(name), &self.night.join(name))?;
        let output = stage.taken_over(output)?;
        self.record::<S>(key, seconds, &output)?;
        let id = night.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Some((id, seconds, output)))
    }

    /// Creates the stage's folder. Files of the last run are kept if it had the same input, else
    /// deleted. A run that an earlier night did not bring to its end is continued.
    fn prepare<S: Stage>(&self, key: Digest) -> Result<PathBuf> {
        let dir = self.night.join(S::NAME.as_str());
        if dir.exists() && self.journal.last_begun(S::NAME) != Some(key) {
            fs::remove_dir_all(&dir).map_err(io_error(&dir, "empty"))?;
        }
        if S::ACROSS_NIGHTS && !dir.exists() {
            let unfinished = |run: &EarlierRun<'_>| match run.finished {
                None => true,
                Some((_, record)) => {
                    usable::<S>(run.night, record).is_some_and(|output| !S::is_complete(&output))
                }
            };
            let begun = self.earlier.runs(S::NAME, key).find(unfinished);
            let begun = begun.map(|run| run.night.join(S::NAME.as_str()));
            if let Some(begun) = begun.filter(|folder| folder.is_dir()) {
                tracing::info!(stage = %S::NAME, "goes on with {}", begun.display());
                files::link_folder(&begun, &dir)?;
            }
        }
        private_dir(&dir)?;
        Ok(dir)
    }
}

/// A recorded output, if it can be parsed and its files in the folder of its night are unchanged.
fn usable<S: Stage>(night: &Path, record: &serde_json::Value) -> Option<S::Output> {
    let output = serde_json::from_value(record.clone())
        .inspect_err(|e| tracing::warn!(stage = %S::NAME, "cannot parse the stored output: {e}"))
        .ok()?;
    S::artefacts(&output)
        .into_iter()
        .try_for_each(|file| file.verified(night).map(drop))
        .inspect_err(|e| tracing::warn!(stage = %S::NAME, "a stored file changed, running the stage again: {e}"))
        .ok()?;
    Some(output)
}

/// The digest of everything that determines the output of a stage. All crates of the workspace have one version.
fn key<S: Stage>(stage: &S) -> Result<Digest> {
    let (input, program) = (to_value(S::NAME, stage)?, env!("CARGO_PKG_VERSION"));
    Ok(durable::digest(format!("{} v{} of {program}\n{input}", S::NAME, S::VERSION)))
}

fn to_value<T: Serialize>(stage: StageName, value: &T) -> Result<serde_json::Value> {
    serde_json::to_value(value).map_err(|e| Error::Record {
        path: PathBuf::from(stage.as_str()),
        line: None,
        expected: "a value that serializes to JSON",
        found: e.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::clock::Clock;
    use crate::config::{Budgets, Span};
    use crate::stage::Artefact;

    /// Writes its text to a file and appends to another one a line per run.
    #[derive(Serialize)]
    struct Toy {
        text: &'static str,
        #[serde(skip)]
        fails: bool,
    }

    impl Stage for Toy {
        const NAME: StageName = StageName::Convert;
        type Output = Artefact;

        fn run(&self, ctx: &mut StageContext<'_>) -> Result<Artefact> {
            durable::append_line(ctx.dir.join("runs"), self.text)?;
            if self.fails {
                return Err(ctx.out_of_time());
            }
            let path = ctx.dir.join("text");
            durable::write(&path, self.text)?;
            ctx.artefact(&path)
        }

        fn artefacts(output: &Artefact) -> Vec<&Artefact> {
            vec![output]
        }

        fn describe(_: &Artefact) -> String {
            String::new()
        }
    }

    struct Night(tempfile::TempDir);

    impl Night {
        fn run(&self, text: &'static str, fails: bool) -> Result<Artefact> {
            let night = self.0.path();
            let mut runner = Runner {
                night,
                earlier: &EarlierNights::default(),
                journal: &mut Journal::open(night.join("journal.jsonl"))?,
                observer: &mut |_: Event<'_>| (),
                budgets: &BudgetMonitor::new(
                    &Budgets::default(),
                    &jiff::Zoned::now(),
                    night,
                    &Clock::default(),
                ),
                memory_limit: u64::MAX,
                done: vec![],
            };
            runner.run(&Toy { text, fails })
        }

        fn runs(&self) -> usize {
            let runs = fs::read_to_string(self.0.path().join("convert/runs")).unwrap();
            runs.lines().count()
        }
    }

    #[test]
    fn a_stage_runs_once_per_input() {
        let folder = Night(tempfile::tempdir().unwrap());
        let first = folder.run("a", false).unwrap();
        assert_eq!(folder.run("a", false).unwrap(), first);
        assert_eq!(folder.runs(), 1);
        // Another input deletes the files of the old run first.
        assert_ne!(folder.run("b", false).unwrap(), first);
        assert_eq!(folder.runs(), 1);
    }

    #[test]
    fn a_failed_stage_runs_again_with_its_files_kept() {
        let folder = Night(tempfile::tempdir().unwrap());
        assert_eq!(folder.run("a", true).unwrap_err().exit_code(), 3);
        folder.run("a", false).unwrap();
        assert_eq!(folder.runs(), 2);
    }

    #[test]
    fn a_changed_file_is_never_reused() {
        let folder = Night(tempfile::tempdir().unwrap());
        let output = folder.run("a", false).unwrap();
        let path = folder.0.path().join(&output.path);
        for damage in [Some("half"), None] {
            match damage {
                Some(text) => fs::write(&path, text).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
            folder.run("a", false).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), "a");
        }
    }

    #[test]
    fn a_passed_deadline_starts_no_stage() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path().join("journal.jsonl")).unwrap();
        let budgets = Budgets { wall_clock: Span(Duration::ZERO), ..Budgets::default() };
        let mut runner = Runner {
            night: dir.path(),
            earlier: &EarlierNights::default(),
            journal: &mut journal,
            observer: &mut |_: Event<'_>| (),
            budgets: &BudgetMonitor::new(
                &budgets,
                &jiff::Zoned::now(),
                dir.path(),
                &Clock::default(),
            ),
            memory_limit: u64::MAX,
            done: vec![],
        };
        let error = runner.run(&Toy { text: "a", fails: false }).unwrap_err();
        assert!(error.to_string().contains("during convert"), "{error}");
        assert!(journal.is_empty() && !dir.path().join("convert").exists());
    }

    #[test]
    fn the_key_depends_on_the_serialized_input() {
        let key = |text| key(&Toy { text, fails: false }).unwrap();
        assert_eq!(key("a"), key("a"));
        assert_ne!(key("a"), key("b"));
        assert_eq!(
            to_value(StageName::Convert, &Toy { text: "a", fails: true }).unwrap(),
            json!({"text": "a"})
        );
    }
}
