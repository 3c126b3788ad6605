//! Charts as inline SVG.

mod axis;
mod dumbbell;
mod lines;

use serde::Serialize;

pub(super) use dumbbell::Row;
pub(super) use lines::{Series, Style};

/// A chart with its heading.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Figure {
    title: &'static str,
    note: &'static str,
    /// Legend entries: color class and name.
    legend: Vec<(&'static str, &'static str)>,
    /// Inline SVG with every label escaped.
    svg: String,
}

impl Figure {
    /// A line chart over `x_name`. Series without points are left out of the legend.
    pub fn lines(x_name: &str, title: &'static str, note: &'static str, series: &[Series]) -> Self {
        let legend = match series.len() {
            0 | 1 => vec![],
            _ => {
                let drawn = series.iter().filter(|s| !s.points.is_empty());
                drawn.map(|s| (s.class, s.name)).collect()
            }
        };
        Self { title, note, legend, svg: lines::chart(x_name, series) }
    }

    /// A dumbbell chart of scores by group.
    pub fn scores(title: &'static str, rows: &[Row]) -> Self {
        Self { title, note: "", legend: vec![], svg: dumbbell::chart(rows) }
    }
}
