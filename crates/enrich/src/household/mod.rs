//! A fictional household: training rows and an exam about the same facts, in different words.
//!
//! [`Household::rows`] phrases every fact several times as training rows; [`ExamPlan::suite`] turns hand-written questions
//! about the same facts into the cases of a suite; [`Household::fresh_exam`] words them anew from a seed.

mod check;
mod exam;
mod facts;
mod fresh;
mod phrasings;
mod raw;
mod rows;

pub use exam::ExamPlan;
pub use facts::{Argument, Choice, Fact, Household, Scenario, Tool, Topic};
pub use fresh::FreshWordings;
pub use phrasings::Phrasings;
pub use raw::write_raw;
