#![doc = include_str!("../README.md")]

mod council;
mod error;
mod exam;
mod gate;
#[cfg(feature = "model")]
mod model;
mod scoring;
pub mod stats;
mod suite;

pub use council::{Agent, AgentId, Category, CategoryId, Council, RefusalDuty};
pub use error::{Error, Result};
pub use exam::answerer::{Answer, Answerer, Finish, Question, Sampling, Subject};
#[cfg(feature = "judge")]
pub use exam::chat_judge::ChatJudge;
pub use exam::opinion::StanceJudge;
pub use exam::record::{ExamOptions, Host, Manifest, Opinion, Record, SuiteId};
pub use exam::run::ExamRun;
pub use exam::summary::{Agreement, Mean, Summary};
pub use exam::{Budget, BudgetSpent, Exam, Outcome, Progress};
pub use gate::{
    AgentFloors, Check, CheckResult, Comparison, Decision, Evidence, Floors, Gate, Policy,
    Reference, RuleVerdict, Verdict,
};
#[cfg(feature = "model")]
pub use model::ModelAnswerer;
pub use scoring::refusal::{Stance, classify_refusal};
pub use scoring::rule::Rule;
pub use scoring::text::Language;
pub use scoring::{Failure, RuleCredit, SCORING_VERSION, Score, Scorer};
pub use suite::{Case, Speaker, Suite, Tier, Turn};
