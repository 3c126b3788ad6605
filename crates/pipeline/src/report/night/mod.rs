//! The report of one night.

mod page;
mod rows;

use std::fmt::Display;

use durable::Digest;
use eval::exam::Share;
use eval::gate::Comparison;
use eval::{CategoryId, ExamRun, Known, Mean, Summary, Verdict};
use lora_train::metrics::{Metrics, Update};
use serde::Serialize;

use super::answer_samples;
use super::charts::{Figure, Row, Series, Style};
use super::frame::{Template, render};
use crate::accounting::RowAccount;
use crate::base_model::BaseModel;
use crate::error::Result;
use crate::format;
use crate::runner::StageSummary;
use crate::stage::Stage;
use crate::stages::convert::CleanRows;
use crate::stages::enrich::Splits;
use crate::stages::exam::{ExamFiles, ExamRuns};
use crate::stages::fresh_exam::{FreshExam, FreshResult};
use crate::stages::prefer::{Preferred, Trained};
use crate::stages::promote::PromotionOutcome;
use crate::stages::train::TrainedAdapter;
use crate::summary::{NewRows, Outcome, Scores};
use page::{CategoryChange, Failures, Page, Part, Place, Tile, steps};

/// Number of gains among the answers shown.
const SAMPLES: usize = 4;

/// Everything that the report of a night shows; the input of the stage `report`.
#[derive(Serialize)]
pub(crate) struct NightReport<'a> {
    pub id: &'a str,
    pub model: &'a BaseModel,
    pub model_name: String,
    pub clean: &'a CleanRows,
    /// What became of the raw rows.
    pub rows: &'a RowAccount,
    /// The rows that the last night did not have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_rows: Option<&'a NewRows>,
    pub splits: &'a Splits,
    /// The supervised adapter and the figures of its training.
    pub trained: &'a TrainedAdapter,
    /// What the preference phase came to, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preferred: Option<&'a Preferred>,
    /// What was done before the wall-clock budget was spent, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partial: Option<&'a str>,
    /// The champion when the night began; `None` for the base model.
    pub champion: Option<Digest>,
    pub exams: &'a ExamFiles,
    pub fresh: &'a FreshResult,
    pub verdict: &'a Verdict,
    /// What came of the verdict.
    pub standing: &'a PromotionOutcome,
    /// The runs in `exams`, loaded.
    #[serde(skip)]
    pub runs: &'a ExamRuns,
    #[serde(skip)]
    pub scores: &'a Scores,
    /// The finished stages. Not part of the input: their durations differ after a restart.
    #[serde(skip)]
    pub stages: &'a [StageSummary],
}

impl NightReport<'_> {
    /// The report as one self-contained HTML file. `metrics` are the records of the training.
    pub fn html(&self, metrics: &Metrics) -> Result<String> {
        render(Template::Night, &self.page(metrics))
    }

    fn page(&self, metrics: &Metrics) -> Page {
        let (number, date) = number_and_date(self.id);
        Page {
            night: self.id.to_owned(),
            number,
            date,
            outcome: Outcome::from(self.standing).to_string(),
            partial: self.partial.map(|partial| format!("time was up after {partial}")),
            sentence: self.sentence(),
            tiles: self.tiles(),
            rules: self.verdict.rules.clone(),
            promise: self.verdict.promise.clone(),
            reference: self.verdict.reference.to_string(),
            changes: self.changes(),
            failures: self.failures(),
            scores: self.score_charts(),
            has_champion: self.scores.champion.is_some(),
            samples: answer_samples::pick(&self.runs.base, &self.runs.candidate, SAMPLES),
            training: training_charts(metrics),
            rows: rows::places(self.rows).into_iter().chain(self.pairs()).collect(),
            row_notes: rows::notes(self.clean, self.splits, self.new_rows),
            mix: self.mix(),
            warnings: self.warnings(),
            stages: steps(self.stages),
            facts: self.facts(),
        }
    }

    /// The outcome in one sentence.
    fn sentence(&self) -> String {
        match self.standing {
            PromotionOutcome::ChampionChanged => {
                return "The candidate won, but the champion it was compared with was replaced by \
                        hand during the night."
                    .to_owned();
            }
            PromotionOutcome::Pinned => {
                return "The candidate won, but the champion is pinned.".to_owned();
            }
            PromotionOutcome::FailedBefore => {
                return "The candidate won, but the same adapter was champion before and was rolled back."
                    .to_owned();
            }
            PromotionOutcome::RolledBack(why) => {
                return format!("The candidate was promoted and rolled back at once: {why}");
            }
            PromotionOutcome::Promoted | PromotionOutcome::Refused => {}
        }
        let mut letters = self.verdict.reason.chars();
        let first = letters.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
        let partial = self.partial.map(|partial| format!(" Time was up after {partial}."));
        first + letters.as_str() + &partial.unwrap_or_default()
    }

    fn tiles(&self) -> Vec<Tile> {
        let trained = self.trained;
        let (name, first, last) = match (trained.losses.valid_first, trained.losses.valid_last) {
            (Some(first), Some(last)) => ("Validation loss", first, last),
            _ => ("Training loss", trained.losses.train_first, trained.losses.train_last),
        };
        let mut tiles = Vec::new();
        if let Some((base, candidate)) = self.scores.held_out() {
            tiles.push(Tile {
                name: "Held-out score",
                value: format!("{candidate:.2}"),
                note: format!("base {base:.2}, {:+.2}", candidate - base),
            });
        }
        let deciding = ["fresh_exam", "held_out"].into_iter().find_map(|name| {
            self.verdict.rules.iter().find(|rule| rule.rule == name && rule.value < 1.0)
        });
        if let Some(rule) = deciding {
            tiles.push(Tile {
                name: "p-value",
                value: rule.has(),
                note: format!(
                    "of no gain over the {}; {} needed",
                    self.verdict.reference,
                    rule.needs()
                ),
            });
        }
        tiles.push(self.refusals());
        tiles.extend(self.forgetting());
        tiles.extend([
            Tile { name, value: format!("{last:.2}"), note: format!("from {first:.2}") },
            Tile {
                name: "Training speed",
                value: format!("{:.0} tok/s", trained.processed_per_second()),
                note: format!("{:.0} trained tok/s", trained.trained_per_second()),
            },
            Tile {
                name: "Peak memory",
                value: format::bytes(trained.peak_memory_bytes),
                note: format!("MLX; the process {}", format::bytes(trained.rss_bytes)),
            },
        ]);
        tiles
    }

    /// Refusals of questions that deserve an answer, on the standing exam.
    fn refusals(&self) -> Tile {
        let Share { count, total, .. } = self.runs.candidate.refused();
        let before = |name, run: &ExamRun| format!("{name} {}", run.refused().count);
        let champion = self.runs.champion.as_ref().map(|run| before("champion", run));
        let others = champion.into_iter().chain([before("base", &self.runs.base)]);
        Tile {
            name: "Refused what deserves an answer",
            value: format!("{count} of {total}"),
            note: others.collect::<Vec<_>>().join(", "),
        }
    }

    /// What the candidate has kept of what the base could do.
    fn forgetting(&self) -> Vec<Tile> {
        let known = Known::of(&self.runs.base, &self.runs.candidate);
        let mut tiles = Vec::new();
        if known.known > 0 {
            let share = 100.0 * known.kept as f64 / known.known as f64;
            tiles.push(Tile {
                name: "Everyday questions kept",
                value: format!("{share:.0} %"),
                note: format!("{} of {} that the base answers right", known.kept, known.known),
            });
        }
        if let Some(drifts) = &self.exams.drifts {
            let champion =
                drifts.champion.map_or(String::new(), |it| format!(", champion {:.3}", it.kl));
            tiles.push(Tile {
                name: "KL to the base",
                value: format!("{:.3}", drifts.candidate.kl),
                note: format!(
                    "nats a token; perplexity ×{:.2}{champion}",
                    drifts.candidate.perplexity_ratio
                ),
            });
        }
        tiles
    }

    fn score_charts(&self) -> Vec<Figure> {
        let Scores { base, candidate, champion, .. } = self.scores;
        let chart = |title, by: fn(&Summary) -> Named| {
            let champion = champion.as_ref().map(by);
            Figure::scores(title, &rows(by(base), &by(candidate), champion.as_ref()))
        };
        vec![
            chart("By category", |s| named(&s.categories)),
            chart("By agent", |s| named(&s.agents)),
            chart("By tier", |s| named(&s.tiers)),
        ]
    }

    /// Gains and losses of both exams by category: counts only, as most cases are held out.
    fn changes(&self) -> Vec<CategoryChange> {
        let of = |exam: &'static str, rows: &[Comparison<CategoryId>]| -> Vec<CategoryChange> {
            let change = |row: &Comparison<CategoryId>| CategoryChange {
                exam,
                category: row.of.to_string(),
                cases: row.cases,
                better: row.better,
                worse: row.worse,
                difference: format!("{:+.3}", row.difference),
                interval: format!("{:+.3} to {:+.3}", row.interval.low, row.interval.high),
            };
            rows.iter().map(change).collect()
        };
        let (standing, fresh) = (&self.verdict.categories, &self.verdict.fresh);
        [of("standing", standing), of("fresh", fresh)].concat()
    }

    /// How many answers of the standing exam failed, by class.
    fn failures(&self) -> Vec<Failures> {
        let Scores { base, candidate, champion, .. } = self.scores;
        let mut classes: Vec<_> = [Some(base), Some(candidate), champion.as_ref()]
            .into_iter()
            .flatten()
            .flat_map(|run| run.failures.keys())
            .collect();
        classes.sort();
        classes.dedup();
        let row = |class| {
            let count = |run: &Summary| run.failures.get(class).copied().unwrap_or(0);
            Failures {
                class: class.to_string(),
                base: count(base),
                candidate: count(candidate),
                champion: champion.as_ref().map(count),
            }
        };
        classes.into_iter().map(row).collect()
    }

    fn mix(&self) -> Vec<Part> {
        let mix = &self.splits.mix;
        let total = mix.iter().map(|(_, rows)| rows).sum::<usize>().max(1) as f64;
        let part = |(kind, rows): &(String, usize)| Part {
            kind: kind.clone(),
            rows: *rows,
            percent: 100.0 * *rows as f64 / total,
        };
        mix.iter().map(part).collect()
    }

    /// The preference pairs that are not trained, if there are some.
    fn pairs(&self) -> Option<Place> {
        let pairs = self.preferred?.pairs;
        let aside = pairs.read - pairs.trained();
        (aside > 0).then(|| Place {
            what: "preference pairs that are not trained",
            rows: format::count(aside),
            file: Some("prefer/left-out.jsonl"),
        })
    }

    fn warnings(&self) -> Vec<String> {
        let preference = self.preferred.and_then(Preferred::warning);
        self.splits.warnings.iter().cloned().chain(preference).collect()
    }

    /// Names and values that identify the inputs of the night.
    fn facts(&self) -> Vec<(&'static str, String)> {
        let (trained, splits) = (self.trained, self.splits);
        let candidate = Trained { supervised: trained, preferred: self.preferred }.candidate();
        let preference =
            self.preferred.map(|phase| ("Preference training", phase.lines().join("; ")));
        let manifest = &self.runs.candidate.manifest;
        let (host, suite) = (&manifest.host, &manifest.suite);
        let champion = self.champion.map_or("none: the base model".to_owned(), |d| d.to_string());
        let detectable = self.verdict.detectable.map(|d| format!("{d:+.3}"));
        let count = |n: usize| format::count(n as u64);
        let families: Vec<_> =
            splits.families.iter().map(|(name, rows)| format!("{name} {}", count(*rows))).collect();
        let facts = [
            ("Model", format!("{}, SHA-256 {}", self.model_name, self.model.sha256)),
            ("Adapter", candidate.adapter.to_string()),
            ("Champion before the night", champion),
            (
                "Dataset",
                format!(
                    "{} training rows, {} validation rows",
                    count(splits.train_rows),
                    count(splits.valid_rows)
                ),
            ),
            ("Chat formats of the raw rows", families.join(", ")),
            (
                "Training",
                format!(
                    "{} of {} updates, {} tokens processed, {} trained",
                    trained.updates,
                    trained.planned,
                    format::count(trained.processed_tokens),
                    format::count(trained.trained_tokens),
                ),
            ),
            (
                "Suite",
                format!(
                    "{} {}, {} cases, SHA-256 {}",
                    suite.name, suite.version, suite.cases, suite.digest
                ),
            ),
            ("Fresh exam", FreshExam::describe(self.fresh)),
            ("Scoring", format!("version {}", manifest.scoring_version)),
            ("Minimum detectable gain (80 % power)", detectable.unwrap_or("unknown".to_owned())),
            ("Machine", format!("{} {}, {} CPUs", host.os, host.arch, host.cpus)),
            ("Nightshift", env!("CARGO_PKG_VERSION").to_owned()),
        ];
        facts.into_iter().chain(preference).collect()
    }
}

/// `0007-2026-04-08` as 7 and a date in words.
fn number_and_date(id: &str) -> (u32, String) {
    let (number, date) = id.split_once('-').unwrap_or(("0", id));
    let words = date
        .parse::<jiff::civil::Date>()
        .map_or_else(|_| date.to_owned(), |day| day.strftime("%A %-d %B %Y").to_string());
    (number.parse().unwrap_or_default(), words)
}

/// Means by the name of their group.
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

fn training_charts(metrics: &Metrics) -> Vec<Figure> {
    type Of = fn(&Update) -> f64;
    let points = |of: Of| -> Vec<(f64, f64)> {
        metrics.updates().map(|update| (update.step as f64, of(update))).collect()
    };
    let validation = metrics.validations().map(|(step, loss)| (step as f64, loss));
    let validation = Series {
        name: "validation",
        class: "s1",
        style: Style::Dotted,
        points: validation.collect(),
    };
    let series = |name, class, style, of: Of| Series { name, class, style, points: points(of) };
    let figure = |title, note, series: &[Series]| Figure::lines("update", title, note, series);
    vec![
        figure(
            "Loss",
            "per trained token",
            &[series("training", "s2", Style::Smoothed, |u| u.loss), validation],
        ),
        figure(
            "Learning rate",
            "",
            &[series("learning rate", "s1", Style::Line, |u| u.learning_rate)],
        ),
        figure(
            "Speed",
            "tokens per second",
            &[
                series("processed", "s1", Style::Smoothed, |u| {
                    u.processed_tokens as f64 / u.seconds.max(1e-9)
                }),
                series("trained", "s2", Style::Smoothed, |u| {
                    u.trained_tokens as f64 / u.seconds.max(1e-9)
                }),
            ],
        ),
        figure(
            "Memory",
            "GB",
            &[
                series("MLX peak", "s1", Style::Line, |u| u.peak_memory_bytes as f64 / 1e9),
                series("process", "s2", Style::Line, |u| u.rss_bytes as f64 / 1e9),
            ],
        ),
    ]
}
