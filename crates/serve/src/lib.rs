#![doc = include_str!("../README.md")]

mod answer;
mod api;
mod chats;
mod connections;
mod contract;
mod core;
mod engine;
mod error;
mod follow;
mod grammar;
mod metrics;
mod options;
mod served;
mod server;
mod stalled;

pub use contract::Contract;
pub use error::{Error, Result};
pub use options::{Agent, ChatLog, Limits, Options, Sampling, TOKEN_VARIABLE, Token};
pub use served::{Base, Champion};
pub use server::Server;
