#![doc = include_str!("../README.md")]

mod base_model;
mod budget_monitor;
pub mod config;
mod error;
mod files;
pub mod format;
mod home;
mod inputs;
mod journal;
mod lock;
mod memory_fallback;
mod night;
mod nights;
pub mod notify;
mod observer;
pub mod preflight;
pub mod priority;
pub mod registry;
pub mod report;
mod runner;
pub mod schedule;
mod stage;
mod stages;
pub mod summary;

pub use config::{NightConfig, NightFile};
pub use error::{Error, Result};
pub use home::Home;
pub use lock::Lock;
pub use night::Night;
pub use observer::{Event, Observer};
pub use preflight::Preflight;
pub use registry::Registry;
pub use stages::StageName;
pub use summary::{Outcome, Summary};
