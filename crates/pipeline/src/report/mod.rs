//! HTML reports: one per night, one over all nights, and one that compares two exam runs.
//!
//! All pages share one frame and are self-contained: no scripts from elsewhere, no network access.

mod answer_samples;
mod charts;
mod comparison;
mod frame;
mod history;
mod index;
mod night;
mod openmetrics;

pub use answer_samples::AnswerSample;
pub(crate) use answer_samples::pick;
pub use comparison::comparison_page;
pub(crate) use index::write_index;
pub(crate) use night::NightReport;
