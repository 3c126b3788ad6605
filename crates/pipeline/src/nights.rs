//! The nights of a home: their ids, and which one a start works on.

use std::path::PathBuf;

use jiff::Zoned;
use jiff::civil::Date;

use crate::error::Result;
use crate::files;
use crate::home::Home;
use crate::journal::{Entry, Journal};

/// One night of a home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NightId {
    /// Counted from 1 within the home.
    pub number: u32,
    /// Number and start date; also the name of its folder.
    pub id: String,
}

impl NightId {
    /// The night with this number, beginning at `now`.
    pub fn new(number: u32, now: &Zoned) -> Self {
        Self { number, id: format!("{number:04}-{}", now.date()) }
    }

    pub fn dir(&self, home: &Home) -> PathBuf {
        home.nights().join(&self.id)
    }

    /// Whether it began on the local date of `now`.
    pub fn is_of(&self, now: &Zoned) -> bool {
        self.id.ends_with(&now.date().to_string())
    }

    pub fn journal(&self, home: &Home) -> Result<Journal> {
        Journal::open(self.dir(home).join("journal.jsonl"))
    }
}

/// The start date in a night's id.
pub(crate) fn start_date(id: &str) -> Option<Date> {
    id.split_once('-')?.1.parse().ok()
}

/// All nights, ordered by number, as a clock can be set back.
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

/// The night that a start at `now` works on: the last one if it is unfinished, else a new one.
pub(crate) fn next(home: &Home, now: &Zoned) -> Result<NightId> {
    Ok(match list(home)?.pop() {
        None => NightId::new(1, now),
        Some(last) if last.journal(home)?.is_finished() => NightId::new(last.number + 1, now),
        Some(last) => last,
    })
}

/// Like [`next`], but `None` if the last night is finished and began today.
pub(crate) fn next_of_day(home: &Home, now: &Zoned) -> Result<Option<NightId>> {
    match list(home)?.pop() {
        Some(last) if last.is_of(now) && last.journal(home)?.is_finished() => Ok(None),
        _ => next(home, now).map(Some),
    }
}

/// Why the last start of a night stopped, from its journal; `None` if it did not stop in a stage.
pub(crate) fn stopped_by(journal: &Journal) -> Option<String> {
    match journal.entries().last()? {
        Entry::StageFailed { stage, message } => Some(format!("{stage}: {message}")),
        Entry::StageBegun { stage, .. } => Some(format!("{stage}: the process was killed")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    struct TestHome {
        home: Home,
        _dir: tempfile::TempDir,
    }

    fn test_home() -> TestHome {
        let dir = tempfile::tempdir().unwrap();
        TestHome { home: Home::open(dir.path().join("home")).unwrap(), _dir: dir }
    }

    impl TestHome {
        /// Starts a night at `now` and finishes it at once.
        fn night(&self, now: &str) -> Option<String> {
            let now: Zoned = now.parse().unwrap();
            let night = next_of_day(&self.home, &now).unwrap()?;
            fs::create_dir_all(night.dir(&self.home)).unwrap();
            night.journal(&self.home).unwrap().append(Entry::NightFinished).unwrap();
            Some(night.id)
        }
    }

    /// Pairs of a start and the night that it should work on.
    fn check(starts: &[(&str, Option<&str>)]) {
        let test = test_home();
        for (now, expected) in starts {
            assert_eq!(test.night(now).as_deref(), *expected, "{now}");
        }
    }

    #[test]
    fn there_is_one_night_per_date_around_midnight() {
        check(&[
            ("2026-04-08T23:59:00+00:00[UTC]", Some("0001-2026-04-08")),
            ("2026-04-09T00:01:00+00:00[UTC]", Some("0002-2026-04-09")),
            ("2026-04-09T01:00:00+00:00[UTC]", None),
            ("2026-04-09T01:20:00+00:00[UTC]", None),
            ("2026-04-10T01:00:00+00:00[UTC]", Some("0003-2026-04-10")),
        ]);
    }

    #[test]
    fn there_is_one_night_when_an_hour_is_repeated() {
        check(&[
            ("2026-11-01T01:00:00-04:00[America/Montreal]", Some("0001-2026-11-01")),
            ("2026-11-01T01:00:00-05:00[America/Montreal]", None),
            ("2026-11-01T01:20:00-05:00[America/Montreal]", None),
        ]);
    }

    #[test]
    fn there_is_one_night_when_an_hour_is_skipped() {
        // 01:00 and 01:20 do not exist in London that night, and the system skips them.
        check(&[
            ("2026-03-28T01:00:00+00:00[Europe/London]", Some("0001-2026-03-28")),
            ("2026-03-29T02:20:00+01:00[Europe/London]", Some("0002-2026-03-29")),
            ("2026-03-29T03:20:00+01:00[Europe/London]", None),
        ]);
    }

    #[test]
    fn a_clock_set_back_loses_and_repeats_no_night() {
        check(&[
            ("2026-04-10T01:00:00+00:00[UTC]", Some("0001-2026-04-10")),
            ("2026-04-08T01:00:00+00:00[UTC]", Some("0002-2026-04-08")),
            ("2026-04-08T01:20:00+00:00[UTC]", None),
            ("1970-01-01T01:00:00+00:00[UTC]", Some("0003-1970-01-01")),
            ("2026-04-10T01:20:00+00:00[UTC]", Some("0004-2026-04-10")),
        ]);
    }

    #[test]
    fn an_unfinished_night_is_resumed_on_any_day() {
        let test = test_home();
        let now: Zoned = "2026-04-08T01:00:00+00:00[UTC]".parse().unwrap();
        let night = next(&test.home, &now).unwrap();
        fs::create_dir_all(night.dir(&test.home)).unwrap();
        let later: Zoned = "2026-04-11T01:00:00+00:00[UTC]".parse().unwrap();
        assert_eq!(next_of_day(&test.home, &later).unwrap(), Some(night));
    }
}
