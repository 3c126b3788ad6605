//! The last finished night in the OpenMetrics text format, for collectors that read files.

use std::fmt::Write;

use super::history::{
    BASE, CANDIDATE, CHAMPION, Metric, NightRow, PEAK_MEMORY, PROCESSED, RSS, TRAINED,
};

/// A metric family: name, help text, and samples of labels and value.
type Family<'a> = (&'a str, &'a str, Vec<(String, Option<f64>)>);

/// The metrics of all nights, oldest first, as text. Unknown figures have no line.
pub(super) fn text(nights: &[NightRow]) -> String {
    let last = nights.iter().rev().find(|night| night.summary.is_some());
    let figure = |of: Metric| of(last?.summary.as_ref()?);
    let plain = |value| vec![(String::new(), value)];
    let subject = |name: &str, value| (format!("{{subject=\"{name}\"}}"), value);
    let outcome = |name: &str| {
        let is = last.map(|night| f64::from(u8::from(night.outcome == name)));
        (format!("{{outcome=\"{}\"}}", name.replace(' ', "_")), is)
    };
    let families: [Family<'_>; 8] = [
        ("nights", "Nights that this home has seen.", plain(Some(nights.len() as f64))),
        (
            "night",
            "Number of the last finished night.",
            plain(last.map(|night| f64::from(night.number))),
        ),
        (
            "night_outcome",
            "How it ended: 1 for the outcome that it had.",
            ["promoted", "refused", "rolled back", "nothing new"].map(outcome).into(),
        ),
        (
            "night_partial",
            "Whether its training was cut short by the clock.",
            plain(last.map(|night| f64::from(u8::from(night.partial)))),
        ),
        ("night_seconds", "How long its stages took.", plain(figure(|s| Some(s.seconds)))),
        (
            "exam_score",
            "Mean score over all cases of its exam.",
            vec![
                subject("base", figure(BASE)),
                subject("candidate", figure(CANDIDATE)),
                subject("champion", figure(CHAMPION)),
            ],
        ),
        (
            "training_tokens_per_second",
            "Tokens per second through the model, and those trained on.",
            vec![
                ("{tokens=\"processed\"}".into(), figure(PROCESSED)),
                ("{tokens=\"trained\"}".into(), figure(TRAINED)),
            ],
        ),
        (
            "training_memory_bytes",
            "The most memory that its training took.",
            vec![
                ("{of=\"mlx\"}".into(), figure(PEAK_MEMORY)),
                ("{of=\"process\"}".into(), figure(RSS)),
            ],
        ),
    ];
    let mut text = String::new();
    for (name, help, samples) in families {
        let _ = write!(text, "# TYPE nightshift_{name} gauge\n# HELP nightshift_{name} {help}\n");
        for (labels, value) in samples {
            if let Some(value) = value {
                let _ = writeln!(text, "nightshift_{name}{labels} {value}");
            }
        }
    }
    text + "# EOF\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::{Summary, example};

    fn night(number: u32, summary: Option<Summary>) -> NightRow {
        NightRow {
            number,
            date: String::new(),
            outcome: "rolled back".to_owned(),
            partial: true,
            note: String::new(),
            page: None,
            summary,
        }
    }

    #[test]
    fn the_last_finished_night_is_reported() {
        let text = text(&[night(6, Some(example())), night(7, None)]);
        for line in [
            "nightshift_nights 2",
            "nightshift_night 6",
            "nightshift_night_outcome{outcome=\"rolled_back\"} 1",
            "nightshift_night_outcome{outcome=\"promoted\"} 0",
            "nightshift_night_partial 1",
            "nightshift_night_seconds 278.25",
            "nightshift_exam_score{subject=\"candidate\"} 0.5",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(!text.contains("subject=\"champion\"") && text.ends_with("# EOF\n"));
    }
}
