//! The nights of a home: their ids, and which one a start works on.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use chat_format::ChatTokenizer;
use jiff::Zoned;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::error::Result;
use crate::files;
use crate::home::Home;
use crate::journal::{Entry, Journal, NightState};

/// The number of failed nights in a row after which a person is told what to do.
pub(crate) const FAILED_NIGHTS: usize = 3;

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

/// The tokenizer of a model for the night with this id. Templates that print a date print that on which the night began, in
/// every stage and after midnight too.
pub(crate) fn tokenizer(id: &str, model: &Path) -> Result<ChatTokenizer> {
    let tokenizer = ChatTokenizer::open(model)?;
    Ok(match start_date(id) {
        Some(date) => tokenizer.with_date(date),
        None => tokenizer,
    })
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

/// The last night of a home, and how far it is.
pub(crate) fn last(home: &Home) -> Result<Option<(NightId, NightState)>> {
    let Some(last) = list(home)?.pop() else { return Ok(None) };
    let state = last.journal(home)?.state();
    Ok(Some((last, state)))
}

/// The night that a start at `now` works on: the last one if it is unfinished, else a new one.
pub(crate) fn next(home: &Home, now: &Zoned) -> Result<NightId> {
    Ok(following(last(home)?, now))
}

/// Like [`next`], but `None` if the last night is finished and began today.
pub(crate) fn next_of_day(home: &Home, now: &Zoned) -> Result<Option<NightId>> {
    Ok(following_of_day(last(home)?, now))
}

fn following(last: Option<(NightId, NightState)>, now: &Zoned) -> NightId {
    match last {
        None => NightId::new(1, now),
        Some((last, NightState::Unfinished)) => last,
        Some((last, NightState::Finished | NightState::Abandoned)) => {
            NightId::new(last.number + 1, now)
        }
    }
}

fn following_of_day(last: Option<(NightId, NightState)>, now: &Zoned) -> Option<NightId> {
    match last {
        Some((last, NightState::Finished)) if last.is_of(now) => None,
        last => Some(following(last, now)),
    }
}

/// Why the last start of a night stopped, from its journal; `None` if it did not stop in a stage.
pub(crate) fn stopped_by(journal: &Journal) -> Option<String> {
    match journal.entries().last()? {
        Entry::StageFailed { stage, message } => Some(format!("{stage}: {message}")),
        Entry::StageBegun { stage, .. } => Some(format!("{stage}: the process was killed")),
        Entry::NightAbandoned { reason } => Some(format!("abandoned: {reason}")),
        Entry::NightGivenUp { reason } => Some(reason.clone()),
        Entry::StartFailed { message } => Some(message.clone()),
        _ => None,
    }
}

/// What to do after [`FAILED_NIGHTS`], for messages and the index; empty before.
pub(crate) fn advice(home: &Home) -> String {
    match failed_in_a_row(home, &TimeZone::system()) {
        Ok(failed) if failed >= FAILED_NIGHTS => format!(
            "; {failed} nights in a row failed: run `preflight` and mend what it names, or name another of `models` as \
             `fallback_model`"
        ),
        _ => String::new(),
    }
}

/// The number of nights in a row that failed: local dates on which a start failed, since the last night with a verdict or
/// with nothing new.
pub(crate) fn failed_in_a_row(home: &Home, zone: &TimeZone) -> Result<usize> {
    let mut dates = BTreeSet::new();
    for night in list(home)?.into_iter().rev() {
        let journal = night.journal(home)?;
        if journal.is_finished() && !journal.is_given_up() {
            break;
        }
        dates.extend(journal.failed().iter().map(|at| at.to_zoned(zone.clone()).date()));
    }
    Ok(dates.len())
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::fs;
    use std::io::Write;

    use jiff::civil::date;
    use jiff::tz::{AmbiguousOffset, TimeZone};
    use jiff::{SignedDuration, Span, Timestamp};

    use super::*;
    use crate::schedule::{JOBS, JobCommand};

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
    fn failed_nights_are_counted_by_day_since_the_last_verdict() {
        let failed = "\"event\":\"stage_failed\",\"stage\":\"train\",\"message\":\"no\"";
        let broken = "\"event\":\"start_failed\",\"message\":\"no model\"";
        let given_up = "\"event\":\"night_given_up\",\"reason\":\"time\"";
        let finished = "\"event\":\"night_finished\"";
        // The day and kind of each entry, by night.
        for (nights, expected) in [
            (vec![], 0),
            // The failsafe start of one night is not another night.
            (vec![vec![(1, failed), (1, failed)]], 1),
            (vec![vec![(1, failed), (2, broken), (3, failed)]], 3),
            (
                vec![
                    vec![(1, failed), (1, given_up)],
                    vec![(2, failed), (2, given_up)],
                    vec![(3, broken)],
                ],
                3,
            ),
            (vec![vec![(1, failed)], vec![(2, failed), (3, finished)], vec![(4, failed)]], 1),
            (vec![vec![(1, failed), (2, failed), (3, failed), (4, finished)]], 0),
        ] {
            let test = test_home();
            for (number, entries) in nights.iter().enumerate() {
                let dir = test.home.nights().join(format!("{:04}-2026-04-01", number + 1));
                fs::create_dir_all(&dir).unwrap();
                let mut text = String::new();
                for (day, entry) in entries {
                    let at = format!("2026-04-{day:02}T01:20:00Z");
                    writeln!(text, "{{\"v\":1,\"at\":\"{at}\",{entry}}}").unwrap();
                }
                fs::write(dir.join("journal.jsonl"), text).unwrap();
            }
            assert_eq!(
                failed_in_a_row(&test.home, &TimeZone::UTC).unwrap(),
                expected,
                "{nights:?}"
            );
            assert_eq!(advice(&test.home).contains("preflight"), expected >= 3, "{nights:?}");
        }
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
    /// The starts of all jobs between two dates, on a system that skips times which do not exist (systemd) or starts later on
    /// such a date (launchd). A time that comes twice starts twice.
    fn starts(zone: &TimeZone, dates: (Date, Date), gap: Gap) -> Vec<Zoned> {
        let nights = JOBS.iter().filter(|job| job.command == JobCommand::Night);
        let times: Vec<_> = nights.flat_map(|job| job.times).collect();
        let mut starts = Vec::new();
        let mut date = dates.0;
        while date < dates.1 {
            for time in &times {
                let at = zone.to_ambiguous_timestamp(date.at(time.hour, time.minute, 0, 0));
                match at.offset() {
                    AmbiguousOffset::Gap { .. } if gap == Gap::Skipped => {}
                    AmbiguousOffset::Fold { .. } => {
                        starts.push(at.earlier().unwrap());
                        starts.push(at.later().unwrap());
                    }
                    _ => starts.push(at.compatible().unwrap()),
                }
            }
            date = date.tomorrow().unwrap();
        }
        starts.sort();
        starts.into_iter().map(|start| start.to_zoned(zone.clone())).collect()
    }

    /// What a system does with a time that does not exist on a date.
    #[derive(Clone, Copy, PartialEq)]
    enum Gap {
        Skipped,
        Later,
    }

    /// The dates of the nights that these starts begin; each takes `hours`, and a start during one finds the lock.
    fn dates_of_nights(starts: &[Zoned], hours: i64) -> Vec<Date> {
        let (mut dates, mut last, mut busy_until) = (Vec::new(), None, None::<Timestamp>);
        for now in starts {
            if busy_until.is_some_and(|until| now.timestamp() < until) {
                continue;
            }
            let Some(night) = following_of_day(last.clone(), now) else { continue };
            dates.push(start_date(&night.id).unwrap());
            last = Some((night, NightState::Finished));
            busy_until = Some(now.timestamp() + SignedDuration::from_hours(hours));
        }
        dates
    }

    fn check_days(zone: &TimeZone, dates: (Date, Date), name: &str) {
        let mut every = Vec::new();
        let mut date = dates.0;
        while date < dates.1 {
            every.push(date);
            date = date.tomorrow().unwrap();
        }
        for gap in [Gap::Skipped, Gap::Later] {
            let starts = starts(zone, dates, gap);
            for hours in [0, 6] {
                assert_eq!(dates_of_nights(&starts, hours), every, "{name}");
            }
        }
    }

    /// One night a date in every zone of the database, in 2027 and 2028. Days far from a change of the clocks are all alike, so
    /// the days around every change are tried, and for one zone all days.
    #[test]
    fn there_is_exactly_one_night_a_date_whatever_the_clocks_do() {
        let (first, end) = (date(2027, 1, 1), date(2029, 1, 1));
        let (mut zones, mut changes) = (0, 0);
        for name in jiff::tz::db().available() {
            let zone = TimeZone::get(name.as_str()).unwrap();
            zones += 1;
            check_days(&zone, (first, date(2027, 1, 4)), name.as_str());
            let begin = zone.to_timestamp(first.at(0, 0, 0, 0)).unwrap();
            for change in zone.following(begin) {
                let day = change.timestamp().to_zoned(TimeZone::UTC).date();
                if day >= end {
                    break;
                }
                changes += 1;
                let around = (day - Span::new().days(3), day + Span::new().days(4));
                check_days(&zone, around, name.as_str());
            }
        }
        if zones == 0 {
            let _ = writeln!(std::io::stderr(), "skipped: no time zone database");
            return;
        }
        assert!(zones > 100 && changes > 100, "{zones} zones, {changes} changes");
        check_days(&TimeZone::get("Europe/London").unwrap(), (first, end), "Europe/London");
    }

    #[test]
    fn an_abandoned_night_is_followed_by_a_new_one_on_the_same_day() {
        let test = test_home();
        let now: Zoned = "2026-04-08T01:00:00+00:00[UTC]".parse().unwrap();
        let night = next(&test.home, &now).unwrap();
        fs::create_dir_all(night.dir(&test.home)).unwrap();
        let mut journal = night.journal(&test.home).unwrap();
        journal.append(Entry::NightAbandoned { reason: "wrong rows".into() }).unwrap();
        assert_eq!(stopped_by(&journal).as_deref(), Some("abandoned: wrong rows"));
        let later: Zoned = "2026-04-08T01:20:00+00:00[UTC]".parse().unwrap();
        let new = next_of_day(&test.home, &later).unwrap().unwrap();
        assert_eq!(new.id, "0002-2026-04-08");
        assert_eq!(next(&test.home, &later).unwrap(), new);
    }
}
