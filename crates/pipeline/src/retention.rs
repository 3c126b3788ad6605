//! Deletes what is kept of earlier nights beyond the configured age and size.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jiff::civil::Date;

use crate::config::Retention;
use crate::error::{Result, io_error};
use crate::files;
use crate::format;
use crate::home::Home;
use crate::nights::{self, NightId};
use crate::registry::Registry;

/// What stays of a night: how it ended and why.
const STAYS: [&str; 7] = [
    "journal.jsonl",
    "summary.json",
    "rows.json",
    "row-digests.txt",
    "log.jsonl",
    "gate",
    "report",
];

impl Retention {
    /// Applies the limits after the night with the id `current`, on the date `today`. That night and unfinished ones stay
    /// whole, and the registry keeps champion, previous champion and candidate.
    pub(crate) fn apply(
        &self,
        home: &Home,
        registry: &Registry,
        current: &str,
        today: Date,
    ) -> Result<()> {
        registry.prune(self.adapters)?;
        let mut answers = kept_answers(home)?;
        let finished = |night: &NightId| night.journal(home).is_ok_and(|it| it.is_finished());
        let mut earlier: Vec<_> =
            nights::list(home)?.into_iter().filter(|night| night.id != current).collect();
        earlier.retain(finished);
        if let Some(days) = self.nights {
            let oldest = today.saturating_sub(jiff::Span::new().days(i64::from(days.0)));
            let is_old =
                |night: &&NightId| nights::start_date(&night.id).is_some_and(|date| date < oldest);
            earlier.iter().filter(is_old).try_for_each(|night| strip(&night.dir(home)))?;
            let last_written = |modified: &SystemTime| {
                let written = jiff::Timestamp::try_from(*modified).unwrap_or(jiff::Timestamp::MAX);
                written.to_zoned(jiff::tz::TimeZone::system()).date()
            };
            answers
                .extract_if(.., |(modified, _)| last_written(modified) < oldest)
                .try_for_each(|(_, path)| delete(&path))?;
        }
        let Some(limit) = self.size else { return Ok(()) };
        let mut answers = answers.into_iter();
        let mut nights = earlier.iter();
        let mut adapters = (0..self.adapters).rev();
        loop {
            let taken = size(home.path())?;
            if taken <= limit.0 {
                return Ok(());
            }
            if let Some((_, path)) = answers.next() {
                delete(&path)?;
            } else if let Some(night) = nights.next() {
                strip(&night.dir(home))?;
            } else if let Some(keep) = adapters.next() {
                registry.prune(keep)?;
            } else {
                let (taken, limit) = (format::bytes(taken), format::bytes(limit.0));
                tracing::warn!(
                    "the home takes {taken}; retention.size is {limit}, but what is left is needed"
                );
                return Ok(());
            }
        }
    }
}

/// Deletes everything of a night but how it ended.
fn strip(night: &Path) -> Result<()> {
    for path in files::list(night)? {
        let name = path.file_name().unwrap_or_default();
        if STAYS.iter().any(|stays| name == *stays) {
            continue;
        }
        delete(&path)?;
    }
    Ok(())
}

fn delete(path: &Path) -> Result<()> {
    let deleted = match path.is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    };
    deleted.map_err(io_error(path, "delete"))
}

/// The files with models' answers that spare a later night the asking, those written longest ago first.
fn kept_answers(home: &Home) -> Result<Vec<(SystemTime, PathBuf)>> {
    let mut found = vec![];
    for folder in [home.answers(), home.replay()].into_iter().filter(|folder| folder.exists()) {
        for (path, about) in files::below(&folder)? {
            found.push((about.modified().map_err(io_error(&path, "look at"))?, path));
        }
    }
    found.sort();
    Ok(found)
}

/// The bytes of all files below a folder. A file with several names counts once.
fn size(folder: &Path) -> Result<u64> {
    let mut seen = HashSet::new();
    let files = files::below(folder)?.into_iter().map(|(_, about)| about);
    Ok(files.filter(|it| seen.insert((it.dev(), it.ino()))).map(|about| about.len()).sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Days;
    use crate::journal::Entry;
    use crate::registry::Requester;

    /// A home with these nights of 1 kB each, of which the last is unfinished, and three adapters of 1 kB: the champion, the one
    /// before it, and an older one.
    fn home(folder: &Path, nights: &[&str]) -> (Home, Registry) {
        let home = Home::open(folder.join("home")).unwrap();
        for (number, id) in nights.iter().enumerate() {
            let night = NightId { number: number as u32, id: (*id).to_owned() };
            let dir = night.dir(&home);
            fs::create_dir_all(dir.join("enrich")).unwrap();
            fs::create_dir_all(dir.join("report")).unwrap();
            fs::write(dir.join("enrich/train.jsonl"), vec![b' '; 1000]).unwrap();
            fs::write(dir.join("report/report.html"), "page").unwrap();
            let mut journal = night.journal(&home).unwrap();
            if number + 1 < nights.len() {
                journal.append(Entry::NightFinished).unwrap();
            }
        }
        let registry = Registry::new(&home);
        let base = registry.of(durable::digest("model"), "model");
        for name in ["a", "b", "c"] {
            let trained = folder.join(name);
            fs::create_dir(&trained).unwrap();
            fs::write(trained.join("adapter_config.json"), name).unwrap();
            fs::write(trained.join("adapters.safetensors"), vec![0; 1000]).unwrap();
            let adapter = base.nominate(&trained).unwrap();
            base.promote(adapter, Requester::Operator, "test").unwrap();
        }
        (home, registry)
    }

    /// The nights that still have their rows, and the number of adapters.
    fn left(home: &Home) -> (Vec<String>, usize) {
        let whole = nights::list(home).unwrap().into_iter();
        let whole = whole.filter(|night| night.dir(home).join("enrich").exists());
        let whole: Vec<_> = whole.map(|night| night.id).collect();
        for night in nights::list(home).unwrap() {
            assert!(night.dir(home).join("report/report.html").exists(), "{}", night.id);
        }
        (whole, files::list(&home.adapters()).unwrap().len())
    }

    #[test]
    fn old_nights_lose_their_files_and_the_others_nothing() {
        let nights = ["0001-2026-01-01", "0002-2026-03-01", "0003-2026-04-07", "0004-2026-01-02"];
        let all = |ids: &[usize]| ids.iter().map(|&i| nights[i].to_owned()).collect::<Vec<_>>();
        let folder = tempfile::tempdir().unwrap();
        let (home, registry) = home(folder.path(), &nights);
        let today = "2026-04-08".parse().unwrap();
        let apply = |retention: Retention| {
            retention.apply(&home, &registry, "0003-2026-04-07", today).unwrap();
            left(&home)
        };
        assert_eq!(apply(Retention::default()), (all(&[0, 1, 2, 3]), 3));
        let days = |days| Retention { nights: Some(Days(days)), ..Retention::default() };
        assert_eq!(apply(days(200)), (all(&[0, 1, 2, 3]), 3));
        // The last two: the night that has just ended, and an unfinished one.
        assert_eq!(apply(days(60)), (all(&[1, 2, 3]), 3));
        let limit = |bytes| {
            let size = Some(lora_train::Bytes(bytes));
            Retention { size, ..Retention::default() }
        };
        let now = size(home.path()).unwrap();
        assert_eq!(apply(limit(now + 5_000)), (all(&[1, 2, 3]), 3));
        assert_eq!(apply(limit(now - 500)), (all(&[2, 3]), 3));
        // Nothing that is protected goes, however small the limit.
        assert_eq!(apply(limit(1)), (all(&[2, 3]), 2));
        let state = registry.of(durable::digest("model"), "model").state().unwrap();
        registry.verified(state.champion.unwrap()).unwrap();
        registry.verified(state.previous.unwrap()).unwrap();
    }

    #[test]
    fn answers_of_models_go_first_and_with_age() {
        let folder = tempfile::tempdir().unwrap();
        let (home, registry) = home(folder.path(), &["0001-2026-04-01", "0002-2026-04-07"]);
        let answers = |base: &str| home.answers().join(base).join("adapter.jsonl");
        let files = [answers("abandoned"), answers("used"), home.replay().join("a.jsonl")];
        for (path, date) in files.iter().zip(["2025-11-01", "2026-04-07", "2026-04-08"]) {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, vec![b' '; 1000]).unwrap();
            let noon = format!("{date}T12:00Z").parse::<jiff::Timestamp>().unwrap();
            fs::File::open(path).unwrap().set_modified(noon.into()).unwrap();
        }
        let apply = |retention: Retention| {
            let today = "2026-04-08".parse().unwrap();
            retention.apply(&home, &registry, "0002-2026-04-07", today).unwrap();
            files.each_ref().map(|path| path.exists())
        };
        assert_eq!(apply(Retention::default()), [true, true, true]);
        let age = Retention { nights: Some(Days(90)), ..Retention::default() };
        assert_eq!(apply(age), [false, true, true]);
        let limit = Some(lora_train::Bytes(size(home.path()).unwrap() - 500));
        assert_eq!(apply(Retention { size: limit, ..Retention::default() }), [false, false, true]);
        assert_eq!(left(&home).0.len(), 2, "a night lost its files before answers did");
    }

    #[test]
    fn a_file_with_two_names_counts_once() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.safetensors"), vec![0; 1000]).unwrap();
        fs::create_dir(folder.path().join("b")).unwrap();
        fs::hard_link(folder.path().join("a.safetensors"), folder.path().join("b/c")).unwrap();
        fs::write(folder.path().join("b/d"), vec![0; 10]).unwrap();
        assert_eq!(size(folder.path()).unwrap(), 1010);
    }
}
