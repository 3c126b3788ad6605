//! The nights of a home, as the index and the metrics file show them.

use jiff::civil::Date;
use serde::Serialize;

use crate::error::Result;
use crate::home::Home;
use crate::nights::{self, NightId};
use crate::summary::Summary;

/// One night, as a row of the index.
#[derive(Debug, Clone, Serialize)]
pub(super) struct NightRow {
    pub number: u32,
    pub date: String,
    /// `promoted`, `refused`, `rolled back`, `nothing new`, `given up` or `unfinished`.
    pub outcome: String,
    pub partial: bool,
    /// The reason for the outcome, or the error that stopped the night.
    pub note: String,
    /// Path of the night's report relative to the index, if there is one.
    pub page: Option<String>,
    /// The summary of a finished night.
    pub summary: Option<Summary>,
}

/// All nights of a home, oldest first.
pub(super) fn read(home: &Home) -> Result<Vec<NightRow>> {
    Ok(nights::list(home)?.iter().map(|night| NightRow::of(night, home)).collect())
}

impl NightRow {
    fn of(night: &NightId, home: &Home) -> Self {
        let (number, id) = (night.number, &night.id);
        let day = id.split_once('-').map_or("", |(_, day)| day);
        let date = match day.parse::<Date>() {
            Ok(date) => date.strftime("%a %-d %b %Y").to_string(),
            Err(_) => day.to_owned(),
        };
        let summary = Summary::read(&night.dir(home));
        let journal = night.journal(home);
        let finished = journal.as_ref().is_ok_and(|journal| journal.is_finished());
        match summary.filter(|_| finished) {
            Some(summary) => Self {
                number,
                date,
                outcome: summary.outcome.to_string(),
                partial: summary.partial,
                note: match (&summary.since, &summary.standing) {
                    (Some(since), _) => format!("nothing new since night {since}"),
                    (None, Some(standing)) => standing.clone(),
                    (None, None) => summary.verdict.reason.clone(),
                },
                page: Some(format!("nights/{id}/report/report.html"))
                    .filter(|page| home.path().join(page).is_file()),
                summary: Some(summary),
            },
            None => Self {
                number,
                date,
                outcome: if finished { "given up" } else { "unfinished" }.to_owned(),
                partial: false,
                note: match &journal {
                    Ok(journal) => nights::stopped_by(journal).unwrap_or_default(),
                    Err(error) => error.to_string(),
                },
                page: None,
                summary: None,
            },
        }
    }
}

/// A figure by which nights are compared; `None` if the night's summary does not have it.
pub(super) type Metric = fn(&Summary) -> Option<f64>;

pub(super) const BASE: Metric = |s| Some(s.scores.base.overall.score);
pub(super) const CANDIDATE: Metric = |s| Some(s.scores.candidate.overall.score);
pub(super) const CHAMPION: Metric = |s| Some(s.scores.champion.as_ref()?.overall.score);
pub(super) const PROCESSED: Metric = |s| measured(s.training.processed_per_second);
pub(super) const TRAINED: Metric = |s| measured(s.training.trained_per_second);
pub(super) const PEAK_MEMORY: Metric = |s| measured(s.training.peak_memory_bytes as f64);
pub(super) const RSS: Metric = |s| measured(s.training.rss_bytes as f64);

/// 0 stands for a figure that was not measured.
fn measured(value: f64) -> Option<f64> {
    Some(value).filter(|value| *value > 0.0)
}
