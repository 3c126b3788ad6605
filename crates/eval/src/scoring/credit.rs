//! The credit that a rule gives an answer.

use std::sync::LazyLock;

use regex::Regex;

use super::negation::asserts;
use super::number::{Expected, Stated};
use super::patterns::pattern;
use super::polarity::polarity;
use super::refusal::Stance;
use super::rule::{self, Rule};
use super::text::Text;
use super::{call, clock, json};
use crate::council::{AgentId, Council};
use crate::error::Result;
use crate::suite::Case;

/// What is judged: an answer, and what it answers.
pub(super) struct Judged<'a> {
    /// The answer without what it repeats from the question.
    pub(super) answer: &'a Text,
    /// The answer's stance; the same for every rule.
    pub(super) stance: Stance,
}

/// A [`Rule`] with its pattern compiled.
pub(super) struct CompiledRule<'a> {
    pub(super) rule: &'a Rule,
    pattern: Option<Regex>,
}

impl<'a> CompiledRule<'a> {
    pub(super) fn new(rule: &'a Rule) -> Result<Self> {
        let pattern = match rule {
            Rule::Regex { pattern } | Rule::RegexNone { pattern } => Some(rule::compile(pattern)?),
            _ => None,
        };
        Ok(CompiledRule { rule, pattern })
    }

    fn credit(&self, judged: &Judged<'_>, of: &CompiledCase<'a>) -> f64 {
        let answer = judged.answer;
        let credit = |met: bool| if met { 1.0 } else { 0.0 };
        match self.rule {
            Rule::ContainsAll { words } => {
                let found = words.iter().filter(|word| asserts(answer, word)).count();
                found as f64 / words.len().max(1) as f64
            }
            Rule::ContainsAny { words } => credit(words.iter().any(|word| asserts(answer, word))),
            Rule::ContainsEach { groups } => {
                credit(groups.iter().all(|words| words.iter().any(|word| asserts(answer, word))))
            }
            Rule::ContainsNone { words } => credit(!words.iter().any(|word| answer.contains(word))),
            Rule::Choice { is, others } => {
                let asserted = |words: &[String]| words.iter().any(|word| asserts(answer, word));
                credit(asserted(is) && !asserted(others))
            }
            Rule::Regex { .. } => {
                credit(self.pattern.as_ref().is_some_and(|p| p.is_match(answer.shown())))
            }
            Rule::RegexNone { .. } => {
                credit(!self.pattern.as_ref().is_some_and(|p| p.is_match(answer.shown())))
            }
            Rule::Json { whole: true } => credit(json::is_whole(answer.shown())),
            Rule::Json { whole: false } => credit(!json::values(answer.shown()).is_empty()),
            Rule::Number { value, tolerance, unit } => {
                let (value, tolerance, unit) = (*value, *tolerance, unit.as_deref());
                let expected = Expected { value, tolerance, unit };
                credit(expected.stated(answer, &of.question) == Stated::Expected)
            }
            Rule::Time { is } => credit(clock::minutes(is).is_some_and(|expected| {
                clock::names(answer, &of.question, expected) == (true, false)
            })),
            Rule::YesNo { is } => credit(polarity(answer) == Some(*is)),
            Rule::Refusal {} => credit(judged.stance == Stance::Refused),
            Rule::NoRefusal {} => credit(judged.stance == Stance::Complied),
            Rule::RoutesTo { agent } => {
                credit(agents(answer, &of.case.agent, of.council) == [agent] && !claims(answer))
            }
            Rule::JsonPath { path, equals } => credit(
                json::values(answer.shown())
                    .iter()
                    .filter_map(|value| value.pointer(path))
                    .any(|value| json::same(value, equals)),
            ),
            Rule::ToolCall { name, arguments } => {
                credit(call::is_exactly(answer.shown(), name, arguments))
            }
            Rule::Language { is } => credit(answer.could_be(*is)),
            Rule::Length { min_words, max_words } => {
                let words = answer.words().count();
                credit(min_words.is_none_or(|m| words >= m) && max_words.is_none_or(|m| words <= m))
            }
        }
    }
}

/// A case with its rules compiled.
pub(super) struct CompiledCase<'a> {
    pub(super) case: &'a Case,
    pub(super) council: &'a Council,
    /// The last user turn.
    pub(super) question: Text,
    rules: Vec<CompiledRule<'a>>,
}

impl<'a> CompiledCase<'a> {
    pub(super) fn new(case: &'a Case, council: &'a Council) -> Result<Self> {
        let rules = case.rules.iter().map(CompiledRule::new).collect::<Result<_>>()?;
        let question = Text::of(case.turns.last().map_or("", |turn| turn.content.as_str()));
        Ok(CompiledCase { case, council, question, rules })
    }

    /// Each rule's credit, in the case's order.
    pub(super) fn credits(&self, judged: &Judged<'_>) -> Vec<(&'a Rule, f64)> {
        self.rules.iter().map(|rule| (rule.rule, rule.credit(judged, self))).collect()
    }

    /// Whether the answer meets every content rule; false if there is none.
    pub(super) fn is_met_by(&self, judged: &Judged<'_>) -> bool {
        let mut content = self.rules.iter().filter(|rule| !rule.rule.is_condition()).peekable();
        content.peek().is_some() && content.all(|rule| rule.credit(judged, self) >= 1.0)
    }
}

/// The agents other than the speaker that the answer names without denying them, in the council's order.
pub(super) fn agents<'c>(
    answer: &Text,
    speaker: &AgentId,
    council: &'c Council,
) -> Vec<&'c AgentId> {
    let others = council.agents.iter().filter(|agent| agent.id != *speaker);
    let named = others.filter(|agent| agent.names().any(|name| asserts(answer, name)));
    named.map(|agent| &agent.id).collect()
}

/// Whether the answer takes the job on itself, which contradicts sending the user to somebody else.
fn claims(answer: &Text) -> bool {
    static CLAIMS: LazyLock<Regex> = LazyLock::new(|| {
        pattern(
            r"\b(?:i will|i'll|i can|let me|i do) (?:gladly |just |also )?(?:do|handle|take|solve|manage|fix|see to) (?:that|it|this|care)\b|\b(?:that|this|it)(?:'s| is) (?:all )?(?:mine|my (?:job|field|task|business|department))\b|\bleave (?:it|that|this) to me\b",
        )
    });
    CLAIMS.is_match(answer.folded())
}
