#![doc = include_str!("../README.md")]

mod archive;
mod artefact;
mod catalog;
mod error;
mod hub;
mod hub_cache;
mod hub_settings;
mod pip;
mod reach;
mod store;

pub use artefact::{Artefact, Member, Progress, Split};
pub use catalog::{demo_model, gemma_test_model, vocabularies};
pub use error::{Error, Result};
pub use hub::{HubModel, Network, hub_cache};
pub use reach::if_reachable;
pub use store::Store;
