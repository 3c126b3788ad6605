//! Machine: disk, memory, lock, clock and schedule.

use std::path::Path;

use jiff::civil::Date;
use jiff::tz::AmbiguousOffset;
use jiff::{ToSpan, Zoned};
use lora_train::memory::device_memory;

use crate::budget_monitor::free_space;
use crate::error::{Error, Result, io_error};
use crate::format;
use crate::home::Home;
use crate::lock::Lock;
use crate::nights;
use crate::preflight::attempt::Attempt;
use crate::preflight::finding::Finding;
use crate::preflight::memory::check_exam;
use crate::preflight::rehearsal::Rehearsal;

/// Disk space of a night in adapters: three checkpoints with two optimizer moments each, and three
/// copies of the adapter.
const COPIES: u64 = 3 * 3 + 3;

/// The home is writable, and its disk has room for the night in addition to `budgets.disk`.
pub(super) fn disk(rehearsal: &Rehearsal<'_>) -> Finding {
    rehearsal.home.judge(|home| {
        let free = match probe(home.path()).and_then(|()| free_space(home.path())) {
            Ok(free) => free,
            Err(error) => return Finding::failed(error),
        };
        let adapter = rehearsal.evaluation.done().map_or(0, |trial| trial.adapter_bytes);
        let needed = rehearsal.config.budgets.disk.0.saturating_add(COPIES * adapter);
        let text = format!("{} free, {} needed", format::bytes(free), format::bytes(needed));
        match free >= needed {
            true => Finding::passed(text),
            false => Finding::failed(format!("{}: {text}", home.path().display())),
        }
    })
}

/// Writes a file and removes it.
fn probe(home: &Path) -> Result<()> {
    let path = home.join(".preflight-probe");
    durable::write(&path, "writable")?;
    std::fs::remove_file(&path).map_err(io_error(&path, "remove"))
}

/// The device has the memory of the plan, of the exams, and of `budgets.memory`.
pub(super) fn memory(rehearsal: &Rehearsal<'_>) -> Finding {
    let Some(all) = device_memory() else {
        return Finding::not_run("the memory of this device is not known");
    };
    let ceiling = rehearsal.config.budgets.memory.map_or(0, |ceiling| ceiling.0);
    if ceiling > all {
        let (ceiling, all) = (format::bytes(ceiling), format::bytes(all));
        return Finding::failed(format!("`budgets.memory` is {ceiling}, the device has {all}"));
    }
    if let (Some(recipe), Some(opened)) = (rehearsal.recipe.done(), rehearsal.opened.done())
        && let (Some(suite), Some(tokenizer)) = (rehearsal.suite.done(), rehearsal.tokenizer.done())
        && let Err(error) =
            check_exam(&rehearsal.config, recipe, suite.council(), (&opened.model, tokenizer))
    {
        return Finding::failed(error);
    }
    rehearsal.training.needed("a plan", |steps| {
        let expected = steps.plan.estimated_memory_bytes;
        let text = format!("{} of {} planned", format::bytes(expected), format::bytes(all));
        match expected <= all {
            true => Finding::passed(text),
            false => Finding::failed(text),
        }
    })
}

/// The home is not in use.
pub(super) fn lock(rehearsal: &Rehearsal<'_>) -> Finding {
    rehearsal.home.needed("the home", |home| match Lock::acquire(&home.lock_file()) {
        Ok(_) => Finding::passed("free"),
        Err(error) => Finding::failed(error),
    })
}

/// The clock is not set back before the last night. Tells if 01:00 is skipped or repeated.
pub(super) fn clock(rehearsal: &Rehearsal<'_>) -> Finding {
    rehearsal.home.needed("the home", |home| match last_day(home) {
        Ok(last) => judge_clock(&rehearsal.now, last),
        Err(error) => Finding::failed(error),
    })
}

fn last_day(home: &Home) -> Result<Option<Date>> {
    let last = nights::list(home)?.pop();
    Ok(last.and_then(|night| nights::start_date(&night.id)))
}

/// The finding for a clock that shows `now`, given the start date of the last night.
pub(in crate::preflight) fn judge_clock(now: &Zoned, last: Option<Date>) -> Finding {
    if let Some(last) = last.filter(|last| *last > now.date()) {
        return Finding::failed(format!(
            "it is {}, and the last night began on {last}",
            now.date()
        ));
    }
    let day = if now.hour() < 1 { now.date() } else { now.date().saturating_add(1.day()) };
    let one = now.time_zone().to_ambiguous_zoned(day.at(1, 0, 0, 0));
    let zone = now.time_zone().iana_name().unwrap_or("an unnamed zone");
    match one.offset() {
        AmbiguousOffset::Unambiguous { .. } => {
            Finding::passed(format!("{} in {zone}", now.strftime("%F %H:%M")))
        }
        AmbiguousOffset::Gap { .. } => Finding::passed(format!(
            "01:00 is skipped on {day} in {zone}: the night starts at a later time"
        )),
        AmbiguousOffset::Fold { .. } => Finding::passed(format!(
            "01:00 comes twice on {day} in {zone}: the second finds nothing to do"
        )),
    }
}

/// The system has loaded all jobs, and their files are those that `schedule install` writes.
pub(super) fn schedule(rehearsal: &Rehearsal<'_>) -> Finding {
    const BY_HAND: &str = "no job is loaded, nights start by hand";
    let status = match &rehearsal.schedule {
        Attempt::Done(Some(status)) => status,
        Attempt::Done(None) => return Finding::not_needed("nobody asked for it"),
        Attempt::Failed(Error::Schedule { reason, .. }) => {
            return Finding::warning(format!("{BY_HAND}: {reason}"));
        }
        Attempt::Failed(error) => return Finding::warning(format!("{BY_HAND}: {error}")),
        Attempt::NotTried(why) => return Finding::not_run(why),
    };
    let missing: Vec<_> = status.jobs.iter().filter(|job| !job.loaded).collect();
    if missing.len() == status.jobs.len() {
        return Finding::warning(format!("{BY_HAND} (`schedule install`)"));
    }
    let not_loaded =
        missing.iter().map(|job| format!("{} is not loaded: {}", job.label, job.detail));
    let stale = status.stale.iter().map(|name| {
        format!("{name} is not what was installed, or the program or its environment has changed")
    });
    let problems: Vec<_> = not_loaded.chain(stale).collect();
    let night = status.jobs.iter().find(|job| job.label == crate::schedule::LABEL);
    Finding::of(&problems, night.map_or("loaded", |job| job.detail.as_str()))
}

/// The variables that addresses and tokens of notifications name are set.
pub(super) fn notifications(rehearsal: &Rehearsal<'_>) -> Finding {
    let notify = &rehearsal.config.notify;
    let ways = [
        ("a command", !notify.command.is_empty()),
        ("a webhook", notify.webhook.is_some()),
        ("the desktop", notify.desktop),
    ];
    let ways: Vec<_> = ways.into_iter().filter_map(|(way, set)| set.then_some(way)).collect();
    if ways.is_empty() {
        return Finding::not_needed("none are configured");
    }
    let what = if notify.include_conversations { "conversations too" } else { "no conversations" };
    Finding::of(&notify.unset(), format!("to {}, {what}", ways.join(", ")))
}
