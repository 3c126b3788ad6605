#![doc = include_str!("../README.md")]

mod agent;
mod answerer;
mod check;
mod error;
mod exam;
mod extract;
mod gate;
mod judge;
mod model;
mod refusal;
mod rule;
mod run;
mod score;
pub mod stats;
mod suite;
mod text;

pub use agent::Agent;
pub use answerer::{Answer, Answerer, Finish, Question, Sampling, Subject};
pub use error::{Error, Result};
pub use exam::{Budget, BudgetSpent, Exam, ExamOptions, Outcome, Progress};
pub use gate::{
    AgentFloors, Check, CheckResult, Comparison, Decision, Evidence, Floors, Gate, Policy,
    Reference, RuleVerdict, Verdict,
};
pub use judge::{ChatJudge, Opinion, StanceJudge};
pub use model::ModelAnswerer;
pub use refusal::{Stance, judge_refusal};
pub use rule::{Language, Rule};
pub use run::{Agreement, ExamRun, Host, Manifest, Mean, Record, SuiteId, Summary};
pub use score::{Failure, RuleCredit, SCORING_VERSION, Score, Scorer};
pub use suite::{Case, Category, Speaker, Suite, Tier, Turn};
