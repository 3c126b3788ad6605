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
use crate::registry::{self, Action, Registry};

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
    /// What serves on each base model.
    serving: Vec<Serving>,
    /// Newest first.
    nights: Vec<NightRow>,
    changes: Vec<Change>,
    charts: Vec<Figure>,
    preflight: Option<String>,
    /// What to do after several failed nights; empty before.
    advice: String,
}

/// What serves on a base model.
#[derive(Serialize)]
struct Serving {
    base: String,
    champion: String,
    pinned: Option<String>,
}

/// One change of champion.
#[derive(Serialize)]
struct Change {
    at: String,
    base: String,
    what: &'static str,
    who: String,
    night: String,
    reason: String,
}

impl Index {
    fn new(home: &Home, mut nights: Vec<NightRow>) -> Result<Self> {
        let state = Registry::new(home).state()?;
        let charts = charts(&nights);
        nights.reverse();
        let serving = state.bases.values().map(|base| Serving {
            base: base.name(),
            champion: name(base.champion),
            pinned: base.pinned.clone(),
        });
        let changes = state.bases.values();
        let changes = changes.flat_map(|base| base.history.iter().map(|it| (base.name(), it)));
        let mut changes: Vec<_> = changes.collect();
        changes.sort_by_key(|(_, change)| std::cmp::Reverse(change.at));
        Ok(Self {
            home: home.path().display().to_string(),
            serving: serving.collect(),
            nights,
            changes: changes.into_iter().map(|(base, it)| Change::of(base, it)).collect(),
            charts,
            advice: crate::nights::advice(home).trim_start_matches("; ").to_owned(),
            preflight: preflight_line(&home.path().join("preflight.json")),
        })
    }
}

impl Change {
    fn of(base: String, change: &registry::Change) -> Self {
        Self {
            at: change.at.strftime("%F %H:%M UTC").to_string(),
            base,
            what: match change.action {
                Action::Promote => "promoted",
                Action::Rollback => "rolled back to",
                Action::Withdraw => "withdrawn for",
            },
            who: name(change.champion),
            night: change.night.clone().unwrap_or_else(|| "by hand".to_owned()),
            reason: change.reason.clone(),
        }
    }
}

fn name(adapter: Option<durable::Digest>) -> String {
    adapter.map_or("the base model".to_owned(), |adapter| adapter.short())
}

/// The result of the last preflight in one line.
fn preflight_line(path: &Path) -> Option<String> {
    let report: serde_json::Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    Some(report["line"].as_str()?.to_owned())
}

/// Charts over the nights; none before there are two to compare.
fn charts(nights: &[NightRow]) -> Vec<Figure> {
    if nights.iter().filter(|night| night.summary.is_some()).nth(1).is_none() {
        return Vec::new();
    }
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
