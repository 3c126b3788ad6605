//! Dumbbell charts: scores of base model, candidate and champion, one row per group.

use std::fmt::Write;

use super::axis::{Axis, escape};

const WIDTH: f64 = 520.0;
const ROW: f64 = 30.0;
const LEFT: f64 = 132.0;
const RIGHT: f64 = 104.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 26.0;

/// The scores of one group (category, agent or tier), each from 0 to 1.
#[derive(Debug, Clone)]
pub(in crate::report) struct Row {
    pub name: String,
    pub cases: usize,
    pub base: f64,
    pub candidate: f64,
    pub champion: Option<f64>,
}

/// All rows as one inline SVG.
pub(super) fn chart(rows: &[Row]) -> String {
    let height = TOP + BOTTOM + ROW * rows.len() as f64;
    let axis = Axis::spanning(0.0, 1.0, LEFT, WIDTH - RIGHT);
    let mut out = format!(r#"<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img">"#);
    for tick in axis.ticks() {
        let at = axis.place(tick);
        let base = height - BOTTOM;
        let _ = write!(
            out,
            r#"<line class="grid" x1="{at:.1}" x2="{at:.1}" y1="{TOP}" y2="{base}"/><text class="tick mid" x="{at:.1}" y="{:.1}">{tick:.1}</text>"#,
            base + 16.0,
        );
    }
    for (index, row) in rows.iter().enumerate() {
        draw(&mut out, row, &axis, TOP + ROW * (index as f64 + 0.5));
    }
    out.push_str("</svg>");
    out
}

fn draw(out: &mut String, row: &Row, axis: &Axis, y: f64) {
    let text_y = y + 4.0;
    let (base, candidate) = (axis.place(row.base), axis.place(row.candidate));
    let gain = row.candidate - row.base;
    let trend = match gain {
        g if g >= 0.005 => "up",
        g if g <= -0.005 => "down",
        _ => "even",
    };
    let change = if trend == "even" { "\u{b1}0.00".to_owned() } else { format!("{gain:+.2}") };
    let mut tip = format!(
        "{}, {} cases: base {:.3}, candidate {:.3}",
        row.name, row.cases, row.base, row.candidate
    );
    if let Some(champion) = row.champion {
        let _ = write!(tip, ", champion {champion:.3}");
    }
    let _ = write!(
        out,
        r#"<g><title>{}</title><text class="name end" x="{:.1}" y="{text_y:.1}">{} <tspan class="count">{}</tspan></text>"#,
        escape(&tip),
        LEFT - 12.0,
        escape(&row.name),
        row.cases,
    );
    let _ = write!(
        out,
        r#"<line class="span {trend}" x1="{base:.1}" x2="{candidate:.1}" y1="{y:.1}" y2="{y:.1}"/>"#
    );
    if let Some(champion) = row.champion {
        let x = axis.place(champion);
        let _ = write!(
            out,
            r#"<rect class="dot s3" x="{:.1}" y="{:.1}" width="8" height="8" transform="rotate(45 {x:.1} {y:.1})"/>"#,
            x - 4.0,
            y - 4.0
        );
    }
    let _ = write!(
        out,
        r#"<circle class="ring s2" cx="{base:.1}" cy="{y:.1}" r="5"/><circle class="dot s1" cx="{candidate:.1}" cy="{y:.1}" r="5.5"/><text class="value" x="{:.1}" y="{text_y:.1}">{:.2} <tspan class="{trend}">{change}</tspan></text></g>"#,
        WIDTH - RIGHT + 14.0,
        row.candidate,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_group_per_row_and_names_are_escaped() {
        let row = |name: &str, champion| Row {
            name: name.into(),
            cases: 4,
            base: 0.25,
            candidate: 0.75,
            champion,
        };
        let svg = chart(&[row("identity", None), row("<script>", Some(0.5))]);
        assert_eq!(svg.matches("<g>").count(), 2);
        assert_eq!(svg.matches("<rect").count(), 1);
        assert!(!svg.contains("<script>"));
    }
}
