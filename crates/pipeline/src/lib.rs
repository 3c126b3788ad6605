#![doc = include_str!("../README.md")]

mod config;
mod error;
mod home;
mod inputs;
mod journal;
mod lock;
mod model;
mod night;
mod observer;
mod registry;
mod report;
mod runner;
pub mod schedule;
mod stage;
mod stages;

pub use config::{
    Budgets, Choice, DataSource, ExamConfig, ModelSource, NightConfig, NightFile, Origin, Setting,
    Setup, Span,
};
pub use error::{Error, Result};
pub use home::Home;
pub use journal::{Entry, JOURNAL_VERSION, Journal};
pub use lock::Lock;
pub use night::{Night, Outcome, Paths, Scores, Summary};
pub use observer::{Event, Observer};
pub use registry::{Action, Change, Mandate, Promotion, Registry, State, adapter_digest};
pub use report::{Sample, words};
pub use runner::StageSummary;
pub use stage::{Artefact, StageName};
pub use stages::train::Losses;
