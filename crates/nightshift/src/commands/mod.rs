//! One module for each command: its arguments, and `run`.

pub mod abandon;
pub mod champion;
pub mod completions;
pub mod config;
pub mod controls;
pub mod convert;
pub mod doctor;
pub mod enrich;
pub mod evaluate;
pub mod export;
pub mod fetch;
pub mod fuse;
pub mod gate;
pub mod generate;
pub mod household;
pub mod init;
pub mod inspect;
pub mod logits;
pub mod night;
pub mod preflight;
pub mod schedule;
pub mod score;
pub mod serve;
pub mod synthesize;
pub mod train;
