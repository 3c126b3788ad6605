//! A running server: its threads, and what can be changed while it runs.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::watch;

use crate::api::{self, Shared};
use crate::chats::Chats;
use crate::connections;
use crate::core::Core;
use crate::engine::Engine;
use crate::engine::queue::Queue;
use crate::error::{Error, Result};
use crate::follow::Follower;
use crate::metrics::Metrics;
use crate::options::Options;
use crate::served::{BASE, Base, CANDIDATE, CHAMPION, Catalog, Champion};

/// A running server. Dropped, it stops.
///
/// ```no_run
/// use serve::{Base, Champion, Options, Server};
///
/// let base = Base::open("SmolLM2-135M-Instruct.Q4_1.gguf")?;
/// let server = Server::start(base, Options::port(8080))?;
/// println!("http://{}", server.address());
/// server.swap(&Champion::new("adapters/tonight", 2))?;
/// server.wait();
/// # Ok::<(), serve::Error>(())
/// ```
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    core: Arc<Core>,
    followers: Mutex<Vec<Follower>>,
    stop: watch::Sender<bool>,
    http: Option<JoinHandle<()>>,
    engine: Option<Engine>,
}

impl Server {
    /// Listens, and serves the base model, as champion too.
    ///
    /// # Errors
    /// An address that other machines reach without a token; one that cannot be listened on; limits of
    /// 0.
    pub fn start(base: Base, options: Options) -> Result<Self> {
        options.check()?;
        let start = |action| {
            let address = options.address;
            move |source| Error::Start { address, action, source }
        };
        let listener = TcpListener::bind(options.address).map_err(start("listen"))?;
        listener.set_nonblocking(true).map_err(start("listen"))?;
        let address = listener.local_addr().map_err(start("listen"))?;
        let (queue, metrics) =
            (Arc::new(Queue::new(options.limits.queue)), Arc::new(Metrics::new()));
        let catalog = Arc::new(Catalog::new(&base));
        let chats = options.chats.clone().map(Chats::open).transpose()?;
        let core = Arc::new(Core {
            model: Mutex::new(base.model.clone()),
            catalog: Arc::clone(&catalog),
            queue: Arc::clone(&queue),
            metrics: Arc::clone(&metrics),
        });
        let engine =
            Engine::start(base.model, options.limits, Arc::clone(&queue), Arc::clone(&metrics));
        let engine = engine.map_err(start("start a thread"))?;
        core.serve(BASE, &Champion::base(0))?;
        core.serve(CHAMPION, &Champion::base(0))?;
        let shared = Arc::new(Shared::new(options.clone(), base.tokenizer, &core, chats));
        let (stop, stopping) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("http")
            .enable_all()
            .build()
            .map_err(start("start a thread"))?;
        let router = api::router(Arc::clone(&shared));
        let limits = options.limits;
        let connected = Arc::clone(&metrics);
        let serve = move || {
            runtime.block_on(connections::serve(listener, router, limits, connected, stopping));
            runtime.shutdown_background();
        };
        let http = std::thread::Builder::new().name("http".into()).spawn(serve);
        let http = Some(http.map_err(start("start a thread"))?);
        let engine = Some(engine);
        let followers = Mutex::default();
        Ok(Self { address, core, followers, stop, http, engine })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Loads a champion beside the one that serves. From then on new requests go to it; running ones
    /// finish on the old one.
    ///
    /// # Errors
    /// If the adapter cannot be loaded, does not fit the model, or is not what its digest says. The old
    /// one serves on.
    pub fn swap(&self, champion: &Champion) -> Result<()> {
        self.core.swap(champion)
    }

    /// Serves what a [contract](crate::Contract) says, now and whenever the file changes: from the next
    /// half second on. What cannot be served is logged and told by `/health`; the champion before
    /// serves on. A file that does not exist is waited for.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn follow(&self, contract: impl Into<PathBuf>) -> Result<()> {
        let follower = Follower::start(Arc::clone(&self.core), contract.into());
        let follower = follower.map_err(|source| Error::Start {
            address: self.address,
            action: "start a thread",
            source,
        })?;
        self.followers.lock().unwrap_or_else(PoisonError::into_inner).push(follower);
        Ok(())
    }

    /// Serves an adapter under a name, for requests that ask for it.
    ///
    /// # Errors
    /// As [`swap`](Self::swap); [`Error::Option`] for the names `base`, `champion` and `candidate`, and for
    /// one that is empty or holds control characters.
    pub fn add(&self, name: &str, folder: impl AsRef<Path>) -> Result<()> {
        let taken = [BASE, CHAMPION, CANDIDATE].contains(&name);
        if name.is_empty() || name.chars().any(char::is_control) || taken {
            return Err(Error::Option {
                name: "name of an adapter",
                expected: "a name without control characters, and not base, champion or candidate",
                found: format!("{name:?}"),
            });
        }
        self.core.serve(name, &Champion::new(folder.as_ref(), 0))
    }

    /// Waits until the server is stopped by a signal to its process, or fails.
    pub fn wait(mut self) {
        if let Some(http) = self.http.take() {
            // A panic there has been printed.
            let _ = http.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.followers.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.engine = None;
        // The thread may have ended already.
        let _ = self.stop.send(true);
        if let Some(http) = self.http.take() {
            let _ = http.join();
        }
    }
}
