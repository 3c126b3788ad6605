//! What loads adapters and serves them.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

use models::Model;

use crate::engine::queue::Queue;
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::served::{self, CHAMPION, Catalog, Champion};

/// What loads adapters and serves them.
#[derive(Debug)]
pub(crate) struct Core {
    /// A clone for loading adapters, beside the one that answers.
    pub model: Mutex<Model>,
    pub catalog: Arc<Catalog>,
    pub queue: Arc<Queue>,
    pub metrics: Arc<Metrics>,
}

impl Core {
    /// See [`Server::swap`](crate::Server::swap).
    pub fn swap(&self, champion: &Champion) -> Result<()> {
        match self.serve(CHAMPION, champion) {
            Ok(()) => {
                self.metrics.swaps.fetch_add(1, Relaxed);
                self.metrics.generation.store(champion.generation, Relaxed);
                self.catalog.report(None);
                Ok(())
            }
            Err(error) => {
                self.metrics.failed_swaps.fetch_add(1, Relaxed);
                self.catalog.report(Some(format!("generation {}: {error}", champion.generation)));
                Err(error)
            }
        }
    }

    /// Loads an adapter and serves it under this name.
    pub fn serve(&self, name: &str, champion: &Champion) -> Result<()> {
        let model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        let (adapter, digest) = served::load(champion, &model)?;
        let entry = self.catalog.prepare(name, champion.generation, digest);
        self.queue.add(Arc::clone(&entry), adapter).map_err(|_| Error::Stopped)?;
        self.catalog.publish(entry);
        Ok(())
    }
}
