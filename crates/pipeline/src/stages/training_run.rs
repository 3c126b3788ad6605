//! One training within the budgets of a night, as the stages `train` and `prefer` run it.

use std::ops::ControlFlow;
use std::path::Path;

use chat_format::jsonl;
use lora_train::metrics::{Event, Record};
use lora_train::{Data, Ending, Outcome, Progress, Start, TrainConfig, Trainer, checkpoint};
use models::Model;
use serde::{Deserialize, Serialize};

use crate::budget_monitor::StopReason;
use crate::error::Result;
use crate::stage::StageContext;

/// Why a training ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TrainingEnd {
    /// All updates are done.
    Complete,
    /// The validation loss stopped falling, or the model moved too far from the base.
    EarlyStop,
    /// The wall-clock budget was spent.
    Deadline,
}

/// Trains in the stage's folder until the end or the deadline, from the last checkpoint there.
///
/// # Errors
/// [`OutOfMemory`](crate::Error::OutOfMemory) or [`DiskFull`](crate::Error::DiskFull) for a spent budget, and whatever
/// stops a trainer.
pub(super) fn train(
    ctx: &mut StageContext<'_>,
    model: Model,
    config: TrainConfig,
    data: Data,
) -> Result<(Outcome, TrainingEnd)> {
    let updates = config.updates(data.train.examples());
    checkpoint::remove_damaged(ctx.dir.join("checkpoints"))?;
    let trainer = start(model, config, data)?;
    // The first reason is kept: the trainer writes one more checkpoint after it.
    let (mut stop, mut failed) = (None, None);
    let mut watch = |progress: Progress<'_>| {
        let mut used = 0;
        match progress {
            Progress::Recorded(record) => {
                let (step, note) = describe(record);
                ctx.progress(step, updates, &note);
                used = memory(record);
            }
            Progress::Saved { path, .. } => failed = failed.take().or(checkpoint::seal(path).err()),
            _ => {}
        }
        stop = stop.take().or_else(|| ctx.budgets.stop(used));
        match stop.is_some() || failed.is_some() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    };
    let outcome = trainer.run(&mut watch)?;
    let end = match (outcome.ending, failed, stop) {
        (_, Some(error), _) => return Err(error.into()),
        (Ending::Complete, ..) => TrainingEnd::Complete,
        (Ending::EarlyStop, ..) => TrainingEnd::EarlyStop,
        (Ending::Stopped, _, Some(StopReason::Exhausted(error))) => return Err(error),
        _ => TrainingEnd::Deadline,
    };
    Ok((outcome, end))
}

/// Resumes the run in the stage's folder. A run that no longer matches, for instance because another
/// version wrote it, starts afresh instead of failing the night.
fn start(model: Model, config: TrainConfig, data: Data) -> Result<Trainer> {
    use lora_train::Error::{AdapterMismatch, BadTensors, OptimizerState, RunChanged};

    match Trainer::new(model.clone(), config.clone(), data.clone(), Start::Resume) {
        Err(
            error @ (AdapterMismatch { .. }
            | BadTensors { .. }
            | OptimizerState { .. }
            | RunChanged { .. }),
        ) => {
            tracing::warn!("training starts afresh: {error}");
            Ok(Trainer::new(model, config, data, Start::Fresh)?)
        }
        started => Ok(started?),
    }
}

/// The memory in bytes that an update took: the larger of MLX's peak and the resident set.
fn memory(record: &Record) -> u64 {
    record.as_update().map_or(0, |update| update.rss_bytes.max(update.peak_memory_bytes))
}

fn describe(record: &Record) -> (u64, String) {
    match record {
        Record::Update(update) => {
            let speed = update.processed_tokens as f64 / update.seconds.max(f64::MIN_POSITIVE);
            let pairs = update.preference.map_or(String::new(), |pairs| {
                format!(", accuracy {:.2}, margin {:.3}", pairs.accuracy, pairs.margin)
            });
            (update.step, format!("loss {:.3}{pairs}, {speed:.0} tok/s", update.loss))
        }
        Record::Event(Event::Validation { step, loss, .. }) => {
            (*step, format!("validation loss {loss:.3}"))
        }
        Record::Event(Event::Retention { step, kl, .. }) => {
            (*step, format!("KL to the base {:.4}", kl.mean))
        }
        Record::Event(Event::Plan { rows, .. }) => (0, format!("{rows} rows")),
        _ => (0, String::new()),
    }
}

/// The name of the list of rows or pairs that are not trained.
pub(super) const LEFT_OUT: &str = "left-out.jsonl";

/// Writes the rows or pairs that are not trained.
pub(super) fn write_list<T: Serialize>(path: &Path, rows: &[T]) -> Result<()> {
    let mut writer = jsonl::Writer::create(path)?;
    rows.iter().try_for_each(|row| writer.write(row))?;
    Ok(writer.commit()?)
}
