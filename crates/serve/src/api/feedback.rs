//! `POST /v1/feedback`: thumbs and corrections.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use serde_json::{Value, json};

use super::error::ApiError;
use super::fields::Fields;
use super::read_body;
use super::state::Shared;
use crate::chats::Feedback;

/// `{"id": "chatcmpl-...", "rating": "up" | "down", "correction": "..."}`; one of the latter two.
pub(super) async fn feedback(
    State(shared): State<Arc<Shared>>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let body = read_body(body, &shared.options.limits).await?;
    let feedback = read(&body)?;
    let recorded = tokio::task::spawn_blocking(move || match &shared.chats {
        None => Err(ApiError::not_found("this server does not record chats")),
        Some(chats) => match chats.judge(&feedback) {
            Ok(true) => Ok(()),
            Ok(false) => Err(ApiError::not_found("id: expected that of a recorded chat")),
            Err(error) => {
                tracing::error!("feedback is not recorded: {error}");
                Err(ApiError::internal(
                    "the feedback could not be recorded; the server's log says why",
                ))
            }
        },
    });
    match recorded.await {
        Ok(recorded) => recorded.map(|()| Json(json!({ "recorded": true }))),
        Err(error) => Err(ApiError::internal(error.to_string())),
    }
}

fn read(body: &[u8]) -> Result<Feedback, ApiError> {
    let fields = Fields::parse(body)?;
    let good = match fields.text("rating")?.as_deref() {
        None => None,
        Some("up") => Some(true),
        Some("down") => Some(false),
        Some(other) => return Err(ApiError::field("rating", r#""up" or "down""#, &other.into())),
    };
    let correction = fields.text("correction")?.filter(|text| !text.trim().is_empty());
    let id = fields.text("id")?.unwrap_or_default();
    if id.is_empty() {
        return Err(ApiError::of_param("id", "id: expected that of a recorded chat, found none"));
    }
    if good.is_none() && correction.is_none() {
        return Err(ApiError::bad_request("expected `rating` or `correction`, found neither"));
    }
    Ok(Feedback { id, good, correction })
}
