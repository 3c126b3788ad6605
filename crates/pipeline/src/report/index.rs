//! The page about all nights of a home, and the last one as figures for programs that scrape.

use std::fs;
use std::path::Path;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::html::{Template, render};
use super::line::{Series, Style};
use super::openmetrics;
use super::page::Figure;
use crate::error::Result;
use crate::home::Home;
use crate::nights::{self, NightId};
use crate::registry::{Action, Registry};

/// Writes `index.html` and `metrics.txt` of a home.
pub(crate) fn write_index(home: &Home) -> Result<()> {
    let nights = nights::list(home)?;
    let nights = nights.iter().map(|night| Line::of(night, home)).collect::<Result<Vec<_>>>()?;
    durable::write(home.path().join("metrics.txt"), openmetrics::text(&nights))?;
    durable::write(home.index(), render(Template::Index, &Index::new(home, nights)?)?)?;
    Ok(())
}

/// One night, as a line of the index.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Line {
    pub number: u32,
    pub id: String,
    pub date: String,
    /// `promoted`, `refused`, `rolled back`, or `unfinished`.
    pub outcome: String,
    pub partial: bool,
    /// What came of it, or what stopped it.
    pub note: String,
    /// The page about it, relative to the index; absent for a night without one.
    pub page: Option<String>,
    pub figures: Option<Figures>,
}

/// What the charts and the scrapers take from a night's summary. Nights of older versions lack some.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Figures {
    pub base: Option<f64>,
    pub candidate: Option<f64>,
    pub champion: Option<f64>,
    pub seconds: Option<f64>,
    pub processed_per_second: Option<f64>,
    pub trained_per_second: Option<f64>,
    pub peak_memory_bytes: Option<f64>,
    pub rss_bytes: Option<f64>,
}

impl Line {
    fn of(night: &NightId, home: &Home) -> Result<Self> {
        let dir = night.dir(home);
        let (number, id) = (night.number, night.id.clone());
        let day = id.split_once('-').map_or("", |(_, day)| day);
        let date = match day.parse::<Date>() {
            Ok(date) => date.strftime("%a %-d %b %Y").to_string(),
            Err(_) => day.to_owned(),
        };
        let summary = fs::read(dir.join("summary.json")).ok();
        let summary = summary.and_then(|bytes| serde_json::from_slice::<Summary>(&bytes).ok());
        let journal = night.journal(home);
        let finished = journal.as_ref().is_ok_and(|journal| journal.is_finished());
        Ok(match summary.filter(|_| finished) {
            Some(summary) => Self {
                number,
                date,
                outcome: summary.outcome.replace('_', " "),
                partial: summary.partial,
                note: summary.standing.clone().unwrap_or_else(|| summary.verdict.reason.clone()),
                page: Some(format!("nights/{id}/report/report.html"))
                    .filter(|page| home.path().join(page).is_file()),
                figures: Some(summary.figures()),
                id,
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
                figures: None,
                id,
            },
        })
    }
}

/// As much of a night's `summary.json` as is shown.
#[derive(Deserialize)]
struct Summary {
    outcome: String,
    #[serde(default)]
    partial: bool,
    standing: Option<String>,
    seconds: f64,
    verdict: Verdict,
    scores: Scores,
    #[serde(default)]
    training: Training,
}

#[derive(Deserialize)]
struct Verdict {
    reason: String,
}

#[derive(Deserialize)]
struct Scores {
    base: eval::Summary,
    candidate: eval::Summary,
    champion: Option<eval::Summary>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Training {
    processed_per_second: Option<f64>,
    trained_per_second: Option<f64>,
    peak_memory_bytes: Option<f64>,
    rss_bytes: Option<f64>,
}

impl Summary {
    fn figures(&self) -> Figures {
        let score = |run: &eval::Summary| Some(run.overall.score);
        Figures {
            base: score(&self.scores.base),
            candidate: score(&self.scores.candidate),
            champion: self.scores.champion.as_ref().and_then(score),
            seconds: Some(self.seconds),
            processed_per_second: self.training.processed_per_second,
            trained_per_second: self.training.trained_per_second,
            peak_memory_bytes: self.training.peak_memory_bytes,
            rss_bytes: self.training.rss_bytes,
        }
    }
}

/// The whole page; every text in it is escaped by the template.
#[derive(Serialize)]
struct Index {
    home: String,
    champion: String,
    pinned: Option<String>,
    /// Newest first.
    nights: Vec<Line>,
    changes: Vec<Change>,
    charts: Vec<Figure>,
    preflight: Option<String>,
}

/// One change of champion.
#[derive(Serialize)]
struct Change {
    at: String,
    what: &'static str,
    who: String,
    night: String,
    reason: String,
}

impl Index {
    fn new(home: &Home, mut nights: Vec<Line>) -> Result<Self> {
        let state = Registry::new(home).state()?;
        let who = |adapter: Option<durable::Digest>| match adapter {
            Some(adapter) => adapter.to_string().chars().take(12).collect(),
            None => "the base model".to_owned(),
        };
        let charts = charts(&nights);
        nights.reverse();
        let mut changes: Vec<_> = state
            .history
            .iter()
            .map(|change| Change {
                at: change.at.strftime("%F %H:%M UTC").to_string(),
                what: match change.action {
                    Action::Promote => "promoted",
                    Action::Rollback => "rolled back to",
                },
                who: who(change.champion),
                night: change.night.clone().unwrap_or_else(|| "by hand".to_owned()),
                reason: change.reason.clone(),
            })
            .collect();
        changes.reverse();
        Ok(Self {
            home: home.path().display().to_string(),
            champion: who(state.champion),
            pinned: state.pinned,
            nights,
            changes,
            charts,
            preflight: preflight(&home.path().join("preflight.json")),
        })
    }
}

/// What the last preflight found, in one line.
fn preflight(path: &Path) -> Option<String> {
    #[derive(Deserialize)]
    struct Report {
        line: String,
    }
    let report: Report = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    Some(report.line)
}

fn charts(nights: &[Line]) -> Vec<Figure> {
    let curve = |of: fn(&Figures) -> Option<f64>| -> Vec<(f64, f64)> {
        let point = |night: &Line| Some((f64::from(night.number), of(night.figures.as_ref()?)?));
        nights.iter().filter_map(point).collect()
    };
    let series = |name, class, points| Series { name, class, style: Style::Dotted, points };
    vec![
        Figure::over(
            "night",
            "Scores",
            "mean over all cases of the exam".to_owned(),
            &[
                series("candidate", "s1", curve(|f| f.candidate)),
                series("base", "s2", curve(|f| f.base)),
                series("champion", "s3", curve(|f| f.champion)),
            ],
        ),
        Figure::over(
            "night",
            "Duration",
            "minutes of all stages".to_owned(),
            &[series("minutes", "s1", curve(|f| f.seconds.map(|s| s / 60.0)))],
        ),
        Figure::over(
            "night",
            "Training speed",
            "tokens per second".to_owned(),
            &[
                series("processed", "s1", curve(|f| f.processed_per_second)),
                series("trained", "s2", curve(|f| f.trained_per_second)),
            ],
        ),
        Figure::over(
            "night",
            "Memory",
            "GB at most".to_owned(),
            &[
                series("MLX", "s1", curve(|f| f.peak_memory_bytes.map(|b| b / 1e9))),
                series("process", "s2", curve(|f| f.rss_bytes.map(|b| b / 1e9))),
            ],
        ),
    ]
}
