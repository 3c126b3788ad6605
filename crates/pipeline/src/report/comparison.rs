//! The page that compares two exam runs case by case.

use eval::{ExamRun, Manifest, Record, Summary, Verdict};
use serde::Serialize;

use super::frame::{Template, render};
use crate::error::Result;

/// The data of the page.
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

/// A case with both answers.
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

/// One self-contained HTML page with two runs side by side: a verdict on them if given, their
/// scores, and the cases in common, those with another score first.
///
/// # Errors
/// The runs have no case in common.
pub fn comparison_page(
    left: &ExamRun,
    right: &ExamRun,
    verdict: Option<&Verdict>,
) -> Result<String> {
    let mut rows: Vec<Row<'_>> = left
        .records
        .iter()
        .filter_map(|l| {
            let same = |r: &&Record| r.case == l.case && r.seed == l.seed && r.prompt == l.prompt;
            Some(row(l, right.records.iter().find(same)?))
        })
        .collect();
    if rows.is_empty() {
        return Err(eval::Error::Incomparable {
            what: "cases in common",
            expected: "at least one".into(),
            found: "none".into(),
        }
        .into());
    }
    // Losses first, then gains, then unchanged cases.
    rows.sort_by(|a, b| {
        let unchanged = |row: &Row<'_>| row.change == Change::Same;
        unchanged(a).cmp(&unchanged(b)).then(a.difference.total_cmp(&b.difference))
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
    render(Template::Comparison, &page)
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

#[cfg(test)]
mod tests {
    const PAGE: &str = include_str!("templates/comparison.html");

    fn between(from: &str, to: &str) -> &'static str {
        PAGE.split_once(from).unwrap().1.split_once(to).unwrap().0
    }

    /// The content security policy allows the page's own script by its digest, and no other.
    #[test]
    fn the_policy_has_the_digest_of_the_script() {
        const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let text = between("'sha256-", "'").trim_end_matches('=');
        let bits = text.chars().flat_map(|c| {
            let value = ALPHABET.find(c).unwrap();
            (0..6).rev().map(move |bit| (value >> bit & 1) as u8)
        });
        let bits: Vec<u8> = bits.collect();
        let bytes = bits.chunks_exact(8).map(|byte| byte.iter().fold(0, |all, bit| all << 1 | bit));
        let digest = durable::digest(between("<script>", "</script>"));
        assert_eq!(bytes.collect::<Vec<u8>>(), digest.as_bytes());
    }
}
