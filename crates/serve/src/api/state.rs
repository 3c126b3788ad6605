//! What all requests share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use chat_format::ChatTokenizer;
use durable::Digest;

use super::request::Reading;
use crate::chats::Chats;
use crate::core::Core;
use crate::engine::queue::Queue;
use crate::grammar::Grammars;
use crate::metrics::Metrics;
use crate::options::Options;
use crate::served::Catalog;

/// What all requests share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub options: Options,
    /// Of the token: digests have one length, so that a comparison tells nothing about it.
    pub token: Option<Digest>,
    pub tokenizer: Arc<ChatTokenizer>,
    pub grammars: Grammars,
    pub catalog: Arc<Catalog>,
    pub queue: Arc<Queue>,
    pub metrics: Arc<Metrics>,
    pub chats: Option<Chats>,
    ids: Ids,
}

/// Ids that no other response has, of this server or an earlier one.
#[derive(Debug)]
struct Ids {
    start: String,
    count: AtomicU64,
}

impl Shared {
    pub fn new(
        options: Options,
        tokenizer: Arc<ChatTokenizer>,
        core: &Core,
        chats: Option<Chats>,
    ) -> Self {
        let start = format!("{} {}", jiff::Timestamp::now().as_nanosecond(), std::process::id());
        let token = options.token.as_ref().map(|token| durable::digest(token.as_bytes()));
        let ids = Ids { start, count: AtomicU64::new(0) };
        let Core { catalog, queue, metrics, .. } = core;
        let (catalog, queue, metrics) =
            (Arc::clone(catalog), Arc::clone(queue), Arc::clone(metrics));
        let grammars = Grammars::new(&tokenizer);
        Self { options, token, tokenizer, grammars, catalog, queue, metrics, chats, ids }
    }

    pub fn new_id(&self) -> String {
        let count = self.ids.count.fetch_add(1, Relaxed);
        durable::digest(format!("{} {count}", self.ids.start)).to_string()[..24].to_owned()
    }

    pub fn reading(&self) -> Reading<'_> {
        Reading {
            catalog: &self.catalog,
            tokenizer: &self.tokenizer,
            limits: &self.options.limits,
            sampling: &self.options.sampling,
        }
    }
}
