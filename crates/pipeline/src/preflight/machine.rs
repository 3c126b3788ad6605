//! Machine: what the night will find, apart from its own files.

use std::path::Path;

use jiff::civil::Date;
use jiff::tz::AmbiguousOffset;
use jiff::{ToSpan, Zoned};
use lora_train::memory::physical_memory;

use super::finding::Finding;
use super::scene::{Scene, Tried};
use crate::error::{Error, Result};
use crate::guards::free_space;
use crate::home::Home;
use crate::lock::Lock;
use crate::nights;
use crate::report::words;
use crate::schedule::{Loaded, Manager, Schedule};

/// Checkpoints and copies of an adapter that a night has on disk at once, in adapters: moments are
/// two more of each.
const COPIES: u64 = 3 * 3 + 3;

/// The home can be written to, and has room for the night above what the budget keeps free.
pub(super) fn disk(scene: &Scene<'_>) -> Finding {
    scene.home.judge(|home| {
        let free = match probe(home.path()).and_then(|()| free_space(home.path())) {
            Ok(free) => free,
            Err(error) => return Finding::failed(error),
        };
        let adapter = scene.dress.done().map_or(0, |dress| dress.adapter_bytes);
        let needed = scene.config.budgets.disk.0.saturating_add(COPIES * adapter);
        let text = format!("{} free, {} needed", words::bytes(free), words::bytes(needed));
        match free >= needed {
            true => Finding::passed(text),
            false => Finding::failed(format!("{}: {text}", home.path().display())),
        }
    })
}

/// Writes a file as the night would, and removes it.
fn probe(home: &Path) -> Result<()> {
    let path = home.join(".preflight-probe");
    durable::write(&path, "can be written")?;
    std::fs::remove_file(&path).map_err(crate::error::io_error(&path, "remove"))
}

/// The machine has the memory that the plan and the budget count on.
pub(super) fn memory(scene: &Scene<'_>) -> Finding {
    let Some(all) = physical_memory() else {
        return Finding::warning("this system does not tell how much there is");
    };
    let ceiling = scene.config.budgets.memory.map_or(0, |ceiling| ceiling.0);
    if ceiling > all {
        let (ceiling, all) = (words::bytes(ceiling), words::bytes(all));
        return Finding::failed(format!("`budgets.memory` is {ceiling}, the machine has {all}"));
    }
    scene.two_steps.needed("a plan", |steps| {
        let expected = steps.plan.estimated_memory_bytes;
        let text = format!("{} of {} planned", words::bytes(expected), words::bytes(all));
        match expected <= all {
            true => Finding::passed(text),
            false => Finding::failed(text),
        }
    })
}

/// Nobody is at work in the home.
pub(super) fn lock(scene: &Scene<'_>) -> Finding {
    scene.home.needed("the home", |home| match Lock::acquire(&home.lock_file()) {
        Ok(_) => Finding::passed("free"),
        Err(error) => Finding::failed(error),
    })
}

/// The clock has not gone back behind the last night, and one o'clock comes once.
pub(super) fn clock(scene: &Scene<'_>) -> Finding {
    scene.home.needed("the home", |home| match last_day(home) {
        Ok(last) => judge_clock(&scene.now, last),
        Err(error) => Finding::failed(error),
    })
}

fn last_day(home: &Home) -> Result<Option<Date>> {
    let last = nights::list(home)?.pop();
    Ok(last.and_then(|night| night.id.split_once('-')?.1.parse().ok()))
}

/// What there is to say about a clock that shows `now`, the last night having begun on a day.
pub(super) fn judge_clock(now: &Zoned, last: Option<Date>) -> Finding {
    if let Some(last) = last.filter(|last| *last > now.date()) {
        return Finding::failed(format!(
            "it is {}, and the last night began on {last}",
            now.date()
        ));
    }
    let day = if now.hour() < 1 { now.date() } else { now.date().saturating_add(1.day()) };
    let one = now.time_zone().to_ambiguous_zoned(day.at(1, 0, 0, 0));
    let zone = now.time_zone().iana_name().unwrap_or("a zone without a name");
    match one.offset() {
        AmbiguousOffset::Unambiguous { .. } => {
            Finding::passed(format!("{} in {zone}", now.strftime("%F %H:%M")))
        }
        AmbiguousOffset::Gap { .. } => Finding::passed(format!(
            "01:00 is skipped on {day} in {zone}: the timers fire after it"
        )),
        AmbiguousOffset::Fold { .. } => Finding::passed(format!(
            "01:00 comes twice on {day} in {zone}: the second finds nothing to do"
        )),
    }
}

/// What the system holds of the schedule, and which of its files are not as they should be.
#[derive(Debug)]
pub struct Timers {
    pub(super) loaded: Vec<Loaded>,
    pub(super) stale: Vec<String>,
}

impl Timers {
    /// Asks the system, and compares the files in `folder` with those that would be written.
    pub fn read(
        schedule: &Schedule,
        manager: &mut Manager<'_>,
        folder: &Path,
    ) -> std::result::Result<Self, Error> {
        let loaded = manager.status(schedule.jobs())?;
        let files = schedule.files(manager.system())?.into_iter();
        let same = |name: &str, text: &str| {
            std::fs::read_to_string(folder.join(name)).is_ok_and(|found| found == text)
        };
        let stale = files.filter(|file| !same(&file.name, &file.text)).map(|file| file.name);
        Ok(Self { loaded, stale: stale.collect() })
    }
}

/// The system, in its own words, will start the night; and its files are ours, byte by byte.
pub(super) fn schedule(scene: &Scene<'_>) -> Finding {
    const BY_HAND: &str = "nights start by hand, nothing is loaded";
    let timers = match &scene.timers {
        Tried::Done(Some(timers)) => timers,
        Tried::Done(None) => return Finding::skipped("nobody asked the system"),
        Tried::Failed(Error::Schedule { reason, .. }) => {
            return Finding::warning(format!("{BY_HAND}: {reason}"));
        }
        Tried::Failed(error) => return Finding::warning(format!("{BY_HAND}: {error}")),
        Tried::Missed(what) => return Finding::skipped(format!("needs {what}")),
    };
    let missing: Vec<_> = timers.loaded.iter().filter(|job| !job.loaded).collect();
    if missing.len() == timers.loaded.len() {
        return Finding::warning(format!("{BY_HAND} (`schedule install`)"));
    }
    let not_loaded = missing.iter().map(|job| format!("{} is not loaded: {}", job.label, job.says));
    let stale = timers.stale.iter().map(|name| format!("{name} is not what was installed"));
    let problems: Vec<_> = not_loaded.chain(stale).collect();
    let night = timers.loaded.iter().find(|job| job.label == crate::schedule::LABEL);
    Finding::of(&problems, night.map_or("loaded", |job| job.says.as_str()))
}
