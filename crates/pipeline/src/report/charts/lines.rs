//! Line charts.

use std::fmt::Write;

use super::axis::{Axis, escape, label};

const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 34.0;

/// How a series is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::report) enum Style {
    Line,
    /// A faint line under its moving average, for noisy measurements.
    Smoothed,
    /// A line with a dot at every point, for sparse measurements.
    Dotted,
}

/// One line of a chart.
#[derive(Debug, Clone)]
pub(in crate::report) struct Series {
    /// Name in the legend and the tooltips.
    pub name: &'static str,
    /// Color class of the style sheet, `s1` to `s3`.
    pub class: &'static str,
    pub style: Style,
    /// Points, by increasing x.
    pub points: Vec<(f64, f64)>,
}

/// All series as one inline SVG. The y axis includes zero.
pub(super) fn chart(x_name: &str, series: &[Series]) -> String {
    let points = || series.iter().flat_map(|s| s.points.iter().copied());
    // Nights and updates are whole: so are the marks of their axis, which begins with the first.
    let (x_low, x_high) = points()
        .fold((f64::INFINITY, 1.0), |(low, high): (f64, f64), (x, _)| (low.min(x), high.max(x)));
    let x = Axis::counting(x_low.min(x_high), x_high, LEFT, WIDTH - RIGHT);
    let y = Axis::covering(points().map(|p| p.1).chain([0.0]), HEIGHT - BOTTOM, TOP);
    let mut out = format!(r#"<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">"#);
    frame(&mut out, &x, &y, x_name);
    for s in series.iter().filter(|s| !s.points.is_empty()) {
        draw(&mut out, s, &x, &y);
    }
    out.push_str("</svg>");
    out
}

fn frame(out: &mut String, x: &Axis, y: &Axis, x_name: &str) {
    let (right, base) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    for tick in y.ticks() {
        let at = y.place(tick);
        let text = label(tick);
        let _ = write!(
            out,
            r#"<line class="grid" x1="{LEFT}" x2="{right}" y1="{at:.1}" y2="{at:.1}"/><text class="tick end" x="{:.1}" y="{:.1}">{text}</text>"#,
            LEFT - 8.0,
            at + 4.0,
        );
    }
    for tick in x.ticks() {
        let at = x.place(tick);
        let text = label(tick);
        let _ = write!(
            out,
            r#"<text class="tick mid" x="{at:.1}" y="{:.1}">{text}</text>"#,
            base + 16.0
        );
    }
    let _ = write!(
        out,
        r#"<line class="axis" x1="{LEFT}" x2="{right}" y1="{base}" y2="{base}"/><text class="tick mid" x="{:.1}" y="{:.1}">{}</text>"#,
        (LEFT + right) / 2.0,
        HEIGHT - 3.0,
        escape(x_name),
    );
}

fn draw(out: &mut String, series: &Series, x: &Axis, y: &Axis) {
    let Series { class, points, .. } = series;
    match series.style {
        Style::Line | Style::Dotted => path(out, &format!("line {class}"), points, x, y),
        Style::Smoothed => {
            path(out, &format!("line faint {class}"), points, x, y);
            path(out, &format!("line {class}"), &smooth(points), x, y);
        }
    }
    let radius = if series.style == Style::Dotted { 3.5 } else { 0.0 };
    for &(step, value) in points {
        let (cx, cy) = (x.place(step), y.place(value));
        if radius > 0.0 {
            let _ = write!(
                out,
                r#"<circle class="dot {class}" cx="{cx:.1}" cy="{cy:.1}" r="{radius}"/>"#
            );
        }
        let tip = format!("{} at {step}: {}", series.name, precise(value));
        let _ = write!(
            out,
            r#"<circle class="hover" cx="{cx:.1}" cy="{cy:.1}" r="7"><title>{}</title></circle>"#,
            escape(&tip)
        );
    }
}

fn path(out: &mut String, class: &str, points: &[(f64, f64)], x: &Axis, y: &Axis) {
    let _ = write!(out, r#"<polyline class="{class}" points=""#);
    for (step, value) in points {
        let _ = write!(out, "{:.1},{:.1} ", x.place(*step), y.place(*value));
    }
    out.push_str(r#""/>"#);
}

/// A centered moving average over about a tenth of the points.
fn smooth(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let reach = points.len() / 20;
    let around = |i: usize| {
        let reach = reach.min(i).min(points.len() - 1 - i);
        let window = points.get(i - reach..=i + reach).unwrap_or_default();
        window.iter().map(|p| p.1).sum::<f64>() / window.len().max(1) as f64
    };
    points.iter().enumerate().map(|(i, point)| (point.0, around(i))).collect()
}

fn precise(value: f64) -> String {
    if value.abs() < 0.01 { format!("{value:.2e}") } else { format!("{value:.3}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(style: Style, points: Vec<(f64, f64)>) -> Series {
        Series { name: "loss", class: "s1", style, points }
    }

    #[test]
    fn series_of_any_length_are_drawn() {
        for n in [0, 1, 2, 50] {
            let points = (0..n).map(|i| (i as f64, 3.0 / (i + 1) as f64)).collect();
            let svg = chart("update", &[series(Style::Smoothed, points)]);
            assert!(svg.starts_with("<svg") && svg.ends_with("</svg>"));
            assert_eq!(svg.matches("<title>").count(), n);
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }

    #[test]
    fn smoothing_keeps_the_mean_of_a_straight_line() {
        let line: Vec<_> = (0..100).map(|i| (i as f64, 2.0 * i as f64)).collect();
        for ((_, smooth), (_, raw)) in smooth(&line).iter().zip(&line) {
            assert!((smooth - raw).abs() < 1e-9);
        }
    }
}
