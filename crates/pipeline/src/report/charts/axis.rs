//! Shared by the charts: escaping, axes, number labels.

/// Escapes text for SVG. Labels come from suites and datasets.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // XML allows no control characters, not even escaped ones.
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// A linear map from values to SVG coordinates, with round tick values.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    step: f64,
}

impl Axis {
    /// An axis that covers `values`, extended to round numbers and drawn between `from` and `to`.
    pub fn covering(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let (mut low, mut high) = values
            .filter(|v| v.is_finite())
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        if high - low < 1e-12 * high.abs().max(1e-9) {
            let margin = high.abs().max(1e-9) / 2.0;
            (low, high) = (low - margin, high + margin);
        }
        let step = round_step((high - low) / 4.0);
        Self { low: (low / step).floor() * step, high: (high / step).ceil() * step, from, to, step }
    }

    /// An axis from `low` to `high`.
    pub fn spanning(low: f64, high: f64, from: f64, to: f64) -> Self {
        let high = if high > low { high } else { low + 1.0 };
        Self { low, high, from, to, step: round_step((high - low) / 5.0) }
    }

    /// An axis from `low` to `high` for whole numbers.
    pub fn counting(low: f64, high: f64, from: f64, to: f64) -> Self {
        let axis = Self::spanning(low, high, from, to);
        Self { step: axis.step.max(1.0), ..axis }
    }

    /// The coordinate of a value.
    pub fn place(&self, value: f64) -> f64 {
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    /// The round values on the axis.
    pub fn ticks(&self) -> Vec<f64> {
        let first = (self.low / self.step).ceil() as i64;
        let last = (self.high / self.step + 1e-9).floor() as i64;
        (first..=last).map(|i| i as f64 * self.step).collect()
    }
}

/// Rounds up to 1, 2 or 5 times a power of ten.
fn round_step(raw: f64) -> f64 {
    let power = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().find(|s| s * power >= raw * 0.999);
    step.unwrap_or(10.0) * power
}

/// A short label for a tick or a value.
pub(super) fn label(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 {
        "0".to_owned()
    } else if size >= 1e9 {
        format!("{}G", trim(value / 1e9, 1))
    } else if size >= 1e6 {
        format!("{}M", trim(value / 1e6, 1))
    } else if size >= 1e4 {
        format!("{}k", trim(value / 1e3, 1))
    } else if size >= 100.0 {
        trim(value, 0)
    } else if size >= 0.01 {
        trim(value, 2)
    } else {
        format!("{value:.1e}").replace(".0e", "e")
    }
}

fn trim(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_have_whole_marks() {
        for (low, high, expected) in [(1.0, 2.0, &[1.0, 2.0][..]), (1.0, 1.0, &[1.0, 2.0])] {
            assert_eq!(Axis::counting(low, high, 0.0, 100.0).ticks(), expected);
        }
        let ticks = Axis::counting(0.0, 170.0, 0.0, 100.0).ticks();
        assert_eq!(ticks, [0.0, 50.0, 100.0, 150.0]);
    }

    #[test]
    fn ticks_are_round_and_cover_the_values() {
        let cases: [(&[f64], &[f64]); 4] = [
            (&[0.0, 1.0], &[0.0, 0.5, 1.0]),
            (&[2.31, 0.9], &[0.5, 1.0, 1.5, 2.0, 2.5]),
            (&[3.0], &[1.0, 2.0, 3.0, 4.0, 5.0]),
            (&[], &[0.0, 0.5, 1.0]),
        ];
        for (values, expected) in cases {
            let axis = Axis::covering(values.iter().copied(), 0.0, 100.0);
            let ticks = axis.ticks();
            assert_eq!(ticks.len(), expected.len(), "{values:?}: {ticks:?}");
            assert!(ticks.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9), "{ticks:?}");
            assert!(values.iter().all(|v| (0.0..=100.0).contains(&axis.place(*v))));
        }
    }

    #[test]
    fn labels_are_short() {
        let cases =
            [(0.0, "0"), (0.5, "0.5"), (1234.0, "1234"), (12_345.0, "12.3k"), (3e-6, "3e-6")];
        for (value, expected) in cases {
            assert_eq!(label(value), expected);
        }
    }

    #[test]
    fn markup_in_labels_is_escaped() {
        assert_eq!(escape("<a href='x'>&\u{7}"), "&lt;a href=&#39;x&#39;&gt;&amp; ");
    }
}
