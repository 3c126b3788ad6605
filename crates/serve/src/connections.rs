//! Accepts connections, so many at a time, and ends those that stall.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};

use crate::metrics::Metrics;
use crate::options::Limits;

/// How long to wait when no connection can be accepted, for want of file descriptors for instance.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves until told to stop.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    metrics: Arc<Metrics>,
    mut stopping: watch::Receiver<bool>,
) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!("cannot listen: {error}"),
    };
    let places = Arc::new(Semaphore::new(limits.connections));
    loop {
        let accepted = async {
            // Never closed.
            let place = Arc::clone(&places).acquire_owned().await.ok();
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            accepted = accepted => accepted,
            _ = stopping.changed() => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("a connection was not accepted: {error}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let (router, metrics) = (router.clone(), Arc::clone(&metrics));
        tokio::spawn(async move {
            metrics.connections.fetch_add(1, Relaxed);
            connection(stream, router, limits.client).await;
            metrics.connections.fetch_sub(1, Relaxed);
            drop(place);
        });
    }
}

/// Serves one connection to its end. A client has `patience` to send the head of a request, and to take
/// what is sent to it.
async fn connection(stream: TcpStream, router: Router, patience: Duration) {
    // Without it, small pieces of a stream wait for each other.
    let _ = stream.set_nodelay(true);
    let stream = crate::stalled::Watched::new(stream, patience);
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(patience);
    let service = TowerToHyperService::new(router);
    // Broken and vanished clients are none of the server's business.
    if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!("a connection broke: {error}");
    }
}
