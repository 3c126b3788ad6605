//! How long tonight's night takes, from what the two iterations and the small exam took.

use std::fmt;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp, Zoned};
use lora_train::{Batches, Data, Dataset, TrainConfig};

use crate::config::Budgets;
use crate::format;

/// Validation only goes forward: about a third of the work of an update on as many tokens.
const FORWARD: f64 = 1.0 / 3.0;

/// The tokens of a training.
#[derive(Debug, Clone, Copy)]
pub(super) struct TrainingLoad {
    /// Tokens of the rows of all updates.
    pub tokens: f64,
    /// Tokens of the rows of all validations.
    pub validated: f64,
}

impl TrainingLoad {
    pub fn of(recipe: &TrainConfig, data: &Data) -> Self {
        let iterations = recipe.iterations(data.train.examples());
        let rows = iterations * recipe.batch_size as u64;
        let validations = 2 + iterations.checked_div(recipe.steps_per_eval).unwrap_or_default();
        let batches = match recipe.val_batches {
            Batches::All => usize::MAX,
            Batches::AtMost(batches) => batches,
        };
        let validated = data.valid.as_ref().map_or(0.0, |valid| {
            let rows = valid.rows().len().min(batches.saturating_mul(recipe.batch_size));
            rows as f64 * mean_tokens(valid)
        });
        Self {
            tokens: rows as f64 * mean_tokens(&data.train),
            validated: validations as f64 * validated,
        }
    }

    /// The seconds that it takes at so many tokens a second.
    pub fn seconds(self, tokens_per_second: f64) -> f64 {
        (self.tokens + FORWARD * self.validated) / tokens_per_second.max(f64::MIN_POSITIVE)
    }
}

/// Tokens of a row, on average.
fn mean_tokens(data: &Dataset) -> f64 {
    let rows = data.rows();
    let tokens: usize = rows.iter().map(|row| row.inputs().len()).sum();
    tokens as f64 / rows.len().max(1) as f64
}

/// The time that a night takes beside the time that it has.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimePlan {
    /// Seconds of the training.
    pub train: f64,
    /// Seconds of the exams.
    pub exams: f64,
    /// Whether that is what the last night's exams took; else they take that at most.
    pub measured: bool,
    pub budgets: Budgets,
}

impl TimePlan {
    /// How it comes out if it starts at `start`.
    pub fn from(&self, start: &Zoned) -> Forecast {
        let length = seconds(self.train + self.exams);
        let end = self.budgets.end(start).unwrap_or(Timestamp::MAX);
        let ends = start.timestamp().checked_add(length).unwrap_or(Timestamp::MAX);
        let time = Duration::try_from(end.duration_since(start.timestamp())).unwrap_or_default();
        let to_train = time.saturating_sub(self.budgets.for_exams()).as_secs_f64();
        // Before the morning, and before the wall clock would be spent, which no start changes.
        let closes = self.budgets.not_after.and_then(|time| time.nearest(start));
        let latest = closes.and_then(|closes| closes.checked_sub(length).ok());
        let local = |at: Timestamp| at.to_zoned(start.time_zone().clone());
        Forecast {
            text: format!(
                "train {}, exams {}{}; started at {} it ends at {}{}",
                format::duration(self.train),
                if self.measured { "" } else { "at most " },
                format::duration(self.exams),
                start.strftime("%H:%M"),
                local(ends).strftime("%H:%M"),
                latest.map_or(String::new(), |at| format!(
                    ", latest start {}",
                    local(at).strftime("%H:%M")
                )),
            ),
            problem: self.problem(to_train),
        }
    }

    /// What does not fit, if training has `to_train` seconds.
    fn problem(&self, to_train: f64) -> Option<String> {
        let allowed = self.budgets.for_exams().as_secs_f64();
        if self.exams > allowed && self.measured {
            return Some(format!(
                "the exams have {}: raise `budgets.exams`, or the candidate is refused for lack of evidence",
                format::duration(allowed)
            ));
        }
        (self.train > to_train).then(|| {
            format!(
                "training has {} and would be cut off after {:.0} %; the next night goes on from there",
                format::duration(to_train),
                100.0 * to_train / self.train
            )
        })
    }
}

/// What is expected of a night.
#[derive(Debug)]
pub(super) struct Forecast {
    text: String,
    /// What does not fit into the budgets.
    pub problem: Option<String>,
}

impl fmt::Display for Forecast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        match &self.problem {
            Some(problem) => write!(f, "; {problem}"),
            None => Ok(()),
        }
    }
}

fn seconds(seconds: f64) -> SignedDuration {
    SignedDuration::try_from_secs_f64(seconds).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forecast(train: f64, exams: f64, budgets: &str) -> String {
        let budgets = serde_saphyr::from_str(budgets).unwrap();
        let start: Zoned = "2026-04-08T01:00[Europe/London]".parse().unwrap();
        TimePlan { train, exams, measured: true, budgets }.from(&start).to_string()
    }

    #[test]
    fn a_plan_is_told_with_what_does_not_fit() {
        const HOUR: f64 = 3600.0;
        let fits = forecast(HOUR * 25.0 / 6.0, HOUR * 0.75, "{ not_after: \"06:45\" }");
        assert_eq!(
            fits,
            "train 4h 10m, exams 45m; started at 01:00 it ends at 05:55, latest start 01:50"
        );
        let open = forecast(HOUR, HOUR / 2.0, "{ wall_clock: 6h }");
        assert_eq!(open, "train 1h, exams 30m; started at 01:00 it ends at 02:30");
        // Of six hours, an eighth is for exams.
        let cut = forecast(HOUR * 7.0, HOUR * 0.5, "{ wall_clock: 6h }");
        assert!(cut.contains("training has 5h 15m and would be cut off after 75 %"), "{cut}");
        let exams = forecast(HOUR, HOUR, "{ wall_clock: 6h, exams: 30m }");
        assert!(exams.contains("the exams have 30m: raise `budgets.exams`"), "{exams}");
    }
}
