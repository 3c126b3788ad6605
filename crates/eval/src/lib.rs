#![doc = include_str!("../README.md")]

pub mod council;
mod error;
pub mod exam;
pub mod forgetting;
pub mod gate;
pub mod general;
#[cfg(feature = "model")]
mod model;
pub mod scoring;
pub mod stats;
pub mod suite;

pub use council::{Agent, AgentId, Category, CategoryId, Council};
pub use error::{Error, Result};
pub use exam::{
    Answer, Answerer, Budget, Exam, ExamOptions, ExamRun, Finish, Manifest, Mean, Outcome,
    Progress, Question, Record, Sampling, Subject, Summary,
};
pub use forgetting::{Drift, ForgettingPolicy, Known};
pub use gate::{
    BestScores, Check, CheckResult, Drifts, Evidence, FreshExam, Gate, Policy, Reference,
    RuleVerdict, Sitting, Verdict,
};
#[cfg(feature = "model")]
pub use model::{ModelAnswerer, answer_text, question_tokens};
pub use scoring::{
    Failure, Help, Polarity, Rule, SCORING_VERSION, Scorer, Stance, classify_refusal,
};
pub use suite::{Case, Imported, LeftOut, Suite, Tier};
