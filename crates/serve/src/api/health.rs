//! `GET /health`: whether the model answers.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use models::GenerateOptions;
use serde_json::json;
use tokio::sync::mpsc;

use super::state::Shared;
use crate::engine::queue::{Event, Job};

/// A token that was generated so long ago proves nothing.
const LATELY: Duration = Duration::from_secs(30);
/// How long the model has for the token that is asked for then.
const PATIENCE: Duration = Duration::from_secs(10);

/// Green if a token was generated lately. If nobody has asked for one, one is generated for this.
pub(super) async fn health(State(shared): State<Arc<Shared>>) -> Response {
    let lately = || shared.metrics.since_last_token().is_some_and(|since| since < LATELY);
    let healthy = lately() || generates(&shared).await || lately();
    let served = shared.catalog.find(None);
    let body = json!({
        "status": if healthy { "ok" } else { "no token was generated lately" },
        "seconds_since_last_token": shared.metrics.since_last_token().map(|since| since.as_secs_f64()),
        "generation": served.as_ref().map(|served| served.generation),
        "system_fingerprint": served.map(|served| served.fingerprint.clone()),
        "problem": shared.catalog.problem(),
    });
    let status = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(body)).into_response()
}

/// Whether the model generates a token.
async fn generates(shared: &Shared) -> bool {
    let Some(served) = shared.catalog.find(None) else { return false };
    let (events, mut generated) = mpsc::unbounded_channel();
    let now = Instant::now();
    let job = Job {
        served,
        prompt: shared.tokenizer.encode("hello").unwrap_or_else(|_| vec![0]),
        choices: 1,
        options: GenerateOptions { max_tokens: 1, ..GenerateOptions::default() },
        grammar: None,
        stopped: Arc::new([AtomicBool::new(false)]),
        since: now,
        deadline: now + PATIENCE,
        events,
    };
    if shared.queue.push(job).is_err() {
        return false;
    }
    let token = async {
        while let Some(event) = generated.recv().await {
            if matches!(event, Event::Token { .. }) {
                return true;
            }
        }
        false
    };
    tokio::time::timeout(PATIENCE, token).await.unwrap_or(false)
}
