//! The nights of a home, by number and day.

use std::path::PathBuf;

use jiff::Zoned;

use crate::error::Result;
use crate::files;
use crate::home::Home;
use crate::journal::{Entry, Journal};

/// One night of a home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NightId {
    /// Counted from 1 over the life of the home.
    pub number: u32,
    /// The number and the day it began, which is also its folder's name.
    pub id: String,
}

impl NightId {
    /// The night of that number, beginning now.
    pub fn new(number: u32, now: &Zoned) -> Self {
        Self { number, id: format!("{number:04}-{}", now.date()) }
    }

    /// Its folder.
    pub fn dir(&self, home: &Home) -> PathBuf {
        home.nights().join(&self.id)
    }

    /// Whether it began on the day of `now`, as that day is called where the machine is.
    pub fn is_of(&self, now: &Zoned) -> bool {
        self.id.ends_with(&now.date().to_string())
    }

    /// What its journal says.
    pub fn journal(&self, home: &Home) -> Result<Journal> {
        Journal::open(self.dir(home).join("journal.jsonl"))
    }
}

/// All nights, first to last. Numbers, not dates, decide: clocks can go back.
pub(crate) fn list(home: &Home) -> Result<Vec<NightId>> {
    let of = |path: PathBuf| {
        let id = path.file_name()?.to_string_lossy().into_owned();
        let number = id.split_once('-')?.0.parse().ok()?;
        Some(NightId { number, id })
    };
    let mut nights: Vec<_> = files::list(&home.nights())?.into_iter().filter_map(of).collect();
    nights.sort_by_key(|night| night.number);
    Ok(nights)
}

/// The night that a start at this moment works on: the last one if it is unfinished, else a new one.
pub(crate) fn next(home: &Home, now: &Zoned) -> Result<NightId> {
    Ok(match list(home)?.pop() {
        None => NightId::new(1, now),
        Some(last) if last.journal(home)?.is_finished() => NightId::new(last.number + 1, now),
        Some(last) => last,
    })
}

/// Like [`next`], but none if the last night is finished and began today.
pub(crate) fn next_of_day(home: &Home, now: &Zoned) -> Result<Option<NightId>> {
    match list(home)?.pop() {
        Some(last) if last.is_of(now) && last.journal(home)?.is_finished() => Ok(None),
        _ => next(home, now).map(Some),
    }
}

/// Why the last start of a night stopped, in its journal's words; `None` if it did not stop.
pub(crate) fn stopped_by(journal: &Journal) -> Option<String> {
    match journal.entries().last()? {
        Entry::StageFailed { stage, message } => Some(format!("{stage}: {message}")),
        Entry::StageBegun { stage, .. } => Some(format!("{stage}: the process ended")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    struct Place {
        home: Home,
        _dir: tempfile::TempDir,
    }

    fn place() -> Place {
        let dir = tempfile::tempdir().unwrap();
        Place { home: Home::open(dir.path().join("home")).unwrap(), _dir: dir }
    }

    impl Place {
        /// Does what a start at this moment has to do, and finishes the night at once.
        fn night(&self, now: &str) -> Option<String> {
            let now: Zoned = now.parse().unwrap();
            let night = next_of_day(&self.home, &now).unwrap()?;
            fs::create_dir_all(night.dir(&self.home)).unwrap();
            night.journal(&self.home).unwrap().append(Entry::NightFinished).unwrap();
            Some(night.id)
        }
    }

    /// Starts one after the other, and the nights that they should be.
    fn check(starts: &[(&str, Option<&str>)]) {
        let place = place();
        for (now, expected) in starts {
            assert_eq!(place.night(now).as_deref(), *expected, "{now}");
        }
    }

    #[test]
    fn a_day_is_one_night_whatever_midnight_does() {
        check(&[
            ("2026-04-08T23:59:00+00:00[UTC]", Some("0001-2026-04-08")),
            ("2026-04-09T00:01:00+00:00[UTC]", Some("0002-2026-04-09")),
            ("2026-04-09T01:00:00+00:00[UTC]", None),
            ("2026-04-09T01:20:00+00:00[UTC]", None),
            ("2026-04-10T01:00:00+00:00[UTC]", Some("0003-2026-04-10")),
        ]);
    }

    #[test]
    fn an_hour_that_comes_twice_is_one_night() {
        check(&[
            ("2026-11-01T01:00:00-04:00[America/Montreal]", Some("0001-2026-11-01")),
            ("2026-11-01T01:00:00-05:00[America/Montreal]", None),
            ("2026-11-01T01:20:00-05:00[America/Montreal]", None),
        ]);
    }

    #[test]
    fn an_hour_that_does_not_come_is_one_night_all_the_same() {
        // In London one o'clock is skipped; timers fire at two.
        check(&[
            ("2026-03-28T01:00:00+00:00[Europe/London]", Some("0001-2026-03-28")),
            ("2026-03-29T02:00:00+01:00[Europe/London]", Some("0002-2026-03-29")),
            ("2026-03-29T02:20:00+01:00[Europe/London]", None),
        ]);
    }

    #[test]
    fn a_clock_that_goes_back_loses_no_night_and_makes_none_twice() {
        check(&[
            ("2026-04-10T01:00:00+00:00[UTC]", Some("0001-2026-04-10")),
            ("2026-04-08T01:00:00+00:00[UTC]", Some("0002-2026-04-08")),
            ("2026-04-08T01:20:00+00:00[UTC]", None),
            ("1970-01-01T01:00:00+00:00[UTC]", Some("0003-1970-01-01")),
            ("2026-04-10T01:20:00+00:00[UTC]", Some("0004-2026-04-10")),
        ]);
    }

    #[test]
    fn an_unfinished_night_is_gone_on_with_on_any_day() {
        let place = place();
        let now: Zoned = "2026-04-08T01:00:00+00:00[UTC]".parse().unwrap();
        let night = next(&place.home, &now).unwrap();
        fs::create_dir_all(night.dir(&place.home)).unwrap();
        let later: Zoned = "2026-04-11T01:00:00+00:00[UTC]".parse().unwrap();
        assert_eq!(next_of_day(&place.home, &later).unwrap(), Some(night));
    }
}
