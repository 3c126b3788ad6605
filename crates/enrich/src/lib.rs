#![doc = include_str!("../README.md")]

mod clusters;
mod config;
mod control;
mod data;
mod dataset;
pub mod duplicates;
mod error;
mod generate;
pub mod grams;
pub mod household;
pub mod leaks;
mod manifest;
mod minhash;
pub mod mix;
mod private;
mod random;
mod row;
pub mod sources;
pub mod split;
mod template;
mod yaml;

pub use config::{EnrichConfig, Recipe, RefusalQuota};
pub use control::Control;
pub use data::{GeneratorData, GeneratorFiles, Technique};
pub use dataset::{Dataset, Report};
pub use error::{Error, Result};
pub use household::Household;
pub use manifest::{Manifest, ManifestFile};
pub use row::{Exchange, Kind, Meta, Row};
pub use template::Template;
