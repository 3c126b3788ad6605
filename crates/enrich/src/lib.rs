#![doc = include_str!("../README.md")]

mod config;
mod control;
mod council;
mod dataset;
pub mod duplicates;
mod error;
pub mod generate;
pub mod grams;
pub mod household;
pub mod leaks;
pub mod mix;
mod private;
mod random;
mod row;
pub mod sources;
pub mod split;
mod template;
mod yaml;

pub use config::{EnrichConfig, Recipe, Refusal};
pub use control::Control;
pub use council::{
    Agent, Benign, Council, CouncilFiles, Harm, IdentityQuestion, Partial, Refusals, Route,
    Technique,
};
pub use dataset::{Dataset, Manifest, Report, Source};
pub use error::{Error, Result};
pub use household::Household;
pub use row::{Exchange, Kind, Meta, Row};
pub use template::Template;
