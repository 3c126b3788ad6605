#![doc = include_str!("../README.md")]

mod agent;
mod check;
mod error;
mod extract;
mod refusal;
mod rule;
mod score;
mod suite;
mod text;

pub use agent::Agent;
pub use error::{Error, Result};
pub use refusal::{Stance, judge_refusal};
pub use rule::{Language, Rule};
pub use score::{Failure, RuleCredit, SCORING_VERSION, Score, Scorer};
pub use suite::{Case, Category, Speaker, Suite, Tier, Turn};
