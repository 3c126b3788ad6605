//! The HTTP interface, as OpenAI's clients speak it.

mod access;
mod answers;
mod error;
mod feedback;
mod fields;
mod health;
mod nights;
mod page;
mod request;
mod running;
mod state;
mod wire;

use std::sync::Arc;
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use serde_json::{Value, json};

use crate::options::Limits;
use crate::served::Served;
use error::ApiError;
pub(crate) use state::Shared;

/// All paths.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    let guarded = Router::new()
        .route("/v1/chat/completions", post(answers::chat))
        .route("/v1/completions", post(answers::completions))
        .route("/v1/agents", get(page::agents))
        .route("/v1/feedback", post(feedback::feedback))
        .route("/v1/models", get(models))
        .route("/v1/models/{name}", get(model))
        .route("/v1/nights", get(nights::list))
        .route("/v1/nights/{id}/report", get(nights::report))
        .route("/metrics", get(metrics))
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), access::token));
    Router::new()
        .route("/", get(page::html))
        .route("/page.css", get(page::css))
        .route("/page.js", get(page::js))
        .route("/health", get(health::health))
        .merge(guarded)
        .method_not_allowed_fallback(async || ApiError::method())
        .fallback(async || ApiError::not_found("this server has no such path"))
        .layer(middleware::from_fn(access::origin))
        .with_state(shared)
}

/// `GET /v1/models`: what requests can ask for.
async fn models(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let models: Vec<Value> = shared.catalog.list().iter().map(|served| described(served)).collect();
    Json(json!({ "object": "list", "data": models }))
}

/// `GET /v1/models/{name}`.
async fn model(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let served = shared.catalog.find(Some(&name));
    let served = served.ok_or_else(|| ApiError::model(&name, &shared.catalog.names()))?;
    Ok(Json(described(&served)))
}

fn described(served: &Served) -> Value {
    json!({
        "id": served.name, "object": "model", "created": served.since, "owned_by": "nightshift",
        "generation": served.generation, "adapter": served.adapter,
        "system_fingerprint": served.fingerprint,
    })
}

/// `GET /metrics`: counters and gauges, as OpenMetrics.
async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, TYPE)], shared.metrics.to_string()).into_response()
}

/// The body of a request, within the limits of size and time.
async fn read_body(body: Body, limits: &Limits) -> Result<Bytes, ApiError> {
    let read = axum::body::to_bytes(body, limits.body_bytes);
    let deadline = tokio::time::Instant::from_std(Instant::now() + limits.client);
    match tokio::time::timeout_at(deadline, read).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_too_large(&error) => Err(ApiError::too_large(limits.body_bytes)),
        Ok(Err(_)) => Err(ApiError::bad_request("the request ended before its body")),
        Err(_) => Err(ApiError::too_slow()),
    }
}

fn is_too_large(error: &axum::Error) -> bool {
    let source = std::error::Error::source(error);
    source.is_some_and(|source| source.to_string().contains("length limit"))
}
