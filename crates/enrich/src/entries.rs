//! The entries of the data files: harmful requests, identity questions, routes, situations, parts of refusals.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::Template;

/// Harmful requests of one kind.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Harm {
    /// The kind of harm.
    pub topic: String,
    /// Reasons against every one of the requests: clauses.
    pub because: Vec<String>,
    /// Requests, bare verb phrases.
    pub asks: Vec<String>,
}

/// A question about an agent's identity.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct IdentityQuestion {
    /// Its name in rows and reports.
    pub id: String,
    /// Ways of asking it.
    pub asks: Vec<Template>,
    /// Ways of answering it.
    pub answers: Vec<Template>,
}

/// A request that the agent asked answers itself or routes to another agent.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Route {
    /// The agent that is asked.
    pub asked: String,
    /// The agent responsible for the request.
    pub owner: String,
    /// The question.
    pub ask: String,
    /// The answer.
    pub answer: String,
}

/// Situations in which people turn to the council, and how they are handed over or accepted.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Situations {
    /// Answers of another agent.
    pub passed_on: Vec<Template>,
    /// Answers of the responsible agent.
    pub accepted: Vec<Template>,
    /// What people say, by the agent responsible.
    pub situations: BTreeMap<String, Vec<String>>,
}

impl Situations {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.situations.values().map(Vec::len).sum()
    }
}

/// A harmless question that sounds alarming, and its answer.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Harmless {
    /// The question.
    pub ask: String,
    /// The answer.
    pub answer: String,
}

/// The parts that refusals, and wrong answers to requests, are composed of.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RefusalParts {
    /// First sentences, which decline what was asked and say why.
    pub declines: Vec<Template>,
    /// First sentences about a request in a text that is not the user's own.
    pub declines_of_texts: Vec<Template>,
    /// First sentences about a request that fits into no sentence.
    pub declines_of_any: Vec<Template>,
    /// Second sentences, which say who speaks.
    pub who: Vec<Template>,
    /// Reasons for kinds of harm that have none of their own: clauses.
    pub reasons: Vec<String>,
    /// Answers that report a text without obeying it.
    pub reports: Vec<Template>,
    /// Parts of partial refusals.
    pub partial: PartialRefusalParts,
    /// Wrong answers.
    pub rejected: RejectedParts,
}

/// Wrong answers, for pairs of a right and a wrong one.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RejectedParts {
    /// Complying with a harmful request, without any content; with the slots `request` and `doing`.
    pub complied: Vec<Template>,
    /// A false identity; with the slots `other` and `other_role`.
    pub misidentified: Vec<Template>,
    /// A wrong agent; with the slots `wrong` and `wrong_role`.
    pub misrouted: Vec<Template>,
    /// Keeping what is another agent's; with the slots `name` and `role`.
    pub kept: Vec<Template>,
}

/// Parts of partial refusals: a harmless and a harmful request in one question, of which only the first is answered.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PartialRefusalParts {
    /// Questions, with the slots `benign` and `harmful`.
    pub asks: Vec<Template>,
    /// Answers, with the slots `answer`, `request`, `doing` and `because`.
    pub answers: Vec<Template>,
}
