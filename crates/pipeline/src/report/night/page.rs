//! The data of a night's page, as the template `night.html` reads it.

use eval::RuleVerdict;
use serde::Serialize;

use crate::format;
use crate::report::answer_samples::AnswerSample;
use crate::report::charts::Figure;
use crate::runner::StageSummary;

/// The whole page. The template escapes every text in it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Page {
    pub night: String,
    pub number: u32,
    /// The day, written out.
    pub date: String,
    /// `promoted`, `refused` or `rolled back`.
    pub outcome: String,
    /// How far the training got, if the wall-clock budget ended it.
    pub partial: Option<String>,
    /// The outcome in one sentence.
    pub sentence: String,
    pub tiles: Vec<Tile>,
    pub rules: Vec<RuleVerdict>,
    /// What the policy promises over a year.
    pub promise: String,
    /// Whom the candidate is compared with.
    pub reference: String,
    pub changes: Vec<CategoryChange>,
    pub failures: Vec<Failures>,
    pub scores: Vec<Figure>,
    /// Whether the score charts show a champion.
    pub has_champion: bool,
    /// Cases with the largest changes, none of them held out.
    pub samples: Vec<AnswerSample>,
    pub training: Vec<Figure>,
    /// Where the raw rows are.
    pub rows: Vec<Place>,
    /// What was decided about the rows and changed in them: a title, and lines.
    pub row_notes: Vec<(&'static str, String)>,
    /// The training set by kind of row.
    pub mix: Vec<Part>,
    pub warnings: Vec<String>,
    pub stages: Vec<Step>,
    /// Names and values that identify the inputs.
    pub facts: Vec<(&'static str, String)>,
}

/// A main figure.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Tile {
    pub name: &'static str,
    pub value: String,
    pub note: String,
}

/// A number of rows, and the file that lists them, below the night's folder.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Place {
    pub what: &'static str,
    pub rows: String,
    pub file: Option<&'static str>,
}

/// Gains and losses of a category on one exam.
#[derive(Debug, Clone, Serialize)]
pub(super) struct CategoryChange {
    pub exam: &'static str,
    pub category: String,
    pub cases: usize,
    pub better: usize,
    pub worse: usize,
    pub difference: String,
    pub interval: String,
}

/// The number of answers that failed for one reason.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Failures {
    pub class: String,
    pub base: usize,
    pub candidate: usize,
    pub champion: Option<usize>,
}

/// One kind of row in the training set.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Part {
    pub kind: String,
    pub rows: usize,
    /// Percent of all rows.
    pub percent: f64,
}

/// A stage, with its share of the total time.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Step {
    pub name: &'static str,
    pub time: String,
    /// Percent of the total time.
    pub percent: f64,
    /// Percent of the total time spent in the stages before.
    pub offset: f64,
    pub reused: bool,
    pub figures: String,
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
                time: format::duration(stage.seconds),
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
    use crate::report::charts::Row;
    use crate::report::frame::{Template, render};
    use crate::stages::StageName;

    fn page(text: &str) -> Page {
        let owned = text.to_owned();
        let sample = AnswerSample {
            case: owned.clone(),
            category: owned.clone(),
            agent: owned.clone(),
            question: owned.clone(),
            before: owned.clone(),
            after: owned.clone(),
            score_before: 0.0,
            score_after: 1.0,
        };
        let row = Row { name: owned.clone(), cases: 3, base: 0.1, candidate: 0.9, champion: None };
        let stage = StageSummary {
            stage: StageName::Train,
            seconds: 61.0,
            reused: false,
            figures: owned.clone(),
        };
        let rule = serde_json::json!({
            "rule": text, "threshold": 0.5, "value": 0.1, "passed": false, "sentence": text,
        });
        Page {
            night: owned.clone(),
            number: 1,
            date: owned.clone(),
            outcome: "promoted".to_owned(),
            partial: Some(owned.clone()),
            sentence: owned.clone(),
            tiles: vec![Tile { name: "tile", value: owned.clone(), note: owned.clone() }],
            rules: vec![serde_json::from_value(rule).unwrap()],
            promise: owned.clone(),
            reference: owned.clone(),
            changes: vec![CategoryChange {
                exam: "standing",
                category: owned.clone(),
                cases: 3,
                better: 1,
                worse: 0,
                difference: owned.clone(),
                interval: owned.clone(),
            }],
            failures: vec![Failures {
                class: owned.clone(),
                base: 1,
                candidate: 0,
                champion: None,
            }],
            scores: vec![Figure::scores("scores", &[row])],
            has_champion: false,
            samples: vec![sample],
            training: vec![],
            rows: vec![Place {
                what: "read",
                rows: owned.clone(),
                file: Some("convert/refused.jsonl"),
            }],
            row_notes: vec![("note", owned.clone())],
            mix: vec![Part { kind: owned.clone(), rows: 1, percent: 100.0 }],
            warnings: vec![owned.clone()],
            stages: steps(&[stage]),
            facts: vec![("fact", owned)],
        }
    }

    #[test]
    fn every_text_is_escaped() {
        let hostile =
            "</title></style></svg><script>alert('x')</script><img src=x onerror=y> {{ 7 * 7 }}";
        let html = render(Template::Night, &page(hostile)).unwrap();
        for markup in ["<script", "<img", " 49"] {
            assert!(!html.contains(markup), "{markup}");
        }
        assert_eq!(html.matches("<title>").count(), html.matches("</title>").count());
    }

    #[test]
    fn the_page_loads_nothing() {
        let html = render(Template::Night, &page("plain")).unwrap();
        for word in ["http:", "https:", "<script", "<link", "src=", "@import", "url("] {
            assert!(!html.contains(word), "{word}");
        }
        assert!(html.contains("prefers-color-scheme: dark"));
    }
}
