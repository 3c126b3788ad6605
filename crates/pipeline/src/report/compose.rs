//! From what the night found to what stands on the page.

use std::fmt::Display;

use eval::{Mean, Summary, Tier};
use lora_train::metrics::{Metrics, Update};

use super::dumbbell::Row;
use super::line::{Series, Style};
use super::page::{Figure, Page, Part, Rule, Tile, steps};
use super::{Report, Sources, samples, words};
use crate::error::Result;
use crate::stages::promote::Standing;
use crate::summary::Outcome;

/// How many gains are shown.
const SAMPLES: usize = 4;

/// The page of a night.
pub(super) fn page(report: &Report<'_>, sources: &Sources) -> Result<Page> {
    let base = sources.runs.base.summary()?;
    let candidate = sources.runs.candidate.summary()?;
    let champion = sources.runs.champion.as_ref().map(|run| run.summary()).transpose()?;
    let (number, date) = number_and_date(report.id);
    Ok(Page {
        night: report.id.to_owned(),
        number,
        date,
        outcome: Outcome::from(report.standing).to_string(),
        partial: report
            .trained
            .partial()
            .map(|planned| format!("{} of {planned} updates: time was up", report.trained.updates)),
        sentence: sentence(report),
        tiles: tiles(report, &base, &candidate),
        rules: rules(report),
        scores: scores(&base, &candidate, champion.as_ref()),
        has_champion: champion.is_some(),
        samples: samples::pick(&sources.runs.base, &sources.runs.candidate, SAMPLES),
        training: training(&sources.metrics),
        mix: mix(report),
        warnings: report.splits.warnings.clone(),
        stages: steps(report.stages),
        facts: facts(report, sources),
    })
}

/// `0007-2026-04-08` as 7 and a date in words.
fn number_and_date(id: &str) -> (u32, String) {
    let (number, date) = id.split_once('-').unwrap_or(("0", id));
    let words = date
        .parse::<jiff::civil::Date>()
        .map_or_else(|_| date.to_owned(), |day| day.strftime("%A %-d %B %Y").to_string());
    (number.parse().unwrap_or_default(), words)
}

fn sentence(report: &Report<'_>) -> String {
    match report.standing {
        Standing::Overtaken => {
            return "The candidate won, but the champion it was measured against was replaced by \
                    hand during the night."
                .to_owned();
        }
        Standing::Pinned => return "The candidate won, but the champion is pinned.".to_owned(),
        Standing::RolledBack(why) => {
            return format!("The candidate was promoted and rolled back at once: {why}");
        }
        Standing::Promoted | Standing::Refused => {}
    }
    let reason = &report.verdict.reason;
    let mut letters = reason.chars();
    let first = letters.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    let partial = match report.trained.partial() {
        Some(planned) => {
            format!(" Time was up after {} of {planned} updates.", report.trained.updates)
        }
        None => String::new(),
    };
    first + letters.as_str() + &partial
}

fn tiles(report: &Report<'_>, base: &Summary, candidate: &Summary) -> Vec<Tile> {
    let trained = report.trained;
    let (name, first, last) = match (trained.losses.valid_first, trained.losses.valid_last) {
        (Some(first), Some(last)) => ("Validation loss", first, last),
        _ => ("Training loss", trained.losses.train_first, trained.losses.train_last),
    };
    let mut tiles = Vec::new();
    if let (Some(base), Some(candidate)) =
        (base.tiers.get(&Tier::HeldOut), candidate.tiers.get(&Tier::HeldOut))
    {
        tiles.push(Tile {
            name: "Held-out score",
            value: format!("{:.2}", candidate.score),
            note: format!("base {:.2}, {:+.2}", base.score, candidate.score - base.score),
        });
    }
    if let Some(rule) = report.verdict.rules.iter().find(|rule| rule.rule == "held_out") {
        tiles.push(Tile {
            name: "P(better)",
            value: format!("{:.3}", rule.value),
            note: format!("than the {}; {:.2} wanted", report.verdict.reference, rule.threshold),
        });
    }
    tiles.extend([
        Tile { name, value: format!("{last:.2}"), note: format!("from {first:.2}") },
        Tile {
            name: "Training speed",
            value: format!("{:.0} tok/s", trained.processed_per_second()),
            note: format!("{:.0} trained tok/s", trained.trained_per_second()),
        },
        Tile {
            name: "Peak memory",
            value: words::bytes(trained.peak_memory_bytes),
            note: format!("MLX; the process {}", words::bytes(trained.rss_bytes)),
        },
    ]);
    tiles
}

fn rules(report: &Report<'_>) -> Vec<Rule> {
    let rule = |rule: &eval::RuleVerdict| Rule {
        name: rule.rule.clone(),
        wanted: format!("\u{2265} {:.3}", rule.threshold),
        found: format!("{:.3}", rule.value),
        passed: rule.passed,
        note: rule.sentence.clone(),
    };
    // What failed comes first.
    let (failed, passed): (Vec<_>, Vec<_>) = report.verdict.rules.iter().partition(|r| !r.passed);
    failed.into_iter().chain(passed).map(rule).collect()
}

fn scores(base: &Summary, candidate: &Summary, champion: Option<&Summary>) -> Vec<Figure> {
    type Means = fn(&Summary) -> Named;
    let of = |champion: Option<&Summary>, by: Means| champion.map(by);
    let groups: [(&'static str, Means); 3] = [
        ("By category", |s| named(&s.categories)),
        ("By agent", |s| named(&s.agents)),
        ("By tier", |s| named(&s.tiers)),
    ];
    let figure = |(title, by): (&'static str, Means)| {
        Figure::scores(title, &rows(by(base), &by(candidate), of(champion, by).as_ref()))
    };
    groups.into_iter().map(figure).collect()
}

type Named = Vec<(String, Mean)>;

fn named<'a, K: Display + 'a>(means: impl IntoIterator<Item = (&'a K, &'a Mean)>) -> Named {
    means.into_iter().map(|(key, mean)| (key.to_string(), *mean)).collect()
}

fn rows(base: Named, candidate: &Named, champion: Option<&Named>) -> Vec<Row> {
    let score = |means: &Named, name: &str| {
        means.iter().find(|(other, _)| other == name).map(|(_, mean)| mean.score)
    };
    let row = |(name, mean): (String, Mean)| {
        Some(Row {
            candidate: score(candidate, &name)?,
            champion: champion.and_then(|means| score(means, &name)),
            base: mean.score,
            cases: mean.answers,
            name,
        })
    };
    base.into_iter().filter_map(row).collect()
}

fn training(metrics: &Metrics) -> Vec<Figure> {
    let curve = |of: fn(&Update) -> f64| -> Vec<(f64, f64)> {
        metrics.updates().map(|update| (update.step as f64, of(update))).collect()
    };
    let valid = metrics.validations().map(|(step, loss)| (step as f64, loss));
    let series = |name, class, style, points| Series { name, class, style, points };
    let per_second = |tokens: u64, update: &Update| tokens as f64 / update.seconds.max(1e-9);
    let speed = |of: fn(&Update) -> u64| -> Vec<(f64, f64)> {
        metrics.updates().map(|u| (u.step as f64, per_second(of(u), u))).collect()
    };
    vec![
        Figure::curves(
            "Loss",
            "per trained token".to_owned(),
            &[
                series("training", "s2", Style::Smoothed, curve(|u| u.loss)),
                series("validation", "s1", Style::Dotted, valid.collect()),
            ],
        ),
        Figure::curves(
            "Learning rate",
            String::new(),
            &[series("learning rate", "s1", Style::Line, curve(|u| u.learning_rate))],
        ),
        Figure::curves(
            "Speed",
            "tokens per second".to_owned(),
            &[
                series("processed", "s1", Style::Smoothed, speed(|u| u.processed_tokens)),
                series("trained", "s2", Style::Smoothed, speed(|u| u.trained_tokens)),
            ],
        ),
        Figure::curves(
            "Memory",
            "GB".to_owned(),
            &[
                series("MLX peak", "s1", Style::Line, curve(|u| u.peak_memory_bytes as f64 / 1e9)),
                series("process", "s2", Style::Line, curve(|u| u.rss_bytes as f64 / 1e9)),
            ],
        ),
    ]
}

fn mix(report: &Report<'_>) -> Vec<Part> {
    let mix = &report.splits.mix;
    let total = mix.iter().map(|(_, rows)| rows).sum::<usize>().max(1) as f64;
    let part = |(kind, rows): &(String, usize)| Part {
        kind: kind.clone(),
        rows: *rows,
        percent: 100.0 * *rows as f64 / total,
    };
    mix.iter().map(part).collect()
}

fn families(families: &[(String, usize)]) -> String {
    let part =
        |(family, rows): &(String, usize)| format!("{family} {}", words::count(*rows as u64));
    families.iter().map(part).collect::<Vec<_>>().join(", ")
}

fn facts(report: &Report<'_>, sources: &Sources) -> Vec<(String, String)> {
    let trained = report.trained;
    let manifest = &sources.runs.candidate.manifest;
    let host = &manifest.host;
    let champion =
        report.champion.map_or("none: the base model served".to_owned(), |d| d.to_string());
    let detectable = report.verdict.detectable.map(|d| format!("{d:+.3}"));
    [
        ("Model", format!("{}, SHA-256 {}", report.model_name, report.model.sha256)),
        ("Adapter", trained.adapter.to_string()),
        ("Champion of the evening", champion),
        (
            "Dataset",
            format!(
                "{} training rows, {} validation rows",
                words::count(report.splits.train_rows as u64),
                words::count(report.splits.valid_rows as u64)
            ),
        ),
        ("Markup the chats came in", families(&report.splits.families)),
        (
            "Training",
            format!(
                "{} of {} updates, {} tokens processed, {} trained",
                trained.updates,
                trained.planned,
                words::count(trained.processed_tokens),
                words::count(trained.trained_tokens),
            ),
        ),
        (
            "Suite",
            format!(
                "{} {}, {} cases, SHA-256 {}",
                manifest.suite.name,
                manifest.suite.version,
                manifest.suite.cases,
                manifest.suite.digest
            ),
        ),
        ("Scoring", format!("version {}", manifest.scoring_version)),
        ("Smallest gain seen on 4 nights of 5", detectable.unwrap_or("unknown".to_owned())),
        ("Machine", format!("{} {}, {} CPUs", host.os, host.arch, host.cpus)),
        ("Nightshift", env!("CARGO_PKG_VERSION").to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}
