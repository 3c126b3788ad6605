//! Errors as OpenAI's clients expect them.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::engine::queue::{Failure, Refused};

/// What a request is refused with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub status: StatusCode,
    message: String,
    /// The field that is wrong.
    param: Option<String>,
    code: Option<&'static str>,
}

impl ApiError {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), param: None, code: None }
    }

    /// A request that is not understood.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// A field with another value than those that are understood.
    pub fn field(param: &str, expected: &str, found: &Value) -> Self {
        let message = format!("{param}: expected {expected}, found {}", shown(found));
        Self { param: Some(param.to_owned()), ..Self::bad_request(message) }
    }

    /// A problem with a field.
    pub fn of_param(param: &str, message: impl Into<String>) -> Self {
        Self { param: Some(param.to_owned()), ..Self::bad_request(message) }
    }

    /// A field that the server does not have.
    pub fn unsupported(param: &str, expected: &str) -> Self {
        let message = format!("{param}: this server does not support it: expected {expected}");
        let code = Some("unsupported_parameter");
        Self { param: Some(param.to_owned()), code, ..Self::bad_request(message) }
    }

    /// A prompt that is too long.
    pub fn context(prompt: usize, most: usize) -> Self {
        let message = format!(
            "messages: expected a prompt of fewer than {most} tokens, the context of this server, found \
             {prompt}"
        );
        let code = Some("context_length_exceeded");
        Self { param: Some("messages".to_owned()), code, ..Self::bad_request(message) }
    }

    pub fn unauthorized() -> Self {
        let message = "expected the server's token as `Authorization: Bearer TOKEN`";
        Self { code: Some("invalid_api_key"), ..Self::new(StatusCode::UNAUTHORIZED, message) }
    }

    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    /// A model that is not served.
    pub fn model(name: &str, served: &str) -> Self {
        let name = shown(&name.into());
        let message = format!("model: expected one of {served}, found {name}");
        let (param, code) = (Some("model".to_owned()), Some("model_not_found"));
        Self { param, code, ..Self::new(StatusCode::NOT_FOUND, message) }
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub fn method() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "this path has another method: GET or POST")
    }

    pub fn too_large(most: usize) -> Self {
        let message = format!("expected a body of at most {most} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, message)
    }

    pub fn too_slow() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "the request did not arrive in time")
    }

    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    /// The body.
    pub fn body(&self) -> Value {
        let kind = match self.status {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::FORBIDDEN => "permission_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        let Self { message, param, code, .. } = self;
        json!({ "error": { "message": message, "type": kind, "param": param, "code": code } })
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Full => {
                let message = "too many requests wait already: try again later";
                let code = Some("queue_full");
                Self { code, ..Self::new(StatusCode::TOO_MANY_REQUESTS, message) }
            }
            Refused::Stopped => Failure::Stopping.into(),
        }
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        let unavailable = |message| Self::new(StatusCode::SERVICE_UNAVAILABLE, message);
        match failure {
            Failure::TimedOut => unavailable("the time for a request is over"),
            Failure::Stopping => unavailable("the server stops"),
            Failure::Model => Self::internal("the model failed; the server's log says why"),
            Failure::Grammar => Self::of_param(
                "response_format",
                "response_format: the answer became too complex to be kept to its grammar; the server's log says why",
            ),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        let headers = response.headers_mut();
        match self.status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        response
    }
}

/// A value in an error: short, and without line breaks.
pub(crate) fn shown(value: &Value) -> String {
    const MOST: usize = 60;
    match value {
        Value::Array(items) => format!("an array of {}", items.len()),
        Value::Object(_) => "an object".to_owned(),
        value => {
            let text = value.to_string();
            match text.char_indices().nth(MOST) {
                Some((end, _)) => format!("{}...", &text[..end]),
                None => text,
            }
        }
    }
}
