//! Trains a LoRA adapter from a configuration of `mlx_lm.lora`.
//!
//! ```sh
//! nightshift train --config night.yaml
//! ```
//!
//! After an interruption, the same command with `--resume` continues from the last checkpoint. Started by `mlx.launch`,
//! it trains over several processes or machines (`docs/guides/several-machines.md`); rank 0 prints and writes.

use std::ops::ControlFlow;
use std::path::PathBuf;

use chat_format::ChatTokenizer;
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use lora_train::config::TrainMode;
use lora_train::lint::{Facts, lint};
use lora_train::metrics::{Event, Record};
use lora_train::{
    Bytes, Data, Ending, Outcome, Progress, Start, TrainConfig, Trainer, check_test_set,
    common_template_date, open_model, test_loss,
};
use models::{Group, Model};
use serde_json::json;

use crate::progress::PlainProgress;
use crate::{Exit, show_warnings, signals};

/// Trains a LoRA adapter.
#[derive(Parser)]
pub struct Args {
    /// The YAML file of the run.
    #[arg(long)]
    config: PathBuf,
    /// Continue the run whose checkpoints are in `adapter_path`; without one, begin with a warning.
    #[arg(long)]
    resume: bool,
    /// Print the lines of metrics.jsonl to stdout, then one with the outcome.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// Whatever stops it.
pub fn run(args: Args) -> anyhow::Result<Exit> {
    show_warnings();
    let group = Group::from_env()?;
    let config = TrainConfig::load(&args.config)?;
    let model = open_model(config.model_path()?)?;
    let start = if args.resume { Start::Resume } else { Start::Fresh };
    let date = common_template_date(&group, &config, start)?;
    let tokenizer = ChatTokenizer::open(config.model_path()?)?.with_date(date);
    let data = Data::open(&config, &tokenizer)?;
    check_test_set(&config, &tokenizer)?;
    if !group.is_first() {
        return follow(Trainer::over(group, model, config, data, start)?);
    }
    print_lints(&config, &model, &data)?;

    let trainer = Trainer::over(group, model.clone(), config.clone(), data, start)?;
    if args.resume {
        print_resumption(&config, &trainer);
    }
    let style = "{bar:30} {pos}/{len} updates, {msg}, {eta} to go";
    let bar = ProgressBar::new(0).with_style(ProgressStyle::with_template(style)?);
    let mut lines = PlainProgress::unless(args.json);
    let (mut falls, mut printed, unit) = (0, Ok(()), unit(&config));
    let interrupt = signals::interrupt()?;
    let outcome = trainer.run(&mut |progress: Progress<'_>| {
        match progress {
            Progress::Recorded(record) => {
                show(&bar, unit, record);
                lines.tick(&bar);
                falls += u64::from(warn_of_fall(&bar, record, falls));
                if args.json {
                    printed = outln!("{}", json!(record));
                }
            }
            Progress::Skipped { step, report } => bar.suspend(|| {
                errln!("warning: update {step} was skipped, see {}", report.display());
            }),
            _ => {}
        }
        match printed.is_err() || interrupt.signal().is_some() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    })?;
    bar.finish_and_clear();
    printed?;
    let finished = matches!(outcome.ending, Ending::Complete | Ending::EarlyStop);
    let test = if finished { test_loss(&model, &config, &tokenizer)? } else { None };
    if falls > 1 {
        errln!("warning: the chosen answers were less likely in {falls} updates");
    }
    conclude(&args, &config, &outcome, test)?;
    Ok(match interrupt.signal() {
        _ if finished => Exit::Done,
        Some(signal) => Exit::Stopped(signal),
        None => Exit::BudgetSpent,
    })
}

/// Trains as a rank other than 0, which neither prints nor writes.
fn follow(trainer: Trainer) -> anyhow::Result<Exit> {
    let interrupt = signals::interrupt()?;
    let outcome = trainer.run(&mut |_: Progress<'_>| match interrupt.signal() {
        Some(_) => ControlFlow::Break(()),
        None => ControlFlow::Continue(()),
    })?;
    Ok(match (outcome.ending, interrupt.signal()) {
        (Ending::Complete | Ending::EarlyStop, _) => Exit::Done,
        (_, Some(signal)) => Exit::Stopped(signal),
        (_, None) => Exit::BudgetSpent,
    })
}

/// Says what `--resume` found. A wrong `adapter_path` would otherwise look like a run that continues.
fn print_resumption(config: &TrainConfig, trainer: &Trainer) {
    match trainer.resumed_from() {
        Some(checkpoint) => errln!("resumed from {}", checkpoint.display()),
        None => errln!(
            "warning: {}: expected a checkpoint to resume from, found none; the run begins with its first update",
            config.adapter_path.join("checkpoints").display()
        ),
    }
}

fn print_lints(config: &TrainConfig, model: &Model, data: &Data) -> anyhow::Result<()> {
    let rows = data.train.examples();
    for lint in lint(config, Facts { rows, model_layers: model.layers().len() })? {
        errln!("{lint}");
    }
    let (cut, empty) = (data.train.truncated().len(), data.train.dropped().len());
    if cut + empty > 0 {
        errln!(
            "warning: {cut} {} are cut to `max_seq_length`, {empty} have nothing to train",
            unit(config)
        );
    }
    Ok(())
}

/// What a run trains on.
fn unit(config: &TrainConfig) -> &'static str {
    match config.mode() {
        TrainMode::Sft => "rows",
        _ => "pairs",
    }
}

/// Warns of the first update whose chosen answers have become less likely; returns whether they have.
fn warn_of_fall(bar: &ProgressBar, record: &Record, before: u64) -> bool {
    let Some((update, preference)) =
        record.as_update().and_then(|update| Some((update, update.preference?)))
    else {
        return false;
    };
    let falls = preference.chosen_falls();
    if falls && before == 0 {
        let change = preference.chosen_change.unwrap_or_default();
        bar.suspend(|| {
            errln!(
                "warning: update {}: the chosen answers' log-probability is {:.2} below the \
                 reference's: the loss falls because the rejected answers' falls more; add `sft` to \
                 `loss_type`, raise `beta` or lower `learning_rate`",
                update.step, -change,
            );
        });
    }
    falls
}

fn show(bar: &ProgressBar, unit: &str, record: &Record) {
    match record {
        Record::Update(update) => {
            let speed = update.processed_tokens as f64 / update.seconds;
            let pairs = update.preference.map_or(String::new(), |pairs| {
                format!(", accuracy {:.2}, margin {:.3}", pairs.accuracy, pairs.margin)
            });
            let kl = update.kl.map_or(String::new(), |kl| format!(", KL {:.4}", kl.mean));
            bar.set_message(format!("loss {:.3}{pairs}{kl}, {speed:.0} tokens/s", update.loss));
            bar.set_position(update.step);
        }
        Record::Event(Event::Plan { updates, parameters, rows, work, .. }) => {
            bar.set_length(*updates);
            errln!("{parameters} parameters, {rows} {unit}, {updates} updates");
            errln!("{work}");
        }
        Record::Event(Event::Validation { step, loss, preference, .. }) => {
            let pairs = preference.map_or(String::new(), |pairs| {
                format!(
                    ", accuracy {:.2}, margin {:.3}, log-probability of the chosen {:.2}, of the \
                     rejected {:.2}",
                    pairs.accuracy, pairs.margin, pairs.chosen_logp, pairs.rejected_logp,
                )
            });
            bar.suspend(|| errln!("validation loss {loss:.3}{pairs} after {step} updates"));
        }
        Record::Event(Event::Retention { step, kl, .. }) => {
            bar.suspend(|| errln!("KL to the base {:.4} after {step} updates", kl.mean));
        }
        Record::Event(Event::Reference { answers, computed_tokens, seconds, .. }) => {
            let how = match computed_tokens {
                0 => "read from disk".to_owned(),
                tokens => format!("{tokens} tokens in {seconds:.1} s"),
            };
            errln!("reference log-probabilities of {answers} answers: {how}");
        }
        _ => {}
    }
}

fn conclude(
    args: &Args,
    config: &TrainConfig,
    outcome: &Outcome,
    test: Option<f64>,
) -> anyhow::Result<()> {
    let Outcome { ending, step, updates, best, estimated_memory_bytes, peak_memory_bytes, .. } =
        outcome;
    errln!("{ending:?} after {step} of {updates} updates: {}", config.adapter_path.display());
    match best {
        Some(best) if config.nightshift.eval_best => {
            errln!("the adapter is that of update {}", best.step);
        }
        None if config.nightshift.retention.is_some_and(|it| it.max_kl.is_some()) => errln!(
            "warning: no adapter was within `nightshift.retention.max_kl`: the adapter is the last one"
        ),
        _ => {}
    }
    let [expected, peak] = [*estimated_memory_bytes, *peak_memory_bytes].map(Bytes);
    errln!("{expected} of memory expected, {peak} at the peak");
    if let Some(loss) = test {
        errln!("test loss {loss:.3}, perplexity {:.3}", loss.exp());
    }
    if args.json {
        let (ending, path) = (format!("{ending:?}"), &config.adapter_path);
        outln!(
            "{}",
            json!({ "kind": "outcome", "ending": ending, "step": step, "updates": updates, "best": best, "test_loss": test, "adapter_path": path, "peak_memory_bytes": peak_memory_bytes, "estimated_memory_bytes": estimated_memory_bytes })
        )?;
    }
    Ok(())
}
