#![doc = include_str!("../README.md")]

mod archive;
mod catalog;
mod error;
mod hub;
mod pip;
mod reach;
mod store;

pub use catalog::{Artefact, DEMO_MODEL, Member, VOCABULARIES, demo_model, vocabularies};
pub use error::{Error, Result};
pub use hub::{HubModel, Network};
pub use reach::if_reachable;
pub use store::{Progress, Store};
