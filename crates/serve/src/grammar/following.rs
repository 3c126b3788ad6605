//! The place of one answer in its grammar.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use llguidance::{Matcher, ParserFactory};
use models::TokenConstraint;
use toktrie::{TokEnv, TokTrie};

use super::numbers::Numbers;
use crate::answer::leaves_reasoning_open;

/// The most tokens of line breaks between reasoning and what follows it.
const BREAKS: usize = 2;

/// Whether an answer reasons before it follows its grammar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reasoning {
    /// It does not.
    No,
    /// It may.
    Allowed,
    /// It does: the prompt ends with this text, which opens the reasoning.
    Opened(String),
}

/// Tokens of the vocabulary that are treated apart.
pub(super) struct Tokens {
    environment: TokEnv,
    stop: Box<[u32]>,
    /// Those that hold a digit.
    digits: Box<[u32]>,
    /// Those of line breaks.
    breaks: Box<[u32]>,
    /// Those that open reasoning.
    openings: Box<[u32]>,
}

impl Tokens {
    pub fn new(factory: &ParserFactory, stop: &[u32]) -> Self {
        let environment = factory.tok_env().clone();
        let trie = environment.tok_trie();
        let those = |test: &dyn Fn(&[u8]) -> bool| -> Box<[u32]> {
            let ids = 0..u32::try_from(trie.vocab_size()).unwrap_or(u32::MAX);
            ids.filter(|&id| test(trie.token(id))).collect()
        };
        let digits = those(&|token| token.iter().any(u8::is_ascii_digit));
        let breaks = those(&|token| !token.is_empty() && token.iter().all(|&byte| byte == b'\n'));
        let openings = those(&|token| leaves_reasoning_open(&text(token)));
        Self { stop: stop.into(), digits, breaks, openings, environment }
    }

    fn bytes(&self, token: u32) -> &[u8] {
        self.environment.tok_trie().token(token)
    }
}

/// A token as text, a control token by its name.
fn text(token: &[u8]) -> String {
    let name = token.strip_prefix(&[TokTrie::SPECIAL_TOKEN_MARKER]).unwrap_or(token);
    String::from_utf8_lossy(name).into_owned()
}

/// The place in the grammar after the tokens of one answer.
pub(super) struct Following {
    matcher: Matcher,
    tokens: Arc<Tokens>,
    place: Place,
    /// Where the numbers of the text are limited; `None` where the grammar does so itself.
    numbers: Option<Numbers>,
    failed: Arc<AtomicBool>,
}

enum Place {
    /// Within reasoning, which is any text.
    Reasoning(String),
    /// Reasoning may begin.
    Undecided,
    /// So many line breaks may follow the reasoning.
    After { breaks: usize },
    /// In the grammar.
    Grammar,
}

impl Following {
    pub fn new(
        matcher: Matcher,
        tokens: Arc<Tokens>,
        reasoning: &Reasoning,
        numbers: Option<Numbers>,
        failed: Arc<AtomicBool>,
    ) -> Self {
        let place = match reasoning {
            Reasoning::No => Place::Grammar,
            Reasoning::Allowed => Place::Undecided,
            Reasoning::Opened(text) => Place::Reasoning(text.clone()),
        };
        Self { matcher, tokens, place, numbers, failed }
    }

    /// Tokens that may come beside those of the grammar.
    fn beside(&self) -> &[u32] {
        match self.place {
            Place::Undecided => &self.tokens.openings,
            Place::After { breaks: 1.. } => &self.tokens.breaks,
            _ => &[],
        }
    }

    /// Removes tokens with which a number exceeds its limits, unless the schema demands it.
    fn limit_numbers(&self, logits: &mut [f32]) {
        let Some(numbers) = &self.numbers else { return };
        let mut removed = Vec::new();
        for &id in &self.tokens.digits {
            let Some(logit) = logits.get_mut(id as usize).filter(|logit| logit.is_finite()) else {
                continue;
            };
            if !numbers.clone().advance(self.tokens.bytes(id)) {
                removed.push((id, std::mem::replace(logit, f32::NEG_INFINITY)));
            }
        }
        if !logits.iter().any(|logit| logit.is_finite()) {
            for (id, logit) in removed {
                logits[id as usize] = logit;
            }
        }
    }
}

impl TokenConstraint for Following {
    fn restrict(&mut self, logits: &mut [f32]) {
        if let Place::Reasoning(_) = self.place {
            // What must follow it is still missing.
            for &id in &self.tokens.stop {
                if let Some(logit) = logits.get_mut(id as usize) {
                    *logit = f32::NEG_INFINITY;
                }
            }
            return;
        }
        let mask = self.matcher.compute_mask_or_eos();
        if let Err(error) = &mask {
            // The answer ends here, and is told to have failed.
            tracing::warn!("a grammar cannot be followed: {error}");
            self.failed.store(true, Relaxed);
        }
        let beside = self.beside();
        for (id, logit) in (0..).zip(logits.iter_mut()) {
            let allowed = match &mask {
                Ok(mask) => (id as usize) < mask.len() && mask.is_allowed(id),
                Err(_) => self.tokens.stop.contains(&id),
            };
            if !allowed && !beside.contains(&id) {
                *logit = f32::NEG_INFINITY;
            }
        }
        self.limit_numbers(logits);
    }

    fn accept(&mut self, token: u32) {
        match &mut self.place {
            Place::Reasoning(reasoning) => {
                *reasoning += &text(self.tokens.bytes(token));
                if !leaves_reasoning_open(reasoning) {
                    self.place = Place::After { breaks: BREAKS };
                }
                return;
            }
            Place::Undecided if self.tokens.openings.contains(&token) => {
                self.place = Place::Reasoning(text(self.tokens.bytes(token)));
                return;
            }
            Place::After { breaks } if *breaks > 0 && self.tokens.breaks.contains(&token) => {
                *breaks -= 1;
                return;
            }
            _ => self.place = Place::Grammar,
        }
        if let Some(numbers) = &mut self.numbers {
            numbers.advance(self.tokens.bytes(token));
        }
        if !self.matcher.is_stopped() && self.matcher.consume_token(token).is_err() {
            self.failed.store(true, Relaxed);
        }
    }
}

impl fmt::Debug for Following {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Following").finish_non_exhaustive()
    }
}
