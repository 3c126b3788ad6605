//! Checks of a valid configuration for settings that are likely not intended: a schedule that ends
//! during warm-up, rows that are never seen, defaults that matter.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::{NumLayers, TrainConfig, TrainMode};
use crate::{Result, Schedule};

/// The data and the model of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Training rows.
    pub rows: usize,
    /// Decoder layers of the model.
    pub model_layers: usize,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Lint {
    /// The kind of finding.
    pub code: LintCode,
    /// Its severity.
    pub severity: Severity,
    /// The finding in a sentence, with its numbers.
    pub message: String,
}

impl fmt::Display for Lint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.severity, self.message)
    }
}

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// For information.
    Note,
    /// Probably not intended.
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

/// The kinds of findings. Each has a name in snake case, such as `rows_unseen`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LintCode {
    /// The run ends during the warm-up.
    WarmupOutlastsRun,
    /// The run ends long before the learning rate has decayed.
    DecayOutlastsRun,
    /// The run continues long after the learning rate has decayed.
    RunOutlastsDecay,
    /// Not every row is seen.
    RowsUnseen,
    /// How often the rows are seen.
    Epochs,
    /// The last update has fewer iterations than the others.
    PartialUpdate,
    /// `alpha` is redundant: it agrees with `scale`.
    AlphaAgrees,
    /// The scale was computed from `alpha`.
    ScaleFromAlpha,
    /// A key is absent whose default matters.
    SilentDefault,
    /// `learning_rate` is unused because there is an `lr_schedule`.
    LearningRateUnused,
    /// The key has no effect and is read for compatibility.
    NoEffect,
    /// The embedding is adapted, so the backward pass goes through layers without an adapter.
    WholeBackwardPass,
}

impl fmt::Display for LintCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The name that serde gives to a variant without fields.
        self.serialize(f)
    }
}

/// The findings for a run, warnings first.
///
/// # Errors
/// As for [`Schedule::new`] and [`TrainConfig::adapted_layers`].
pub fn lint(config: &TrainConfig, facts: Facts) -> Result<Vec<Lint>> {
    let mut lints = Lints::default();
    schedule(config, facts, &mut lints)?;
    rows(config, facts, &mut lints);
    scale(config, &mut lints);
    defaults(config, facts, &mut lints)?;
    without_effect(config, &mut lints);
    embeddings(config, facts, &mut lints)?;
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
                "the last update has {} of {accumulation} iterations; it is made anyway, while mlx-lm \
                 drops it",
                iterations % accumulation,
            ),
        );
    }
}

fn scale(config: &TrainConfig, lints: &mut Lints) {
    let (lora, scaling) = (&config.lora_parameters, config.nightshift.scaling);
    let formula = scaling.formula();
    match (lora.alpha_scale(scaling), lora.scale) {
        (Some(implied), Some(_)) => lints.note(
            LintCode::AlphaAgrees,
            format!("`{formula}` = {implied:?} agrees with `scale`, which is the one used"),
        ),
        (Some(implied), None) => lints.note(
            LintCode::ScaleFromAlpha,
            format!(
                "`scale` not given: {implied:?}, from `{formula}`; mlx-lm would refuse the file"
            ),
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
    let others = [
        ("max_seq_length", format!("{} tokens, longer rows are cut", config.max_seq_length)),
        ("mask_prompt", "the loss is on prompts as well as on answers".to_owned()),
        ("optimizer", "adam, without weight decay or bias correction".to_owned()),
        ("batch_size", format!("{} rows", config.batch_size)),
        ("seed", config.seed.to_string()),
    ];
    let rows = config.mode() == TrainMode::Sft;
    for (key, what) in others {
        if !config.origin.has(key) && (rows || key != "mask_prompt") {
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
    preference_defaults(config, lints);
    config.adapted_layers(facts.model_layers).map(drop)
}

fn preference_defaults(config: &TrainConfig, lints: &mut Lints) {
    let Some(objective) = config.objective() else { return };
    if !config.origin.has("beta") {
        let message = format!("`beta` not given: {}", TrainConfig::DEFAULT_BETA);
        lints.note(LintCode::SilentDefault, message);
    }
    let chosen = config.origin.has("nightshift.reference") || config.reference_model_path.is_some();
    if objective.needs_reference() && config.resume_adapter_file.is_some() && !chosen {
        let message = "`nightshift.reference` not given: start, the model with the adapter of \
                       `resume_adapter_file`";
        lints.note(LintCode::SilentDefault, message);
    }
}

fn without_effect(config: &TrainConfig, lints: &mut Lints) {
    let replaced = [
        ("grad_checkpoint", "layers are recomputed if memory requires it"),
        ("clear_cache_threshold", "memory is bounded by `nightshift.memory_limit`"),
        ("report_to", "metrics go to `metrics.jsonl`"),
        ("project_name", "metrics go to `metrics.jsonl`"),
        ("trust_remote_code", "no code is loaded from a model folder"),
        ("precompute_ref_log_probs", "the reference's log-probabilities are always computed once"),
        ("reward_scaling", "nothing reads it, nor does mlx-lm-lora"),
    ];
    let replaced = replaced.into_iter().filter(|(key, _)| config.origin.has(key));
    let unread = config.unread_preference_keys();
    let all = replaced.map(|(key, instead)| (key, instead.to_owned())).chain(unread);
    for (key, instead) in all {
        lints.note(LintCode::NoEffect, format!("`{key}` has no effect: {instead}"));
    }
}

fn embeddings(config: &TrainConfig, facts: Facts, lints: &mut Lints) -> Result<()> {
    let lowest = config.adapted_layers(facts.model_layers)?.first().copied();
    let below = lowest.unwrap_or(facts.model_layers);
    let mut keys = config.lora_parameters.keys.iter().flatten();
    if let Some(key) = keys.find(|key| key.ends_with("embed_tokens")).filter(|_| below > 0) {
        lints.note(
            LintCode::WholeBackwardPass,
            format!(
                "`{key}` is adapted: the backward pass goes through all {} layers, of which the \
                 first {below} have no adapter",
                facts.model_layers,
            ),
        );
    }
    Ok(())
}

/// A count with thousands separators: `2,008`.
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
