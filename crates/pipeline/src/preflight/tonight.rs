//! Tonight: the night as it would be.

use std::collections::BTreeSet;

use eval::Tier;
use lora_train::lint::{Facts, Severity, lint};
use models::Adapter;

use super::finding::Finding;
use super::scene::Scene;
use crate::error::Result;
use crate::home::Home;
use crate::nights;
use crate::registry::Registry;

/// With fewer held-out cases only large gains can be told from luck.
const FEW: usize = 30;

/// The recipe does what it seems to: a finding that is a warning when training starts is one too
/// many when there is still time to mend it.
pub(super) fn config_lints(scene: &Scene<'_>) -> Finding {
    let (Some(recipe), Some(enriched), Some(opened)) =
        (scene.training.done(), scene.enriched.done(), scene.opened.done())
    else {
        return Finding::skipped("needs recipe, rows and model");
    };
    let facts =
        Facts { rows: enriched.splits.train_rows, model_layers: opened.model.config().num_layers };
    let lints = match lint(recipe, facts) {
        Ok(lints) => lints,
        Err(error) => return Finding::failed(error),
    };
    let (warnings, notes): (Vec<_>, Vec<_>) =
        lints.into_iter().partition(|lint| lint.severity == Severity::Warning);
    let warnings: Vec<_> = warnings.into_iter().map(|lint| lint.message).collect();
    let notes = match notes.len() {
        1 => "1 note".to_owned(),
        count => format!("{count} notes"),
    };
    Finding::of(&warnings, format!("no warnings, {notes}"))
}

/// The adapters that serve, or may come back, fit the base model in every name and shape; where
/// there are none, the one of two iterations does.
pub(super) fn adapter_keys(scene: &Scene<'_>) -> Finding {
    let (Some(home), Some(opened)) = (scene.home.done(), scene.opened.done()) else {
        return Finding::skipped("needs home and model");
    };
    let registered = match registered(home) {
        Ok(registered) => registered,
        Err(error) => return Finding::failed(error),
    };
    let taken = scene.two_steps.done().and_then(|steps| steps.taken.as_ref());
    let own = taken.map(|taken| ("tonight's", taken.adapter.clone()));
    let folders = if registered.is_empty() { own.into_iter().collect() } else { registered };
    let mut problems = Vec::new();
    for (alias, folder) in &folders {
        if let Err(error) = Adapter::load(folder, &opened.model) {
            problems.push(format!("{alias}: {error}").replace('\n', " "));
        }
    }
    if folders.is_empty() {
        return Finding::skipped("no adapter is registered, and none was trained to try");
    }
    let names: Vec<_> = folders.iter().map(|(alias, _)| *alias).collect();
    Finding::of(&problems, format!("{}: every name and shape fits", names.join(", ")))
}

/// The adapters behind the aliases, once their content is found to be what it was.
fn registered(home: &Home) -> Result<Vec<(&'static str, std::path::PathBuf)>> {
    let registry = Registry::new(home);
    let state = registry.state()?;
    [("champion", state.champion), ("previous", state.previous)]
        .into_iter()
        .filter_map(|(alias, adapter)| Some((alias, adapter?)))
        .map(|(alias, adapter)| Ok((alias, registry.verified(adapter)?)))
        .collect()
}

/// The exam can decide something: it has held-out cases, and enough of them.
pub(super) fn suite_check(scene: &Scene<'_>) -> Finding {
    scene.suite.needed("the suite", |suite| {
        let held_out = suite.cases.iter().filter(|case| case.tier == Tier::HeldOut).count();
        let agents: BTreeSet<_> = suite.cases.iter().map(|case| &case.agent).collect();
        let text =
            format!("{held_out} of {} cases held out, {} agents", suite.cases.len(), agents.len());
        match held_out {
            0 => Finding::failed("expected a held-out case, found none: the gate could not decide"),
            few if few < FEW => Finding::warning(format!("{text}; {FEW} tell more")),
            _ => Finding::passed(text),
        }
    })
}

/// No row that is trained on comes near to a question of the exam.
pub(super) fn contamination(scene: &Scene<'_>) -> Finding {
    scene.enriched.needed("the training set", |enriched| {
        let cases = enriched.splits.contaminated.iter();
        let problems: Vec<_> =
            cases.map(|case| format!("a row comes near to case {case}")).collect();
        let left_out = enriched.splits.left_out;
        Finding::of(&problems, format!("none; {left_out} rows were left out"))
    })
}

/// Exam, gate, promotion, report: all of it, on the adapter of two iterations.
pub(super) fn dress_rehearsal(scene: &Scene<'_>) -> Finding {
    scene.dress.judge(|dress| Finding::passed(dress.figures.join("; ")))
}

/// How the last night ended.
pub(super) fn previous_night(scene: &Scene<'_>) -> Finding {
    scene.home.needed("the home", |home| {
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
                "{} stopped in {}; the next start goes on with it",
                last.id,
                nights::stopped_by(&journal).unwrap_or_else(|| "between two stages".to_owned()),
            )),
        }
    })
}
