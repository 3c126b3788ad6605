#![doc = include_str!("../README.md")]

mod config;
mod error;
mod files;
mod guards;
mod home;
mod inputs;
mod journal;
mod ladder;
mod lock;
mod model;
mod night;
mod nights;
mod notify;
mod observer;
mod politeness;
mod preflight;
mod registry;
mod report;
mod runner;
pub mod schedule;
mod stage;
mod stages;
mod summary;

pub use config::{
    Budgets, Choice, DataSource, ExamConfig, ModelSource, NightConfig, NightFile, Origin,
    Retention, Setting, Setup, Span,
};
pub use error::{Error, Result};
pub use home::Home;
pub use journal::{Entry, JOURNAL_VERSION, Journal};
pub use lock::Lock;
pub use night::Night;
pub use notify::{Message, Notify};
pub use observer::{Event, Observer};
pub use politeness::{StayAwake, yield_to_others};
pub use preflight::{Checked, Preflight, PreflightReport, Status, Suite, Timers};
pub use registry::{Action, Change, Mandate, Promotion, Registry, State, adapter_digest};
pub use report::{Sample, words};
pub use runner::StageSummary;
pub use stage::{Artefact, StageName};
pub use stages::train::Losses;
pub use summary::{Outcome, Paths, Scores, Summary, Training};
