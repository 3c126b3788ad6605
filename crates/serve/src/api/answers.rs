//! `POST /v1/chat/completions` and `POST /v1/completions`.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use serde_json::{Value, json};

use super::error::ApiError;
use super::read_body;
use super::request::{Input, Request};
use super::running::{Finish, Running};
use super::state::Shared;
use super::wire::{Head, Kind};
use crate::chats::Chat;

pub(super) async fn chat(State(shared): State<Arc<Shared>>, body: Body) -> Response {
    respond(shared, Kind::Chat, body).await
}

pub(super) async fn completions(State(shared): State<Arc<Shared>>, body: Body) -> Response {
    respond(shared, Kind::Text, body).await
}

async fn respond(shared: Arc<Shared>, kind: Kind, body: Body) -> Response {
    shared.metrics.requests.fetch_add(1, Relaxed);
    match accept(&shared, kind, body).await {
        Ok(exchange) => exchange.respond().await,
        Err(error) => {
            let count = match error.status.as_u16() {
                429 => &shared.metrics.overloaded,
                _ => &shared.metrics.refused,
            };
            count.fetch_add(1, Relaxed);
            error.into_response()
        }
    }
}

/// The request, put in the queue.
async fn accept(shared: &Arc<Shared>, kind: Kind, body: Body) -> Result<Exchange, ApiError> {
    let body = read_body(body, &shared.options.limits).await?;
    let (request, running) = start(shared, kind, body).await?;
    let head = Head::new(kind, &shared.new_id(), &running.served);
    Ok(Exchange { shared: Arc::clone(shared), head, request, running })
}

/// Reads and renders the request, which takes time in proportion to its length, and puts it in the queue.
async fn start(
    shared: &Arc<Shared>,
    kind: Kind,
    body: axum::body::Bytes,
) -> Result<(Request, Running), ApiError> {
    let shared = Arc::clone(shared);
    let work = move || {
        let request = match kind {
            Kind::Chat => shared.reading().chat(&body),
            Kind::Text => shared.reading().completion(&body),
        }?;
        let limits = &shared.options.limits;
        let rendered = request.render(&shared.tokenizer, limits)?;
        let grammar = request.grammar(&rendered, &shared.grammars)?;
        let (tokenizer, queue) = (&shared.tokenizer, &shared.queue);
        let running = Running::start(&request, rendered, grammar, tokenizer, queue, limits)?;
        Ok((request, running))
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(started) => started,
        Err(error) => {
            tracing::error!("a request could not be read: {error}");
            Err(ApiError::internal("the request could not be read; the server's log says why"))
        }
    }
}

/// A request and its answers.
struct Exchange {
    shared: Arc<Shared>,
    head: Head,
    request: Request,
    running: Running,
}

impl Exchange {
    /// The response: all answers, or a stream of their pieces.
    async fn respond(self) -> Response {
        if self.request.stream {
            let interval = self.shared.options.limits.keep_alive;
            let keep_alive = KeepAlive::new().interval(interval).text("keepalive");
            return Sse::new(self.stream()).keep_alive(keep_alive).into_response();
        }
        self.whole().await.into_response()
    }

    /// Waits for all answers.
    async fn whole(mut self) -> Result<Response, ApiError> {
        while let Some(update) = self.running.next().await {
            update?;
        }
        let whole = self.head.whole(&self.running);
        self.record();
        Ok(Json(whole).into_response())
    }

    /// Sends the answers while they are generated.
    fn stream(self) -> impl Stream<Item = Result<Event, Infallible>> + use<> {
        let first =
            (0..self.request.choices).filter_map(|choice| self.head.first(choice)).collect();
        stream::unfold(Sending { exchange: Some(self), ready: first }, Sending::next)
    }

    /// The objects to send next; `None` after the last.
    async fn objects(&mut self) -> Option<Result<Vec<Value>, ApiError>> {
        Some(self.running.next().await?.map(|update| self.head.chunks(&update)))
    }

    /// Records the chat, its first answer only, on a thread that may wait for the disk.
    fn record(&self) {
        let Input::Chat { chat, .. } = &self.request.input else { return };
        let agent = self.request.metadata.get("agent").and_then(Value::as_str).map(str::to_owned);
        let shared = Arc::clone(&self.shared);
        let wanted = shared.chats.as_ref().is_some_and(|chats| chats.wants(agent.as_deref()));
        let Some(answer) = self.running.answers.first().filter(|_| wanted) else { return };
        let asked = chat.messages.iter().map(|message| json!(message));
        let chat = Chat {
            id: self.head.id.clone(),
            messages: asked.chain([self.head.message(0, answer)]).collect(),
            tools: chat.tools.clone(),
            agent,
            model: self.head.model.clone(),
            generation: self.running.served.generation,
            fingerprint: self.head.fingerprint.clone(),
            finish: answer.finish.map_or("", Finish::name),
        };
        tokio::task::spawn_blocking(move || {
            let Some(Err(error)) = shared.chats.as_ref().map(|chats| chats.record(chat)) else {
                return;
            };
            shared.metrics.unrecorded.fetch_add(1, Relaxed);
            tracing::error!("a chat is not recorded: {error}");
        });
    }
}

/// A streamed response between two of its objects.
struct Sending {
    /// `None` when all was sent.
    exchange: Option<Exchange>,
    ready: Vec<Value>,
}

impl Sending {
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        if self.ready.is_empty() {
            let exchange = self.exchange.as_mut()?;
            match exchange.objects().await {
                Some(Ok(objects)) => self.ready = objects,
                Some(Err(error)) => {
                    self.exchange = None;
                    return Some((Ok(event(&error.body())), self));
                }
                None if exchange.request.usage => {
                    exchange.request.usage = false;
                    self.ready = vec![exchange.head.usage(&exchange.running)];
                }
                None => {
                    exchange.record();
                    self.exchange = None;
                    return Some((Ok(Event::default().data("[DONE]")), self));
                }
            }
        }
        // An update has at least one object.
        let object = if self.ready.is_empty() { Value::Null } else { self.ready.remove(0) };
        Some((Ok(event(&object)), self))
    }
}

fn event(object: &Value) -> Event {
    Event::default().data(object.to_string())
}
