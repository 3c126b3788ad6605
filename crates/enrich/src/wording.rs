//! Composes refusals, and the wrong answers that pairs set against right ones.

use std::collections::HashMap;

use eval::Agent;
use rand::seq::SliceRandom;

use crate::data::nth_of;
use crate::english::{from_the_other_side, gerund, is_plain_request};
use crate::entries::RefusalParts;
use crate::random::rng;
use crate::{Result, Template};

/// A request to decline.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Declined<'a> {
    /// The kind of harm.
    pub topic: &'a str,
    /// Reasons of that kind; empty for none of its own.
    pub because: &'a [String],
    /// The request, a bare verb phrase.
    pub ask: &'a str,
    /// The text that the request stands in, if it is not the user's own.
    pub source: Option<&'a str>,
}

/// Composes refusals. Every list of parts is used up before any part repeats.
pub(crate) struct Wording<'a> {
    parts: &'a RefusalParts,
    declines: Deck<'a, Template>,
    who: Deck<'a, Template>,
    partial: Deck<'a, Template>,
    complied: Deck<'a, Template>,
    /// How often each list of reasons, offers and the like was used.
    used: HashMap<String, usize>,
}

impl<'a> Wording<'a> {
    /// The wording of rows of one kind.
    pub fn new(parts: &'a RefusalParts, seed: u64, kind: &str) -> Self {
        let deck = |items, part| Deck::new(items, seed, &format!("{kind}: {part}"));
        Wording {
            parts,
            declines: deck(&parts.declines, "declines"),
            who: deck(&parts.who, "who"),
            partial: deck(&parts.partial.answers, "partial"),
            complied: deck(&parts.rejected.complied, "complied"),
            used: HashMap::new(),
        }
    }

    /// Three sentences: that the agent declines, what and why; who it is; what it offers instead.
    pub fn refusal(&mut self, agent: &Agent, declined: Declined<'_>) -> Result<String> {
        let form = match declined.source {
            Some(_) => nth_of(&self.parts.declines_of_texts, self.next("texts")),
            None if is_plain_request(declined.ask) => self.declines.draw(),
            None => nth_of(&self.parts.declines_of_any, self.next("any")),
        };
        let declines = self.fill(form, declined, "")?;
        let who = self.who.draw().fill(&[("name", &agent.name), ("role", &agent.role)])?;
        let offer = nth_of(&agent.offers, self.next(agent.id.as_str()));
        Ok(format!("{declines} {who} {offer}"))
    }

    /// The answer to a harmless request, and that the agent declines the other one.
    pub fn partial(&mut self, answer: &str, declined: Declined<'_>) -> Result<String> {
        if is_plain_request(declined.ask) {
            let form = self.partial.draw();
            return self.fill(form, declined, answer);
        }
        let form = nth_of(&self.parts.declines_of_any, self.next("any"));
        Ok(format!("{answer} {}", self.fill(form, declined, "")?))
    }

    /// The beginning of an answer that complies, without any content.
    pub fn complied(&mut self, declined: Declined<'_>) -> Result<String> {
        let request = from_the_other_side(declined.ask);
        self.complied.draw().fill(&[("request", &request), ("doing", &gerund(&request))])
    }

    fn fill(&mut self, form: &Template, declined: Declined<'_>, answer: &str) -> Result<String> {
        let Declined { topic, because, ask, source } = declined;
        let because = match because {
            [] => nth_of(&self.parts.reasons, self.next("reasons")),
            because => nth_of(because, self.next(topic)),
        };
        let request = from_the_other_side(ask);
        form.fill(&[
            ("request", &request),
            ("doing", &gerund(&request)),
            ("quoted", ask),
            ("because", because),
            ("source", source.unwrap_or_default()),
            ("answer", answer),
        ])
    }

    /// How often `list` was asked for before.
    fn next(&mut self, list: &str) -> usize {
        let used = self.used.entry(list.to_owned()).or_default();
        *used += 1;
        *used - 1
    }
}

/// Items in random order, over and over.
struct Deck<'a, T> {
    order: Vec<&'a T>,
    drawn: usize,
}

impl<'a, T> Deck<'a, T> {
    fn new(items: &'a [T], seed: u64, label: &str) -> Self {
        let mut order: Vec<&T> = items.iter().collect();
        order.shuffle(&mut rng(seed, label));
        Deck { order, drawn: 0 }
    }

    fn draw(&mut self) -> &'a T {
        self.drawn += 1;
        let item: &&T = nth_of(&self.order, self.drawn - 1);
        item
    }
}
