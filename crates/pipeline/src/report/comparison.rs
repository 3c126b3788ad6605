//! The page that compares two exam runs case by case.

use eval::{CategoryId, ExamRun, Manifest, Record, Summary, Tier, Verdict};
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
    /// The cases that are not held out.
    rows: Vec<Row<'a>>,
    /// The held-out cases by category, as counts.
    held_out: Vec<Counts<'a>>,
}

/// What became of the held-out cases of a category.
#[derive(Serialize)]
struct Counts<'a> {
    category: &'a CategoryId,
    better: usize,
    worse: usize,
    same: usize,
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
/// scores, and the cases in common, those with another score first. Held-out cases are counted by category; their
/// questions and answers are not shown, as whoever writes training rows may read the page.
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
    let (held_out, rows): (Vec<_>, Vec<_>) =
        rows.into_iter().partition(|row| row.left.tier == Tier::HeldOut);
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
        held_out: counts(&held_out),
        rows,
    };
    render(Template::Comparison, &page)
}

fn counts<'a>(rows: &[Row<'a>]) -> Vec<Counts<'a>> {
    let mut categories: Vec<&CategoryId> = rows.iter().map(|row| &row.left.category).collect();
    categories.sort();
    categories.dedup();
    let of = |category: &'a CategoryId| {
        let count = |change| {
            let is = |row: &&Row<'_>| row.left.category == *category && row.change == change;
            rows.iter().filter(is).count()
        };
        let (better, worse, same) =
            (count(Change::Better), count(Change::Worse), count(Change::Same));
        Counts { category, better, worse, same }
    };
    categories.into_iter().map(of).collect()
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
