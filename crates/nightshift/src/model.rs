//! The model that a command runs.

use std::path::PathBuf;

use clap::Args;
use models::{Adapter, Model};

/// The arguments that name a model.
#[derive(Args)]
pub(crate) struct ModelArgs {
    /// A .gguf file, or a folder with config.json and safetensors.
    #[arg(long)]
    pub model: PathBuf,
    /// An adapter folder to apply.
    #[arg(long)]
    pub adapter: Option<PathBuf>,
}

impl ModelArgs {
    /// Opens the model and the adapter.
    pub fn open(&self) -> models::Result<(Model, Adapter)> {
        let model = Model::open(&self.model)?;
        let adapter = Adapter::open(self.adapter.as_deref(), &model)?;
        Ok((model, adapter))
    }
}
