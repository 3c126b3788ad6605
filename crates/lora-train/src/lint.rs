//! What a configuration really does, in numbers, before a night is spent on it.
//!
//! A [`Lint`] is not an error: the run would start. It is what one would want to have been told:
//! a schedule that never leaves its warm-up, rows that are never seen, a default that was taken
//! silently.

use std::fmt;

use serde::Serialize;

use crate::config::{NumLayers, TrainConfig};
use crate::{Result, Schedule};

/// What is known about the run besides its configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Training rows.
    pub rows: usize,
    /// Decoder layers of the model.
    pub model_layers: usize,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lint {
    /// What kind of finding it is.
    pub code: LintCode,
    /// How bad it is.
    pub severity: Severity,
    /// The finding, with its numbers.
    pub message: String,
}

impl fmt::Display for Lint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.severity, self.message)
    }
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Most probably not what was meant.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Note => "note",
            Self::Warning => "warning",
        })
    }
}

/// The kinds of findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LintCode {
    /// The run ends inside its warm-up.
    WarmupOutlastsRun,
    /// The run ends long before the decay does.
    DecayOutlastsRun,
    /// The run goes on long after the learning rate has reached its end.
    RunOutlastsDecay,
    /// Not every row is seen.
    RowsUnseen,
    /// Rows are seen more than once.
    Epochs,
    /// The last update has fewer rows than the others.
    PartialUpdate,
    /// `alpha`, which changes nothing, agrees with `scale`.
    AlphaAgrees,
    /// The strength was computed from `alpha`.
    ScaleFromAlpha,
    /// A key is absent and its default matters.
    SilentDefault,
    /// `learning_rate` is not read beside an `lr_schedule`.
    LearningRateUnused,
    /// The key is read for compatibility and does nothing.
    NoEffect,
    /// The embedding is adapted, so that gradients go through layers which are not.
    WholeBackwardPass,
}

/// Everything worth saying about a run, the worst first.
pub fn lint(config: &TrainConfig, facts: Facts) -> Result<Vec<Lint>> {
    let mut lints = Lints::default();
    schedule(config, facts, &mut lints)?;
    rows(config, facts, &mut lints);
    strength(config, &mut lints);
    defaults(config, facts, &mut lints)?;
    without_effect(config, &mut lints);
    ends(config, facts, &mut lints)?;
    lints.0.sort_by_key(|lint| std::cmp::Reverse(lint.severity));
    Ok(lints.0)
}

#[derive(Default)]
struct Lints(Vec<Lint>);

impl Lints {
    fn note(&mut self, code: LintCode, message: impl Into<String>) {
        self.0.push(Lint { code, severity: Severity::Note, message: message.into() });
    }

    fn warn(&mut self, code: LintCode, message: impl Into<String>) {
        self.0.push(Lint { code, severity: Severity::Warning, message: message.into() });
    }
}

fn schedule(config: &TrainConfig, facts: Facts, lints: &mut Lints) -> Result<()> {
    if config.lr_schedule.is_none() {
        return Ok(());
    }
    let updates = config.updates(facts.rows);
    let schedule = Schedule::new(config, updates)?;
    let (warmup, peak) = (schedule.warmup_updates(), schedule.peak());
    let last = schedule.at(updates.saturating_sub(1));
    if updates < warmup {
        lints.warn(
            LintCode::WarmupOutlastsRun,
            format!(
                "{} updates < {} of warm-up: the rate never reaches {peak:e} (it ends at {last:.2e}); \
                 a schedule counts updates, and {} iterations / {} of accumulation are {0}",
                count(updates),
                count(warmup),
                count(config.iterations(facts.rows)),
                config.grad_accumulation_steps,
            ),
        );
    } else if let Some(end) = schedule.ends_after() {
        let share = updates as f64 / end as f64;
        if share < 0.75 {
            lints.warn(
                LintCode::DecayOutlastsRun,
                format!(
                    "{} updates of a schedule of {}: the rate ends at {last:.2e}, not at the \
                     schedule's end",
                    count(updates),
                    count(end),
                ),
            );
        } else if share > 1.25 {
            lints.warn(
                LintCode::RunOutlastsDecay,
                format!(
                    "{} updates, but the schedule ends after {}: the other {} run at {last:.2e}",
                    count(updates),
                    count(end),
                    count(updates - end),
                ),
            );
        }
    }
    if config.origin.has("learning_rate") {
        lints.note(
            LintCode::LearningRateUnused,
            format!(
                "`learning_rate` {:e} is not read beside an `lr_schedule`, which starts from {peak:e}",
                config.learning_rate,
            ),
        );
    }
    Ok(())
}

fn rows(config: &TrainConfig, facts: Facts, lints: &mut Lints) {
    let iterations = config.iterations(facts.rows);
    let seen = iterations.saturating_mul(config.batch_size as u64);
    let rows = facts.rows as u64;
    if seen < rows {
        let share = 100.0 * seen as f64 / rows as f64;
        lints.warn(
            LintCode::RowsUnseen,
            format!("{} of {} rows are seen ({share:.0} %)", count(seen), count(rows)),
        );
    } else if rows > 0 {
        let epochs = seen as f64 / rows as f64;
        lints.note(LintCode::Epochs, format!("{} rows are seen {epochs:.1} times", count(rows)));
    }
    let accumulation = config.grad_accumulation_steps as u64;
    if !iterations.is_multiple_of(accumulation) {
        lints.note(
            LintCode::PartialUpdate,
            format!(
                "the last update has {} of {accumulation} iterations; it is made all the same, \
                 where mlx-lm drops it",
                iterations % accumulation,
            ),
        );
    }
}

fn strength(config: &TrainConfig, lints: &mut Lints) {
    let (lora, scaling) = (&config.lora_parameters, config.nightshift.scaling);
    let formula = scaling.formula();
    match (lora.alpha_strength(scaling), lora.scale) {
        (Some(asked), Some(_)) => lints.note(
            LintCode::AlphaAgrees,
            format!("`{formula}` = {asked:?} agrees with `scale`, which alone counts"),
        ),
        (Some(asked), None) => lints.note(
            LintCode::ScaleFromAlpha,
            format!("`scale` not given: {asked:?}, from `{formula}`; mlx-lm would refuse the file"),
        ),
        (None, None) => lints.note(
            LintCode::SilentDefault,
            format!("`scale` not given: {:?}, mlx-lm's default", config.scale()),
        ),
        (None, Some(_)) => {}
    }
}

fn defaults(config: &TrainConfig, facts: Facts, lints: &mut Lints) -> Result<()> {
    if config.num_layers.is_none() && config.nightshift.layers.is_none() {
        let (taken, all) = (NumLayers::DEFAULT.min(facts.model_layers), facts.model_layers);
        let message = format!("`num_layers` not given: the last {taken} of {all}");
        match taken < all {
            true => lints.warn(LintCode::SilentDefault, message),
            false => lints.note(LintCode::SilentDefault, message),
        }
    }
    let spoken_for = [
        ("max_seq_length", format!("{} tokens, longer rows are cut", config.max_seq_length)),
        ("mask_prompt", "the loss is on prompts as well as on answers".to_owned()),
        ("optimizer", "adam, without weight decay or bias correction".to_owned()),
        ("batch_size", format!("{} rows", config.batch_size)),
        ("seed", config.seed.to_string()),
    ];
    for (key, what) in spoken_for {
        if !config.origin.has(key) {
            lints.note(LintCode::SilentDefault, format!("`{key}` not given: {what}"));
        }
    }
    if !config.origin.has("iters") && config.nightshift.epochs.is_none() {
        let message = format!("`iters` not given: {}", count(config.iters));
        lints.note(LintCode::SilentDefault, message);
    }
    if !config.origin.has("learning_rate") && config.lr_schedule.is_none() {
        let message = format!("`learning_rate` not given: {:e}", config.learning_rate);
        lints.note(LintCode::SilentDefault, message);
    }
    config.adapted_layers(facts.model_layers).map(drop)
}

fn without_effect(config: &TrainConfig, lints: &mut Lints) {
    let replaced = [
        ("grad_checkpoint", "layers are recomputed where memory asks for it"),
        ("clear_cache_threshold", "memory is bounded by `nightshift.memory_limit`"),
        ("report_to", "the report is `metrics.jsonl`"),
        ("project_name", "the report is `metrics.jsonl`"),
        ("trust_remote_code", "no code is loaded from a model folder"),
    ];
    for (key, instead) in replaced {
        if config.origin.has(key) {
            lints.note(LintCode::NoEffect, format!("`{key}` has no effect: {instead}"));
        }
    }
}

/// `keys` beyond the layers.
fn ends(config: &TrainConfig, facts: Facts, lints: &mut Lints) -> Result<()> {
    let lowest = config.adapted_layers(facts.model_layers)?.first().copied();
    let below = lowest.unwrap_or(facts.model_layers);
    let mut keys = config.lora_parameters.keys.iter().flatten();
    if let Some(key) = keys.find(|key| key.ends_with("embed_tokens")).filter(|_| below > 0) {
        lints.note(
            LintCode::WholeBackwardPass,
            format!(
                "`{key}` is among the keys: gradients go down to it through all {} layers, of which \
                 the first {below} have no adapter",
                facts.model_layers,
            ),
        );
    }
    Ok(())
}

/// A count with its thousands apart: `2,008`.
fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}
