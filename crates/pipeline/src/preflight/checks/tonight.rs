//! Tonight: whether the night can give a useful result.

use std::collections::BTreeSet;

use eval::Tier;
use lora_train::lint::{Facts, lint};
use models::Adapter;

use crate::base_model::BaseModel;
use crate::error::Result;
use crate::home::Home;
use crate::nights;
use crate::preflight::finding::Finding;
use crate::preflight::lints::Lints;
use crate::preflight::rehearsal::Rehearsal;
use crate::registry::Registry;
use crate::stages::fresh_exam::FreshSource;

/// With fewer held-out cases, only large gains are significant.
const FEW: usize = 30;

/// The recipe has no lint of severity warning but for those that the file allows. (Training only logs them; here
/// there is still time to fix them.)
pub(super) fn config_lints(rehearsal: &Rehearsal<'_>) -> Finding {
    let (Some(recipe), Some(enriched), Some(opened)) =
        (rehearsal.recipe.done(), rehearsal.enriched.done(), rehearsal.opened.done())
    else {
        return Finding::not_run("needs recipe, rows and model");
    };
    let facts =
        Facts { rows: enriched.splits.train_rows, model_layers: opened.model.config().num_layers };
    let lints = match lint(recipe, facts) {
        Ok(lints) => lints,
        Err(error) => return Finding::failed(error),
    };
    let Lints { warnings, allowed, notes } = Lints::of(&lints, &rehearsal.config.preflight.allow);
    let notes = match notes {
        1 => "1 note".to_owned(),
        count => format!("{count} notes"),
    };
    let passed = match allowed.is_empty() {
        true => format!("no warnings, {notes}"),
        false => format!("{notes}; allowed: {}", allowed.join("; ")),
    };
    Finding::of(&warnings, passed)
}

/// The champion and the previous champion match the base model in every tensor name and shape; if
/// there are none, the adapter of the two iterations does.
pub(super) fn adapter_keys(rehearsal: &Rehearsal<'_>) -> Finding {
    let (Some(home), Some(opened)) = (rehearsal.home.done(), rehearsal.opened.done()) else {
        return Finding::not_run("needs home and model");
    };
    let registered = match registered(home, &opened.base) {
        Ok(registered) => registered,
        Err(error) => return Finding::failed(error),
    };
    let taken = rehearsal.training.done().and_then(|steps| steps.run.as_ref());
    let own = taken.map(|taken| ("tonight's", rehearsal.night.join(&taken.trained.folder)));
    let folders = if registered.is_empty() { own.into_iter().collect() } else { registered };
    let mut problems = Vec::new();
    for (alias, folder) in &folders {
        if let Err(error) = Adapter::load(folder, &opened.model) {
            problems.push(format!("{alias}: {error}").replace('\n', " "));
        }
    }
    if folders.is_empty() {
        return Finding::not_run("no adapter is registered, and none was trained");
    }
    let names: Vec<_> = folders.iter().map(|(alias, _)| *alias).collect();
    Finding::of(&problems, format!("{}: every tensor name and shape matches", names.join(", ")))
}

/// The folders of champion and previous champion of a base model, after a check of their digests.
fn registered(home: &Home, base: &BaseModel) -> Result<Vec<(&'static str, std::path::PathBuf)>> {
    let registry = Registry::new(home);
    let state = registry.state()?.at(&base.path);
    [("champion", state.champion), ("previous", state.previous)]
        .into_iter()
        .filter_map(|(alias, adapter)| Some((alias, adapter?)))
        .map(|(alias, adapter)| Ok((alias, registry.verified(adapter)?)))
        .collect()
}

/// The suite has enough held-out cases for the gate to decide, and there is a source of fresh exams.
pub(super) fn suite_check(rehearsal: &Rehearsal<'_>) -> Finding {
    rehearsal.suite.needed("the suite", |suite| {
        let held_out = suite.cases.iter().filter(|case| case.tier == Tier::HeldOut).count();
        let agents: BTreeSet<_> = suite.cases.iter().map(|case| &case.agent).collect();
        let text =
            format!("{held_out} of {} cases held out, {} agents", suite.cases.len(), agents.len());
        let fresh = match FreshSource::read(&rehearsal.config, suite) {
            Ok(fresh) => fresh,
            Err(error) => return Finding::failed(error),
        };
        let text = format!("{text}; {fresh}");
        match (held_out, fresh) {
            (0, _) => {
                Finding::failed("expected held-out cases, found none: the gate could not decide")
            }
            (few, _) if few < FEW => {
                Finding::warning(format!("{text}; {FEW} or more are recommended"))
            }
            (_, FreshSource::None) => Finding::warning(text),
            _ => Finding::passed(text),
        }
    })
}

/// No training row is too similar to a question of the suite.
pub(super) fn contamination(rehearsal: &Rehearsal<'_>) -> Finding {
    rehearsal.enriched.needed("the training set", |enriched| {
        // Without their ids: what a held-out case asks is no business of whoever writes rows.
        let found = enriched.splits.contaminated.len();
        let problem =
            || format!("cases of the exam that training rows are too similar to: {found}");
        let problems: Vec<_> = (found > 0).then(problem).into_iter().collect();
        let left_out = enriched.splits.left_out;
        Finding::of(&problems, format!("none; {left_out} rows were dropped"))
    })
}

/// Exam, gate, promotion and report succeed with the adapter of two iterations.
pub(super) fn dress_rehearsal(rehearsal: &Rehearsal<'_>) -> Finding {
    rehearsal.evaluation.judge(|trial| Finding::passed(trial.figures.join("; ")))
}

/// The last night is finished.
pub(super) fn previous_night(rehearsal: &Rehearsal<'_>) -> Finding {
    rehearsal.home.needed("the home", |home| {
        let last = nights::list(home).and_then(|mut nights| {
            let Some(last) = nights.pop() else { return Ok(None) };
            let journal = last.journal(home)?;
            Ok(Some((last, journal)))
        });
        match last {
            Err(error) => Finding::failed(error),
            Ok(None) => Finding::passed("none yet"),
            Ok(Some((last, journal))) if journal.is_finished() => {
                Finding::passed(format!("{} is finished", last.id))
            }
            Ok(Some((last, journal))) => Finding::warning(format!(
                "{} stopped in {}; the next start resumes it",
                last.id,
                nights::stopped_by(&journal).unwrap_or_else(|| "between two stages".to_owned()),
            )),
        }
    })
}
