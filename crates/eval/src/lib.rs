#![doc = include_str!("../README.md")]

mod council;
mod error;
mod exam;
mod gate;
mod model;
mod page;
mod scoring;
pub mod stats;
mod suite;

pub use council::Agent;
pub use error::{Error, Result};
pub use exam::answerer::{Answer, Answerer, Finish, Question, Sampling, Subject};
pub use exam::judge::{ChatJudge, Opinion, StanceJudge};
pub use exam::run::{Agreement, ExamRun, Host, Manifest, Mean, Record, SuiteId, Summary};
pub use exam::{Budget, BudgetSpent, Exam, ExamOptions, Outcome, Progress};
pub use gate::{
    AgentFloors, Check, CheckResult, Comparison, Decision, Evidence, Floors, Gate, Policy,
    Reference, RuleVerdict, Verdict,
};
pub use model::ModelAnswerer;
pub use page::compare_page;
pub use scoring::refusal::{Stance, judge_refusal};
pub use scoring::rule::{Language, Rule};
pub use scoring::{Failure, RuleCredit, SCORING_VERSION, Score, Scorer};
pub use suite::{Case, Category, Speaker, Suite, Tier, Turn};
