//! Tonight: the preference phase.

use std::collections::BTreeMap;
use std::path::Path;

use chat_format::ChatTokenizer;
use lora_train::lint::{Facts, LintCode, lint};
use lora_train::metrics::WorkPlan;
use lora_train::{Bytes, Data, Dataset, TrainConfig, Trainer};
use models::Model;

use crate::error::Result;
use crate::format;
use crate::preference::preference_of;
use crate::preflight::finding::Finding;
use crate::preflight::lints::Lints;
use crate::preflight::rehearsal::Rehearsal;
use crate::stages::pair_rows::{PairCounts, RenderedPairs};

/// The recipe fits the supervised one, there are pairs that can be trained, and their plan is within the memory budget.
pub(super) fn preference_training(rehearsal: &Rehearsal<'_>) -> Finding {
    let Some(path) = &rehearsal.config.setup.preference else {
        return Finding::not_needed("the file has no `preference`");
    };
    let (Some(supervised), Some(enriched), Some(opened), Some(tokenizer)) = (
        rehearsal.recipe.done(),
        rehearsal.enriched.done(),
        rehearsal.opened.done(),
        rehearsal.tokenizer.done(),
    ) else {
        return Finding::not_run("needs recipe, rows, model and tokenizer");
    };
    let pairs = rehearsal.night.join(&enriched.splits.pairs.path);
    let allowed = &rehearsal.config.preflight.allow;
    let planned = preference_of(path, supervised)
        .and_then(|recipe| Planned::of(&recipe, &pairs, &opened.model, tokenizer, allowed));
    match planned {
        Ok(planned) => planned.finding(rehearsal.config.budgets.memory),
        Err(error) => Finding::failed(error),
    }
}

/// A preference phase that is planned, not run.
struct Planned {
    counts: PairCounts,
    updates: u64,
    warnings: Vec<String>,
    /// `None` without a pair to train.
    plan: Option<WorkPlan>,
}

impl Planned {
    fn of(
        recipe: &TrainConfig,
        pairs: &Path,
        model: &Model,
        tokenizer: &ChatTokenizer,
        allowed: &BTreeMap<LintCode, String>,
    ) -> Result<Self> {
        let RenderedPairs { pairs, counts, .. } =
            RenderedPairs::read(pairs, tokenizer, recipe.max_seq_length)?;
        let rows = pairs.len();
        let lints = lint(recipe, Facts { rows, model_layers: model.config().num_layers })?;
        let warnings = Lints::of(&lints, allowed).warnings;
        let plan = match rows {
            0 => None,
            _ => {
                let train = Dataset::pairs("train", pairs, recipe.max_seq_length)?;
                Some(Trainer::plan(model, recipe, &Data { train, valid: None, retention: None })?)
            }
        };
        Ok(Self { counts, updates: recipe.updates(rows), warnings, plan })
    }

    fn finding(&self, allowed: Option<Bytes>) -> Finding {
        let Self { counts, updates, warnings, plan } = self;
        let Some(plan) = plan else {
            return Finding::warning(format!("{counts}: the supervised adapter will go on"));
        };
        let expected = plan.estimated_memory_bytes;
        let text = format!("{counts}, {updates} updates, {} expected", format::bytes(expected));
        match allowed {
            Some(Bytes(allowed)) if expected > allowed => {
                Finding::failed(format!("{text}, {} allowed", format::bytes(allowed)))
            }
            _ if !warnings.is_empty() => {
                Finding::warning(format!("{text}; {}", warnings.join("; ")))
            }
            _ => Finding::passed(text),
        }
    }
}
