//! Layers whose weights stay in the checkpoint.

use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use crate::Result;
use crate::checkpoint::{Checkpoint, Tensors};

/// One layer's weights in the checkpoint, and perhaps on their way from it. Clones share both.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    checkpoint: Arc<Checkpoint>,
    prefix: Arc<str>,
    ahead: Arc<Mutex<Option<JoinHandle<Result<Tensors>>>>>,
}

impl Stream {
    /// The tensors whose names begin with `prefix`.
    pub fn new(checkpoint: Arc<Checkpoint>, prefix: &str) -> Self {
        Self { checkpoint, prefix: prefix.into(), ahead: Arc::default() }
    }

    /// Begins to read, beside whatever this thread does.
    pub fn read_ahead(&self) {
        let Ok(mut ahead) = self.ahead.lock() else { return };
        if ahead.is_none() {
            let (checkpoint, prefix) = (Arc::clone(&self.checkpoint), Arc::clone(&self.prefix));
            *ahead = Some(thread::spawn(move || checkpoint.read_below(&prefix)));
        }
    }

    /// The tensors: those that were read ahead, or else read now.
    pub fn read(&self) -> Result<Tensors> {
        let ahead = self.ahead.lock().ok().and_then(|mut ahead| ahead.take());
        match ahead.map(JoinHandle::join) {
            Some(Ok(tensors)) => tensors,
            // Not asked for, or the reader panicked: what it met will be met again.
            Some(Err(_)) | None => self.checkpoint.read_below(&self.prefix),
        }
    }
}
