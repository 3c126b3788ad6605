//! What stands on the page, and how it becomes HTML.

use serde::Serialize;

use super::html::{Template, render};
use super::samples::Sample;
use super::{dumbbell, line};
use crate::error::Result;
use crate::runner::StageSummary;

/// The whole page; every text in it is escaped by the template, since answers are hostile.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Page {
    /// The night's id.
    pub night: String,
    /// How many nights this home has seen, with this one.
    pub number: u32,
    /// The day, written out.
    pub date: String,
    /// `promoted`, `refused` or `rolled back`.
    pub outcome: String,
    /// How much of the training was done, if time was up before its end.
    pub partial: Option<String>,
    /// The verdict in one sentence.
    pub sentence: String,
    /// The figures at the top.
    pub tiles: Vec<Tile>,
    /// Every rule of the gate.
    pub rules: Vec<Rule>,
    /// Score charts: by category, by agent.
    pub scores: Vec<Figure>,
    /// Whether the charts show a champion beside base and candidate.
    pub has_champion: bool,
    /// Cases whose answers changed most.
    pub samples: Vec<Sample>,
    /// Training charts.
    pub training: Vec<Figure>,
    /// The dataset by kind.
    pub mix: Vec<Part>,
    /// What about it should worry somebody.
    pub warnings: Vec<String>,
    /// The stages.
    pub stages: Vec<Step>,
    /// Where everything came from: name and value.
    pub facts: Vec<(String, String)>,
}

/// A figure that a reader wants first.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Tile {
    pub name: &'static str,
    pub value: String,
    pub note: String,
}

/// A rule of the gate and what it found.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Rule {
    pub name: String,
    pub wanted: String,
    pub found: String,
    pub passed: bool,
    pub note: String,
}

/// A chart with its heading.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Figure {
    pub title: &'static str,
    pub note: String,
    /// Legend entries: colour class and name.
    pub legend: Vec<(&'static str, &'static str)>,
    /// Inline SVG, made by this crate with every label escaped.
    pub svg: String,
}

/// One kind of row in the dataset.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Part {
    pub kind: String,
    pub rows: usize,
    /// Of all rows, in percent.
    pub percent: f64,
}

/// A stage, with its share of the night in percent.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Step {
    pub name: &'static str,
    pub time: String,
    pub percent: f64,
    /// Share of the stages before it.
    pub offset: f64,
    pub reused: bool,
    pub figures: String,
}

impl Page {
    /// The page as one self-contained HTML file.
    pub fn html(&self) -> Result<String> {
        render(Template::Night, self)
    }
}

impl Figure {
    /// A chart of curves over updates.
    pub fn curves(title: &'static str, note: String, series: &[line::Series]) -> Self {
        Self::over("update", title, note, series)
    }

    /// A chart of curves over whatever is counted; those without a point are left out.
    pub fn over(counted: &str, title: &'static str, note: String, series: &[line::Series]) -> Self {
        let legend = match series.len() {
            0 | 1 => vec![],
            _ => {
                let drawn = series.iter().filter(|s| !s.points.is_empty());
                drawn.map(|s| (s.class, s.name)).collect()
            }
        };
        Self { title, note, legend, svg: line::chart(counted, series) }
    }

    /// A chart of scores by group.
    pub fn scores(title: &'static str, rows: &[dumbbell::Row]) -> Self {
        Self { title, note: String::new(), legend: vec![], svg: dumbbell::chart(rows) }
    }
}

/// The stages as bars laid end to end.
pub(super) fn steps(stages: &[StageSummary]) -> Vec<Step> {
    let total = stages.iter().map(|s| s.seconds).sum::<f64>().max(f64::MIN_POSITIVE);
    let mut offset = 0.0;
    stages
        .iter()
        .map(|stage| {
            let percent = 100.0 * stage.seconds / total;
            let step = Step {
                name: stage.stage.as_str(),
                time: super::words::duration(stage.seconds),
                percent,
                offset,
                reused: stage.reused,
                figures: stage.figures.clone(),
            };
            offset += percent;
            step
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::StageName;

    fn page(text: &str) -> Page {
        let owned = text.to_owned();
        let sample = Sample {
            case: owned.clone(),
            category: owned.clone(),
            agent: owned.clone(),
            question: owned.clone(),
            before: owned.clone(),
            after: owned.clone(),
            score_before: 0.0,
            score_after: 1.0,
        };
        let row = dumbbell::Row {
            name: owned.clone(),
            cases: 3,
            base: 0.1,
            candidate: 0.9,
            champion: None,
        };
        let stage = StageSummary {
            stage: StageName::Train,
            seconds: 61.0,
            reused: false,
            figures: owned.clone(),
        };
        Page {
            night: owned.clone(),
            number: 1,
            date: owned.clone(),
            outcome: "promoted".to_owned(),
            partial: Some(owned.clone()),
            sentence: owned.clone(),
            tiles: vec![Tile { name: "tile", value: owned.clone(), note: owned.clone() }],
            rules: vec![Rule {
                name: owned.clone(),
                wanted: owned.clone(),
                found: owned.clone(),
                passed: false,
                note: owned.clone(),
            }],
            scores: vec![Figure::scores("scores", &[row])],
            has_champion: false,
            samples: vec![sample],
            training: vec![],
            mix: vec![Part { kind: owned.clone(), rows: 1, percent: 100.0 }],
            warnings: vec![owned.clone()],
            stages: steps(&[stage]),
            facts: vec![(owned.clone(), owned)],
        }
    }

    #[test]
    fn text_from_outside_is_inert_wherever_it_stands() {
        let hostile =
            "</title></style></svg><script>alert('x')</script><img src=x onerror=y> {{ 7 * 7 }}";
        let html = page(hostile).html().unwrap();
        for markup in ["<script", "<img", " 49"] {
            assert!(!html.contains(markup), "{markup}");
        }
        assert_eq!(html.matches("<title>").count(), html.matches("</title>").count());
    }

    #[test]
    fn the_page_asks_nobody_for_anything() {
        let html = page("plain").html().unwrap();
        for word in ["http:", "https:", "<script", "<link", "src=", "@import", "url("] {
            assert!(!html.contains(word), "{word}");
        }
        assert!(html.contains("prefers-color-scheme: dark"));
    }
}
