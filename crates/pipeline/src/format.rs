//! Durations, counts and sizes as text.

use jiff::fmt::friendly::{FractionalUnit, SpanPrinter};
use jiff::{SignedDuration, SignedDurationRound, Unit};

/// `0.4s`, `12s`, `3m 5s`, `2h 10m`: rounded to tenths below ten seconds, to seconds below one hour,
/// to minutes above.
pub fn duration(seconds: f64) -> String {
    let exact = SignedDuration::try_from_secs_f64(seconds).unwrap_or(SignedDuration::MAX);
    let round = SignedDurationRound::new();
    let round = match seconds {
        s if s < 9.95 => round.smallest(Unit::Millisecond).increment(100),
        s if s < 3599.5 => round.smallest(Unit::Second),
        _ => round.smallest(Unit::Minute),
    };
    let printer = SpanPrinter::new().fractional(Some(FractionalUnit::Second));
    printer.duration_to_string(&exact.round(round).unwrap_or(exact))
}

/// `12,345`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy);
    groups.collect::<Vec<_>>().join(",")
}

/// `812.3 MB`, `1.2 GB`, in powers of ten.
pub fn bytes(n: u64) -> String {
    bytesize::ByteSize(n).display().si().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_rounded() {
        for (seconds, text) in [
            (0.04, "0s"),
            (0.44, "0.4s"),
            (9.96, "10s"),
            (59.6, "1m"),
            (185.0, "3m 5s"),
            (3599.7, "1h"),
            (7800.0, "2h 10m"),
        ] {
            assert_eq!(duration(seconds), text);
        }
        for (n, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(n), text);
        }
        assert_eq!(
            (bytes(812_300_000), bytes(1_240_000_000)),
            ("812.3 MB".into(), "1.2 GB".into())
        );
    }
}
