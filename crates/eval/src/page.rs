use minijinja::Environment;
use minijinja::value::Serde;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::exam::record::{Manifest, Record};
use crate::exam::run::ExamRun;
use crate::exam::summary::Summary;
use crate::gate::Verdict;

/// Everything the template asks for.
#[derive(Serialize)]
struct Page<'a> {
    left: &'a Manifest,
    right: &'a Manifest,
    left_summary: Summary,
    right_summary: Summary,
    better: usize,
    worse: usize,
    same: usize,
    verdict: Option<&'a Verdict>,
    rows: Vec<Row<'a>>,
}

/// A case of the page: what both runs said.
#[derive(Serialize)]
struct Row<'a> {
    left: &'a Record,
    right: &'a Record,
    change: Change,
    difference: f64,
}

#[derive(Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Change {
    Better,
    Worse,
    Same,
}

/// One self-contained HTML page that shows two runs side by side, case by case: what changed first, and by how
/// much. A verdict on the two may head it.
///
/// Both runs must be of cases in common; the page shows those.
pub fn compare_page(left: &ExamRun, right: &ExamRun, verdict: Option<&Verdict>) -> Result<String> {
    let mut rows: Vec<Row<'_>> = left
        .records
        .iter()
        .filter_map(|l| {
            let same = |r: &&Record| r.case == l.case && r.seed == l.seed && r.prompt == l.prompt;
            Some(row(l, right.records.iter().find(same)?))
        })
        .collect();
    if rows.is_empty() {
        return Err(Error::Incomparable {
            what: "cases in common",
            expected: "at least one".into(),
            found: "none".into(),
        });
    }
    // Losses first, for they are what a reader has to know; then gains; then all that stayed.
    rows.sort_by(|a, b| {
        let stayed = |row: &Row<'_>| row.change == Change::Same;
        stayed(a).cmp(&stayed(b)).then(a.difference.total_cmp(&b.difference))
    });
    let count = |change| rows.iter().filter(|row| row.change == change).count();
    let page = Page {
        left: &left.manifest,
        right: &right.manifest,
        left_summary: left.summary()?,
        right_summary: right.summary()?,
        better: count(Change::Better),
        worse: count(Change::Worse),
        same: count(Change::Same),
        verdict,
        rows,
    };
    render(&page).map_err(|e| Error::Page { problem: e.to_string() })
}

/// Everything is escaped, because the template's name ends in `.html`.
fn render(page: &Page<'_>) -> std::result::Result<String, minijinja::Error> {
    let mut environment = Environment::new();
    environment.add_template("compare.html", include_str!("compare.html"))?;
    environment.get_template("compare.html")?.render(Serde(page))
}

fn row<'a>(left: &'a Record, right: &'a Record) -> Row<'a> {
    let difference = right.score.value - left.score.value;
    let change = match difference {
        d if d > 1e-12 => Change::Better,
        d if d < -1e-12 => Change::Worse,
        _ => Change::Same,
    };
    Row { left, right, change, difference }
}
