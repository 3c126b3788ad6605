#![doc = include_str!("../README.md")]

mod council;
mod error;
pub mod grams;
pub mod household;
mod random;
mod row;
mod template;
mod yaml;

pub use council::{
    Agent, Benign, Council, CouncilFiles, Harm, IdentityQuestion, Partial, Refusals, Route,
    Technique,
};
pub use error::{Error, Result};
pub use household::Household;
pub use row::{Exchange, Kind, Meta, Row};
pub use template::Template;
