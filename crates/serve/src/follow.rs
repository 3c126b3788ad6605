//! Follows the file that says what serves.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::contract::Contract;
use crate::core::Core;
use crate::error::{Error, Result};
use crate::served::{CANDIDATE, Champion};

/// How often the file is read. It is small, and reading it works on every file system.
const PERIOD: Duration = Duration::from_millis(500);

/// The thread that reads the file. Dropped, it stops.
#[derive(Debug)]
pub(crate) struct Follower {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    /// Serves what the file says, now and whenever it changes.
    pub fn start(core: Arc<Core>, path: PathBuf) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let work = move || {
            let mut watched = Watched { core, path, last: None, champion: None };
            watched.look();
            while stopped.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
                watched.look();
            }
        };
        let thread = std::thread::Builder::new().name("follow".into()).spawn(work)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.stop = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that follows the champion has panicked");
        }
    }
}

struct Watched {
    core: Arc<Core>,
    path: PathBuf,
    /// What the file said last.
    last: Option<Vec<u8>>,
    /// What serves by it.
    champion: Option<Champion>,
}

impl Watched {
    fn look(&mut self) {
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            // Before the first promotion there is no file.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => {
                let problem = format!("{}: cannot be read: {error}", self.path.display());
                // Followed anew when it can be read.
                self.last = None;
                return self.core.catalog.report(Some(problem));
            }
        };
        if self.last.as_ref() == Some(&bytes) {
            return;
        }
        match self.follow(&bytes) {
            Ok(generation) => tracing::info!("generation {generation} serves"),
            Err(error) => tracing::error!("the champion before serves on: {error}"),
        }
        self.last = Some(bytes);
    }

    /// Serves what the file says. Returns its generation.
    fn follow(&mut self, bytes: &[u8]) -> Result<u64> {
        let core = Arc::clone(&self.core);
        let report = |error: &Error| core.catalog.report(Some(error.to_string()));
        let Contract { champion, candidate, .. } = self.contract(bytes).inspect_err(report)?;
        let generation = champion.generation;
        // The file also changes when an exam begins or ends.
        if self.champion.as_ref() != Some(&champion) {
            // Reports itself.
            core.swap(&champion)?;
            self.champion = Some(champion);
        }
        match candidate {
            Some(candidate) => core.serve(CANDIDATE, &candidate).inspect_err(report)?,
            None => core.catalog.withdraw(CANDIDATE),
        }
        core.catalog.report(None);
        Ok(generation)
    }

    /// The file's content, if it is for this base model.
    fn contract(&self, bytes: &[u8]) -> Result<Contract> {
        let contract = Contract::parse(&self.path, bytes)?;
        if contract.base_digest != self.core.catalog.base() {
            return Err(Error::Contract {
                path: self.path.clone(),
                expected: "the base model that this server was started with (restart it for another)",
                found: contract.base_digest.to_string(),
            });
        }
        Ok(contract)
    }
}
