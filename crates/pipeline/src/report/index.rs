//! The page about all nights of a home.

use std::fs;
use std::path::Path;

use serde::Serialize;

use super::charts::{Figure, Series, Style};
use super::frame::{Template, render};
use super::history::{
    self, BASE, CANDIDATE, CHAMPION, NightRow, PEAK_MEMORY, PROCESSED, RSS, TRAINED,
};
use super::openmetrics;
use crate::error::Result;
use crate::home::Home;
use crate::registry::{Action, Registry};

/// Writes `index.html` and `metrics.txt` of a home.
pub(crate) fn write_index(home: &Home) -> Result<()> {
    let nights = history::read(home)?;
    durable::write(home.path().join("metrics.txt"), openmetrics::text(&nights))?;
    durable::write(home.index(), render(Template::Index, &Index::new(home, nights)?)?)?;
    Ok(())
}

/// The data of the page.
#[derive(Serialize)]
struct Index {
    home: String,
    champion: String,
    pinned: Option<String>,
    /// Newest first.
    nights: Vec<NightRow>,
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
    fn new(home: &Home, mut nights: Vec<NightRow>) -> Result<Self> {
        let state = Registry::new(home).state()?;
        let name = |adapter: Option<durable::Digest>| match adapter {
            Some(adapter) => adapter.to_string().chars().take(12).collect(),
            None => "the base model".to_owned(),
        };
        let charts = charts(&nights);
        nights.reverse();
        let change = |change: &crate::registry::Change| Change {
            at: change.at.strftime("%F %H:%M UTC").to_string(),
            what: match change.action {
                Action::Promote => "promoted",
                Action::Rollback => "rolled back to",
            },
            who: name(change.champion),
            night: change.night.clone().unwrap_or_else(|| "by hand".to_owned()),
            reason: change.reason.clone(),
        };
        Ok(Self {
            home: home.path().display().to_string(),
            champion: name(state.champion),
            nights,
            changes: state.history.iter().rev().map(change).collect(),
            charts,
            preflight: preflight_line(&home.path().join("preflight.json")),
            pinned: state.pinned,
        })
    }
}

/// The result of the last preflight in one line.
fn preflight_line(path: &Path) -> Option<String> {
    let report: serde_json::Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    Some(report["line"].as_str()?.to_owned())
}

fn charts(nights: &[NightRow]) -> Vec<Figure> {
    let points = |of: history::Metric| -> Vec<(f64, f64)> {
        let point =
            |night: &NightRow| Some((f64::from(night.number), of(night.summary.as_ref()?)?));
        nights.iter().filter_map(point).collect()
    };
    let series = |name, class, of| Series { name, class, style: Style::Dotted, points: points(of) };
    let figure = |title, note, series: &[Series]| Figure::lines("night", title, note, series);
    vec![
        figure(
            "Scores",
            "mean over all cases of the exam",
            &[
                series("candidate", "s1", CANDIDATE),
                series("base", "s2", BASE),
                series("champion", "s3", CHAMPION),
            ],
        ),
        figure(
            "Duration",
            "minutes of all stages",
            &[series("minutes", "s1", |s| Some(s.seconds / 60.0))],
        ),
        figure(
            "Training speed",
            "tokens per second",
            &[series("processed", "s1", PROCESSED), series("trained", "s2", TRAINED)],
        ),
        figure(
            "Peak memory",
            "GB",
            &[
                series("MLX", "s1", |s| PEAK_MEMORY(s).map(|b| b / 1e9)),
                series("process", "s2", |s| RSS(s).map(|b| b / 1e9)),
            ],
        ),
    ]
}
