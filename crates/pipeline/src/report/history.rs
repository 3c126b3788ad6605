//! The nights of a home, as the index and the metrics file show them.

use std::fs;

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
    /// `promoted`, `refused`, `rolled back`, or `unfinished`.
    pub outcome: String,
    pub partial: bool,
    /// The reason for the outcome, or the error that stopped the night.
    pub note: String,
    /// Path of the night's report relative to the index, if there is one.
    pub page: Option<String>,
    pub metrics: Option<NightMetrics>,
}

/// The figures of a finished night. Summaries of older versions lack some.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct NightMetrics {
    pub base: Option<f64>,
    pub candidate: Option<f64>,
    pub champion: Option<f64>,
    pub seconds: Option<f64>,
    pub processed_per_second: Option<f64>,
    pub trained_per_second: Option<f64>,
    pub peak_memory_bytes: Option<f64>,
    pub rss_bytes: Option<f64>,
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
        let summary = fs::read(night.dir(home).join("summary.json")).ok();
        let summary = summary.and_then(|bytes| serde_json::from_slice::<Summary>(&bytes).ok());
        let journal = night.journal(home);
        let finished = journal.as_ref().is_ok_and(|journal| journal.is_finished());
        match summary.filter(|_| finished) {
            Some(summary) => Self {
                number,
                date,
                outcome: summary.outcome.to_string(),
                partial: summary.partial,
                metrics: Some(NightMetrics::of(&summary)),
                note: summary.standing.unwrap_or(summary.verdict.reason),
                page: Some(format!("nights/{id}/report/report.html"))
                    .filter(|page| home.path().join(page).is_file()),
            },
            None => Self {
                number,
                date,
                outcome: "unfinished".to_owned(),
                partial: false,
                note: match &journal {
                    Ok(journal) => nights::stopped_by(journal).unwrap_or_default(),
                    Err(error) => error.to_string(),
                },
                page: None,
                metrics: None,
            },
        }
    }
}

impl NightMetrics {
    fn of(summary: &Summary) -> Self {
        let score = |run: &eval::Summary| Some(run.overall.score);
        // 0 stands for a figure that was not measured.
        let known = |value: f64| Some(value).filter(|value| *value > 0.0);
        let training = &summary.training;
        Self {
            base: score(&summary.scores.base),
            candidate: score(&summary.scores.candidate),
            champion: summary.scores.champion.as_ref().and_then(score),
            seconds: Some(summary.seconds),
            processed_per_second: known(training.processed_per_second),
            trained_per_second: known(training.trained_per_second),
            peak_memory_bytes: known(training.peak_memory_bytes as f64),
            rss_bytes: known(training.rss_bytes as f64),
        }
    }
}
