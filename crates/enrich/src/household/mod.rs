//! A fictional household: facts that rows are made of and that an exam asks for in other words.
//!
//! One facts file gives both sides. [`Household::rows`] phrases every fact several times as training rows;
//! [`ExamPlan::suite`] turns hand-written questions about the same facts into exam cases.

mod exam;
mod facts;
mod phrasings;
mod raw;
mod rows;
mod suite;

pub use exam::ExamPlan;
pub use facts::{Argument, Choice, Fact, Household, Scenario, Tool, Topic};
pub use phrasings::{FactPhrasings, Phrasings, ScenarioPhrasings, TopicPhrasings};
pub use raw::write_raw;
pub use suite::{Case, Rule, Suite, Turn};
