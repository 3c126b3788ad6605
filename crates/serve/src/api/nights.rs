//! `GET /v1/nights` and `GET /v1/nights/{id}/report`: what the nights of a home came to.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::error::ApiError;
use super::state::Shared;

/// The last nights that are listed.
const MOST: usize = 30;

/// A finished night.
struct Night {
    /// The name of its folder.
    id: String,
    outcome: String,
    report: PathBuf,
}

/// The finished nights, newest first.
pub(super) async fn list(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let nights = nights(&shared).await.into_iter().take(MOST);
    let nights: Vec<Value> =
        nights.map(|night| json!({ "id": night.id, "outcome": night.outcome })).collect();
    Json(json!({ "nights": nights }))
}

/// The report of a night. The path is that of the listing: what was asked for is only compared with it.
pub(super) async fn report(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let none = || ApiError::not_found("expected the id of a finished night");
    let night = nights(&shared).await.into_iter().find(|night| night.id == id).ok_or_else(none)?;
    let path = night.report.clone();
    let page = match tokio::task::spawn_blocking(move || std::fs::read(path)).await {
        Ok(Ok(page)) => page,
        problem => {
            tracing::warn!("{}: {problem:?}", night.report.display());
            return Err(none());
        }
    };
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    Ok((headers, page).into_response())
}

/// A report has its style and its charts in itself, and no scripts.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

async fn nights(shared: &Arc<Shared>) -> Vec<Night> {
    let Some(home) = shared.options.reports.clone() else { return Vec::new() };
    let read = move || {
        let folders = std::fs::read_dir(home.join("nights")).into_iter().flatten().flatten();
        let mut nights: Vec<Night> = folders.filter_map(|item| night(item.path())).collect();
        nights.sort_by(|a, b| b.id.cmp(&a.id));
        nights
    };
    tokio::task::spawn_blocking(read).await.unwrap_or_default()
}

fn night(folder: PathBuf) -> Option<Night> {
    let id = folder.file_name()?.to_str()?.to_owned();
    let summary = std::fs::read(folder.join("summary.json")).ok()?;
    let summary: Value = serde_json::from_slice(&summary).ok()?;
    let outcome = summary["outcome"].as_str()?.replace('_', " ");
    Some(Night { id, outcome, report: folder.join("report/report.html") })
}
