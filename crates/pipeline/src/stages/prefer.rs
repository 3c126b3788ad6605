//! The stage `prefer`: trains the adapter further on the preference pairs of the data set.

use std::fmt;
use std::path::PathBuf;

use chat_format::ChatTokenizer;
use lora_train::metrics::Metrics;
use lora_train::preference::PreferenceMetrics;
use lora_train::{Data, Dataset, TrainConfig};
use serde::{Deserialize, Serialize};

use super::enrich::Splits;
use super::pair_rows::{PairCounts, RenderedPairs};
use super::train::TrainedAdapter;
use super::training_run::{self, LEFT_OUT, TrainingEnd, write_list};
use crate::base_model::BaseModel;
use crate::budget_monitor::StopReason;
use crate::error::Result;
use crate::stage::{Artefact, Stage, StageContext, determining};
use crate::stages::StageName;

#[derive(Serialize)]
pub(crate) struct Prefer<'a> {
    pub model: &'a BaseModel,
    #[serde(serialize_with = "Splits::trained_with_pairs")]
    pub splits: &'a Splits,
    /// The adapter to start from. Its digest covers the settings of `supervised`.
    #[serde(serialize_with = "TrainedAdapter::applied")]
    pub trained: &'a TrainedAdapter,
    /// The recipe of the phase, for the same adapter.
    #[serde(serialize_with = "determining")]
    pub recipe: &'a TrainConfig,
    /// That of the supervised training, which renders replay rows.
    #[serde(skip)]
    pub supervised: &'a TrainConfig,
    #[serde(skip)]
    pub max_refused_share: f64,
}

/// What the preference phase came to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Preferred {
    pub result: PhaseResult,
    /// Optimizer updates planned by the recipe.
    pub planned: u64,
    pub pairs: PairCounts,
    /// The list of pairs that are not trained.
    pub left_out: Artefact,
    /// What the updates say about their pairs; `None` without an update.
    pub change: Option<PreferenceChange>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PhaseResult {
    /// The adapter that is examined.
    Adapter(Box<TrainedAdapter>),
    /// The adapter of the supervised training goes on.
    Unchanged(Why),
}

/// Why a preference phase gives no adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Why {
    NoPairs,
    OutOfTime,
    /// No adapter was within `nightshift.retention.max_kl`, but perhaps the one that the phase starts with.
    TooFar,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoPairs => "there is no pair to train",
            Self::OutOfTime => "the time was spent",
            Self::TooFar => {
                "every later one moved further from the base than nightshift.retention.max_kl"
            }
        })
    }
}

/// Means over the pairs of the first and of the last tenth of the updates.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct PreferenceChange {
    /// The first tenth.
    pub first: PreferenceMetrics,
    /// The last tenth.
    pub last: PreferenceMetrics,
}

impl Stage for Prefer<'_> {
    const NAME: StageName = StageName::Prefer;
    const VERSION: u32 = 2;
    const ACROSS_NIGHTS: bool = true;
    type Output = Preferred;

    fn run(&self, ctx: &mut StageContext<'_>) -> Result<Preferred> {
        let tokenizer = ctx.tokenizer(&self.model.path)?;
        let path = self.splits.pairs.verified(ctx.night)?;
        let RenderedPairs { pairs, counts, set_aside } =
            RenderedPairs::read(&path, &tokenizer, self.recipe.max_seq_length)?;
        write_list(&ctx.dir.join(LEFT_OUT), &set_aside)?;
        let left_out = ctx.artefact(&ctx.dir.join(LEFT_OUT))?;
        let planned = self.recipe.updates(pairs.len());
        let unchanged = |why| PhaseResult::Unchanged(why);
        let (result, change) = match (pairs.is_empty(), ctx.budgets.stop(0)) {
            (_, Some(StopReason::Exhausted(error))) => return Err(error),
            (true, _) => (unchanged(Why::NoPairs), None),
            (false, Some(StopReason::Deadline)) => (unchanged(Why::OutOfTime), None),
            (false, None) => {
                let length = self.recipe.max_seq_length;
                let retention = self.retention(ctx, &tokenizer)?;
                let train = Dataset::pairs("train", pairs, length)?;
                self.train(ctx, Data { train, valid: None, retention }, planned)?
            }
        };
        Ok(Preferred { result, planned, pairs: counts, left_out, change })
    }

    fn artefacts(output: &Preferred) -> Vec<&Artefact> {
        let files = output.adapter().map_or(&[][..], |trained| &trained.files);
        files.iter().chain([&output.left_out]).collect()
    }

    fn is_complete(output: &Preferred) -> bool {
        output.partial().is_none()
    }

    fn describe(output: &Preferred) -> String {
        output.lines().join("; ")
    }
}

impl Prefer<'_> {
    /// Trains on the pairs, from the supervised adapter.
    fn train(
        &self,
        ctx: &mut StageContext<'_>,
        data: Data,
        planned: u64,
    ) -> Result<(PhaseResult, Option<PreferenceChange>)> {
        ctx.progress(0, 0, "opening the model, then the reference's log-probabilities");
        let model = lora_train::open_model(&self.model.path)?;
        let mut config = self.recipe.clone();
        // Names the reference's log-probabilities on disk.
        config.model = Some(self.model.path.clone());
        config.adapter_path = ctx.dir.to_path_buf();
        config.resume_adapter_file = Some(self.start(ctx)?);
        let best_only = config.nightshift.eval_best;
        let limited = config.nightshift.retention.is_some_and(|it| it.max_kl.is_some());
        let (outcome, end) = training_run::train(ctx, model, config, data)?;
        let change = PreferenceChange::of(&Metrics::read(ctx.dir.join("metrics.jsonl"))?);
        let none_within = limited && outcome.best.is_none_or(|best| best.step == 0);
        let result = match end {
            TrainingEnd::Deadline if outcome.step == 0 || none_within => {
                PhaseResult::Unchanged(Why::OutOfTime)
            }
            _ if none_within => PhaseResult::Unchanged(Why::TooFar),
            _ => {
                let trained = TrainedAdapter::of(ctx.night, ctx.dir, planned, end)?;
                let best = outcome.best.filter(|_| best_only);
                PhaseResult::Adapter(TrainedAdapter { best, ..trained }.into())
            }
        };
        Ok((result, change))
    }

    /// The weights of the supervised adapter, after a check of their content.
    fn start(&self, ctx: &StageContext<'_>) -> Result<PathBuf> {
        let path = self.trained.folder.join("adapters.safetensors");
        let weights = self.trained.files.iter().find(|file| file.path == path);
        weights.map_or(Ok(ctx.night.join(&path)), |file| file.verified(ctx.night))
    }

    /// The replay rows for `nightshift.retention`: none that the supervised training has trained.
    fn retention(
        &self,
        ctx: &StageContext<'_>,
        tokenizer: &ChatTokenizer,
    ) -> Result<Option<Dataset>> {
        let Some(retention) = self.recipe.nightshift.retention else { return Ok(None) };
        let mut config = self.supervised.clone();
        let held_back = config.nightshift.retention.is_some();
        config.nightshift.retention.get_or_insert(retention);
        let share = self.max_refused_share;
        let rendered = self.splits.rendered(ctx.night, tokenizer, &config, share)?;
        match held_back || rendered.held_back == 0 {
            true => Ok(rendered.data.retention),
            false => Err(lora_train::Error::Setting {
                location: self.recipe.origin.location("nightshift.retention"),
                key: "nightshift.retention".to_owned(),
                expected:
                    "replay rows in the validation split, or `nightshift.retention` in the file of \
                           `train` too, which holds some back"
                        .to_owned(),
                found: "none".to_owned(),
            }
            .into()),
        }
    }
}

impl Preferred {
    /// The adapter, if the phase gave one.
    pub fn adapter(&self) -> Option<&TrainedAdapter> {
        match &self.result {
            PhaseResult::Adapter(trained) => Some(trained),
            PhaseResult::Unchanged(_) => None,
        }
    }

    /// Updates done and planned, if the wall-clock budget ended the phase before its last update.
    pub fn partial(&self) -> Option<(u64, u64)> {
        match &self.result {
            PhaseResult::Adapter(trained) => Some((trained.updates, trained.partial()?)),
            PhaseResult::Unchanged(Why::OutOfTime) => Some((0, self.planned)),
            PhaseResult::Unchanged(_) => None,
        }
    }

    /// What came of the phase, and what changed for its pairs.
    pub fn lines(&self) -> Vec<String> {
        let result = match &self.result {
            PhaseResult::Adapter(trained) => {
                format!("{} of {} updates{}", trained.updates, self.planned, trained.chosen())
            }
            PhaseResult::Unchanged(why) => format!("the supervised adapter goes on: {why}"),
        };
        let change = self.change.map(|change| change.to_string());
        [format!("{result}, {}", self.pairs)].into_iter().chain(change).collect()
    }

    /// A warning if the chosen answers have become less likely.
    pub fn warning(&self) -> Option<String> {
        let PreferenceChange { last, .. } = self.change?;
        let change = last.chosen_change.filter(|_| last.chosen_falls())?;
        Some(format!(
            "preference: the chosen answers' log-probability is {:.2} below the reference's: the loss fell because the \
             rejected answers' fell more; add `sft` to `loss_type`, raise `beta` or lower `learning_rate`",
            -change
        ))
    }
}

impl PreferenceChange {
    fn of(metrics: &Metrics) -> Option<Self> {
        let all: Vec<PreferenceMetrics> =
            metrics.updates().filter_map(|update| update.preference).collect();
        let tenth = all.len().div_ceil(10);
        let first = PreferenceMetrics::mean(all.get(..tenth)?)?;
        Some(Self { first, last: PreferenceMetrics::mean(&all[all.len() - tenth..])? })
    }
}

impl fmt::Display for PreferenceChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last } = self;
        write!(
            f,
            "accuracy {:.2} to {:.2}, margin {:.3} to {:.3}, log-probability of the chosen answers {:.2} to {:.2}, of the \
             rejected {:.2} to {:.2}",
            first.accuracy,
            last.accuracy,
            first.margin,
            last.margin,
            first.chosen_logp,
            last.chosen_logp,
            first.rejected_logp,
            last.rejected_logp,
        )
    }
}

/// The adapters of a night.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trained<'a> {
    /// That of the supervised training.
    pub supervised: &'a TrainedAdapter,
    /// What the preference phase came to, if there was one.
    pub preferred: Option<&'a Preferred>,
}

impl<'a> Trained<'a> {
    /// The adapter that is examined.
    pub fn candidate(self) -> &'a TrainedAdapter {
        self.preferred.and_then(Preferred::adapter).unwrap_or(self.supervised)
    }

    /// What was done before the wall-clock budget was spent, such as `5 of 12 updates`, if it was.
    pub fn partial(self) -> Option<String> {
        let Self { supervised, preferred } = self;
        let rows = supervised
            .partial()
            .map(|planned| format!("{} of {planned} updates", supervised.updates));
        let pairs = preferred.and_then(Preferred::partial);
        let pairs = pairs.map(|(done, planned)| format!("{done} of {planned} preference updates"));
        let both: Vec<String> = rows.into_iter().chain(pairs).collect();
        (!both.is_empty()).then(|| both.join(" and "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phase(chosen_change: Option<f64>) -> Preferred {
        let mut last = PreferenceMetrics::default();
        (last.accuracy, last.margin, last.chosen_change) = (0.75, 1.5, chosen_change);
        Preferred {
            result: PhaseResult::Unchanged(Why::TooFar),
            planned: 9,
            pairs: PairCounts::default(),
            left_out: Artefact { path: "left-out.jsonl".into(), sha256: durable::digest("") },
            change: Some(PreferenceChange { last, ..PreferenceChange::default() }),
        }
    }

    #[test]
    fn a_fall_of_the_chosen_answers_is_a_warning() {
        let warning = phase(Some(-2.5)).warning().unwrap();
        assert!(warning.contains("log-probability is 2.50 below the reference's"), "{warning}");
        for change in [Some(-0.5), Some(3.0), None] {
            assert!(phase(change).warning().is_none(), "{change:?}");
        }
    }

    #[test]
    fn a_phase_is_said_in_two_lines_and_read_back() {
        let phase = phase(Some(0.5));
        let lines = phase.lines();
        assert_eq!(lines.len(), 2);
        assert!(
            lines[0].starts_with("the supervised adapter goes on: every later one"),
            "{lines:?}"
        );
        assert!(lines[1].starts_with("accuracy 0.00 to 0.75, margin 0.000 to 1.500"), "{lines:?}");
        let stored = serde_json::to_value(&phase).unwrap();
        let read: Preferred = serde_json::from_value(stored).unwrap();
        assert_eq!(read.lines(), lines);
        assert!(read.partial().is_none() && read.adapter().is_none());
    }
}
