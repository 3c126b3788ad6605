#![doc = include_str!("../README.md")]

mod batch;
mod best;
pub mod checkpoint;
pub mod config;
mod dataset;
mod engine;
mod error;
pub mod lint;
pub mod memory;
pub mod metrics;
mod observer;
mod optimizer;
mod pair_rows;
pub mod preference;
mod retention;
mod rows;
mod run_folder;
mod schedule;
mod splits;
mod tensors;
mod test_set;
mod trainer;

pub use best::Measured;
pub use config::{Batches, Bytes, NumLayers, TrainConfig};
pub use dataset::{Dataset, Example, Pair, Row, RowSource};
pub use error::{Error, Result};
pub use observer::{Observer, Progress};
pub use optimizer::{Optimizer, Tensors};
pub use pair_rows::{read_each_pair, read_pairs};
pub use rows::{Columns, common_template_date, read_examples, read_rows, template_date};
pub use schedule::Schedule;
pub use test_set::{check_test_set, test_loss};
pub use trainer::{Data, Ending, Outcome, Start, Trainer, open_model};
