//! Counters and gauges, as OpenMetrics.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Upper bounds of the latency histograms, in milliseconds.
const BOUNDS: [u64; 12] = [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 60_000];

/// What the server counts.
#[derive(Debug)]
pub(crate) struct Metrics {
    started: Instant,
    pub requests: AtomicU64,
    /// Refused before they reached the model.
    pub refused: AtomicU64,
    /// Refused because the queue was full.
    pub overloaded: AtomicU64,
    pub finished: AtomicU64,
    /// Ended by the client before they were finished.
    pub cancelled: AtomicU64,
    pub failed: AtomicU64,
    pub prompt_tokens: AtomicU64,
    /// Prompt tokens that did not have to be processed.
    pub cached_tokens: AtomicU64,
    pub tokens: AtomicU64,
    /// Swaps of the champion.
    pub swaps: AtomicU64,
    pub failed_swaps: AtomicU64,
    /// Chats that should have been recorded.
    pub unrecorded: AtomicU64,
    pub generation: AtomicU64,
    pub running: AtomicU64,
    pub waiting: AtomicU64,
    pub connections: AtomicU64,
    pub cache_bytes: AtomicU64,
    pub prefix_bytes: AtomicU64,
    pub first_token: Histogram,
    pub between_tokens: Histogram,
    /// Milliseconds from `started` to the last token, plus 1; 0 before the first.
    last_token: AtomicU64,
}

impl Metrics {
    pub fn new() -> Self {
        let zero = AtomicU64::default;
        Self {
            started: Instant::now(),
            requests: zero(),
            refused: zero(),
            overloaded: zero(),
            finished: zero(),
            cancelled: zero(),
            failed: zero(),
            prompt_tokens: zero(),
            cached_tokens: zero(),
            tokens: zero(),
            swaps: zero(),
            failed_swaps: zero(),
            unrecorded: zero(),
            generation: zero(),
            running: zero(),
            waiting: zero(),
            connections: zero(),
            cache_bytes: zero(),
            prefix_bytes: zero(),
            first_token: Histogram::default(),
            between_tokens: Histogram::default(),
            last_token: zero(),
        }
    }

    /// Records that so many tokens were generated just now.
    pub fn generated(&self, tokens: u64) {
        // A step in which prompts are processed has none.
        if tokens == 0 {
            return;
        }
        self.tokens.fetch_add(tokens, Relaxed);
        self.last_token.store(self.started.elapsed().as_millis() as u64 + 1, Relaxed);
    }

    /// How long ago the last token was generated; `None` before the first.
    pub fn since_last_token(&self) -> Option<Duration> {
        let last = Duration::from_millis(self.last_token.load(Relaxed).checked_sub(1)?);
        Some(self.started.elapsed().saturating_sub(last))
    }
}

/// Counts by duration.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    /// Not cumulative; the last is of those beyond all bounds.
    counts: [AtomicU64; BOUNDS.len() + 1],
    microseconds: AtomicU64,
}

impl Histogram {
    pub fn record(&self, duration: Duration) {
        let bound = BOUNDS.partition_point(|&bound| duration > Duration::from_millis(bound));
        if let Some(count) = self.counts.get(bound) {
            count.fetch_add(1, Relaxed);
        }
        self.microseconds.fetch_add(duration.as_micros() as u64, Relaxed);
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, name: &str, help: &str) -> fmt::Result {
        write!(f, "# HELP {name} {help}\n# TYPE {name} histogram\n# UNIT {name} seconds\n")?;
        let mut total = 0;
        for (index, count) in self.counts.iter().enumerate() {
            total += count.load(Relaxed);
            match BOUNDS.get(index) {
                Some(&bound) => {
                    writeln!(f, "{name}_bucket{{le=\"{:?}\"}} {total}", bound as f64 / 1e3)?;
                }
                None => writeln!(f, "{name}_bucket{{le=\"+Inf\"}} {total}")?,
            }
        }
        let sum = self.microseconds.load(Relaxed) as f64 / 1e6;
        write!(f, "{name}_sum {sum}\n{name}_count {total}\n")
    }
}

impl fmt::Display for Metrics {
    /// As OpenMetrics text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, help, value) in [
            ("requests", "Requests for answers.", &self.requests),
            ("refused", "Requests that were refused before they reached the model.", &self.refused),
            (
                "overloaded",
                "Requests that were refused because the queue was full.",
                &self.overloaded,
            ),
            ("finished", "Answers that were completed.", &self.finished),
            ("cancelled", "Answers whose client went away.", &self.cancelled),
            ("failed", "Answers that failed or ran out of time.", &self.failed),
            ("prompt_tokens", "Tokens of prompts.", &self.prompt_tokens),
            ("cached_tokens", "Tokens of prompts that were cached.", &self.cached_tokens),
            ("tokens", "Generated tokens.", &self.tokens),
            ("swaps", "Changes of the champion that serves.", &self.swaps),
            ("failed_swaps", "Adapters that could not be loaded.", &self.failed_swaps),
            ("unrecorded", "Chats that could not be recorded.", &self.unrecorded),
        ] {
            let name = format!("nightshift_serve_{name}");
            writeln!(f, "# HELP {name} {help}\n# TYPE {name} counter")?;
            writeln!(f, "{name}_total {}", value.load(Relaxed))?;
        }
        for (name, help, value) in [
            ("generation", "The generation of the champion that serves.", &self.generation),
            ("running", "Answers that are being generated.", &self.running),
            ("waiting", "Requests that wait.", &self.waiting),
            ("connections", "Open connections.", &self.connections),
            ("cache_bytes", "Bytes of the caches of running answers.", &self.cache_bytes),
            (
                "prefix_bytes",
                "Bytes of the caches of shared prompt beginnings.",
                &self.prefix_bytes,
            ),
        ] {
            let name = format!("nightshift_serve_{name}");
            writeln!(
                f,
                "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {}",
                value.load(Relaxed)
            )?;
        }
        self.first_token.write(
            f,
            "nightshift_serve_first_token_seconds",
            "From the arrival of a request to its first token.",
        )?;
        self.between_tokens.write(
            f,
            "nightshift_serve_between_tokens_seconds",
            "Between two tokens of an answer.",
        )?;
        f.write_str("# EOF\n")
    }
}
