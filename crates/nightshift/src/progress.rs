//! Progress for people: a bar on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use pipeline::format;

/// The time between two lines about the same work.
const INTERVAL: Duration = Duration::from_secs(60);

/// The progress of work in plain lines on stderr: for logs, where no bar can be drawn.
pub(crate) struct PlainProgress {
    /// The time of the last line; `None` if no lines are printed.
    told: Option<Instant>,
}

impl PlainProgress {
    /// No lines on a terminal, which shows the bar, and none for `--json`.
    pub fn unless(json: bool) -> Self {
        let plain = !json && !std::io::stderr().is_terminal();
        Self { told: plain.then(Instant::now) }
    }

    /// A line about the beginning or the end of a piece of work.
    pub fn line(&mut self, text: &str) {
        if let Some(told) = &mut self.told {
            *told = Instant::now();
            errln!("{text}");
        }
    }

    /// A line about the state of a bar, if the last line is a minute ago.
    pub fn tick(&mut self, bar: &ProgressBar) {
        if self.told.is_some_and(|told| told.elapsed() >= INTERVAL) {
            self.line(&state(bar));
        }
    }
}

/// `NAME: PERCENT, MESSAGE, TIME to go`, without the parts that the bar does not have.
fn state(bar: &ProgressBar) -> String {
    let (done, total) = (bar.position(), bar.length().unwrap_or(0));
    let percent = (total > 0).then(|| format!("{} %", 100 * done / total));
    let message = Some(bar.message()).filter(|message| !message.is_empty());
    let eta = Some(bar.eta()).filter(|eta| !eta.is_zero());
    let eta = eta.map(|eta| format!("{} to go", format::duration(eta.as_secs_f64())));
    let parts: Vec<String> = [percent, message, eta].into_iter().flatten().collect();
    let prefix = bar.prefix();
    match prefix.is_empty() {
        true => parts.join(", "),
        false => format!("{prefix}: {}", parts.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_what_the_bar_has() {
        let bar = ProgressBar::hidden();
        bar.set_length(8);
        bar.set_position(2);
        assert_eq!(state(&bar).split(", ").next(), Some("25 %"));
        let bar = bar.with_prefix("train").with_message("loss 1.500");
        assert!(state(&bar).starts_with("train: 25 %, loss 1.500"), "{}", state(&bar));
        let unknown = ProgressBar::no_length().with_message("opening the model");
        assert_eq!(state(&unknown), "opening the model");
    }
}
