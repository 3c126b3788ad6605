//! The model families.

pub(crate) mod config;
pub(crate) mod config_file;
pub(crate) mod config_json;
pub(crate) mod gemma4;
pub(crate) mod llama;
pub(crate) mod names;
pub(crate) mod qwen35;
