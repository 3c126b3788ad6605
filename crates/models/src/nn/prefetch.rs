use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use mlx_rs::Array;

use crate::Result;
use crate::checkpoint::WeightSource;

type Tensors = BTreeMap<String, Array>;

/// Reads one layer's tensors from a source, ahead of time on another thread if asked. Clones share what
/// has been read ahead.
#[derive(Clone, Debug)]
pub(crate) struct Prefetch {
    source: Arc<dyn WeightSource>,
    prefix: Arc<str>,
    ahead: Arc<Mutex<Option<JoinHandle<Result<Tensors>>>>>,
}

impl Prefetch {
    /// For the tensors whose names start with `prefix`.
    pub fn new(source: Arc<dyn WeightSource>, prefix: &str) -> Self {
        Self { source, prefix: prefix.into(), ahead: Arc::default() }
    }

    /// Starts to read on another thread.
    pub fn read_ahead(&self) {
        let Ok(mut ahead) = self.ahead.lock() else { return };
        if ahead.is_none() {
            let (source, prefix) = (Arc::clone(&self.source), Arc::clone(&self.prefix));
            *ahead = Some(thread::spawn(move || source.tensors_below(&prefix)));
        }
    }

    /// The tensors: those that were read ahead, else read now.
    pub fn read(&self) -> Result<Tensors> {
        let ahead = self.ahead.lock().ok().and_then(|mut ahead| ahead.take());
        match ahead.map(JoinHandle::join) {
            Some(Ok(tensors)) => tensors,
            // Not asked for, or the thread panicked: reading again shows why.
            Some(Err(_)) | None => self.source.tensors_below(&self.prefix),
        }
    }
}
