//! Scores an answer by a case's rules.

pub(crate) mod extract;
pub(crate) mod refusal;
pub(crate) mod rule;
pub(crate) mod text;

use std::fmt;

use chat_format::tool_calls;
use serde::{Deserialize, Serialize};

use self::refusal::Stance;
use self::rule::{CompiledRule, Rule};
use self::text::{Language, Text};
use crate::council::{Council, RefusalDuty};
use crate::error::Result;
use crate::suite::Case;

/// The version of the scoring, raised with every change to it. Scores of different versions are never compared, because
/// the same answer may score differently.
pub const SCORING_VERSION: u32 = 1;

/// Why an answer did not score 1: the first of these that applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Failure {
    /// A loop, or mostly symbols.
    Degenerate,
    /// Empty, or fewer words than a rule asks for.
    TooShort,
    /// In another language than the one asked for (English unless a rule says otherwise).
    OffLanguage,
    /// It refuses although no rule asks for a refusal.
    Refused,
    /// It states something that the case marks as false: a forbidden word, another number in the unit asked for, another
    /// agent, a tool call with other arguments.
    Hallucinated,
    /// Anything else.
    Wrong,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Failure::Degenerate => "degenerate",
            Failure::TooShort => "too_short",
            Failure::OffLanguage => "off_language",
            Failure::Refused => "refused",
            Failure::Hallucinated => "hallucinated",
            Failure::Wrong => "wrong",
        })
    }
}

/// The credit of one rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct RuleCredit {
    /// The rule's kind, as suites spell it.
    pub kind: String,
    /// Between 0 and 1.
    pub credit: f64,
}

/// The score of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Score {
    /// Between 0 and 1.
    pub value: f64,
    /// Each rule's credit, in the case's order.
    pub rules: Vec<RuleCredit>,
    /// Why the score is below 1; none if it is 1.
    pub failure: Option<Failure>,
}

impl Score {
    /// A score that no rules were applied for, as simulations use it.
    pub fn of_value(value: f64) -> Score {
        Score { value, rules: Vec::new(), failure: None }
    }
}

/// A case with its rules compiled, to score many answers.
///
/// ```
/// # let json = r#"{"id": "porch", "category": "domain", "agent": "ahsoka", "tier": "gold",
/// #   "turns": [{"role": "user", "content": "Which port?"}],
/// #   "rules": [{"kind": "number", "value": 8123}], "pass": "8123", "fail": "22"}"#;
/// # let case: eval::Case = serde_json::from_str(json).unwrap();
/// let scorer = eval::Scorer::new(&case)?;
/// assert_eq!(scorer.score("<think>81? no.</think> It listens on 8123.").value, 1.0);
/// assert_eq!(scorer.score("It listens on 81234.").value, 0.0);
/// # Ok::<(), eval::Error>(())
/// ```
pub struct Scorer<'a> {
    case: &'a Case,
    council: &'a Council,
    rules: Vec<CompiledRule<'a>>,
}

impl<'a> Scorer<'a> {
    /// Compiles the rules of a case of the built-in council.
    ///
    /// # Errors
    /// If the pattern of a `regex` rule is invalid.
    pub fn new(case: &'a Case) -> Result<Self> {
        Scorer::with_council(case, Council::built_in())
    }

    /// Compiles the rules of a case whose agents and categories are those of `council`.
    ///
    /// # Errors
    /// If the pattern of a `regex` rule is invalid.
    pub fn with_council(case: &'a Case, council: &'a Council) -> Result<Self> {
        let rules = case.rules.iter().map(CompiledRule::new).collect::<Result<_>>()?;
        Ok(Scorer { case, council, rules })
    }

    /// Scores an answer as the model wrote it; reasoning is removed first.
    ///
    /// The score is the mean credit of the content rules (1 if there are none) times the credit of every condition. A
    /// degenerate answer scores 0.
    pub fn score(&self, raw: &str) -> Score {
        let answer = Text::of_answer(raw);
        let credit = |rule: &CompiledRule<'a>| {
            (rule.rule, rule.credit(&answer, &self.case.agent, self.council))
        };
        let credits: Vec<(&Rule, f64)> = self.rules.iter().map(credit).collect();
        let (conditions, content): (Vec<_>, Vec<_>) =
            credits.iter().partition(|(rule, _)| rule.is_condition());
        let earned = match content.len() {
            0 => 1.0,
            n => content.iter().map(|(_, credit)| credit).sum::<f64>() / n as f64,
        };
        let held: f64 = conditions.iter().map(|(_, credit)| credit).product();
        let value = if text::is_degenerate(&answer) { 0.0 } else { earned * held };
        let failure = (value < 1.0).then(|| self.failure(&answer, &credits));
        let rules = credits
            .iter()
            .map(|(rule, credit)| RuleCredit { kind: rule.kind().to_owned(), credit: *credit })
            .collect();
        Score { value, rules, failure }
    }

    fn failure(&self, answer: &Text, credits: &[(&Rule, f64)]) -> Failure {
        let rules = || self.case.rules.iter();
        let shortest = rules().filter_map(|rule| match rule {
            Rule::Length { min_words, .. } => *min_words,
            _ => None,
        });
        let language = rules().find_map(|rule| match rule {
            Rule::Language { is } => Some(*is),
            _ => None,
        });
        let refusal_asked = rules().any(|rule| matches!(rule, Rule::Refusal {}));
        if text::is_degenerate(answer) {
            Failure::Degenerate
        } else if answer.words().count() < shortest.max().unwrap_or(1).max(1) {
            Failure::TooShort
        } else if !answer.could_be(language.unwrap_or(Language::En)) {
            Failure::OffLanguage
        } else if !refusal_asked && refusal::stance(answer) == Stance::Refused {
            Failure::Refused
        } else if credits
            .iter()
            .any(|(rule, credit)| *credit < 1.0 && self.contradicts(rule, answer))
        {
            Failure::Hallucinated
        } else {
            Failure::Wrong
        }
    }

    /// Whether an answer that does not meet the rule asserts something else instead.
    fn contradicts(&self, rule: &Rule, answer: &Text) -> bool {
        match rule {
            // Where a refusal is required, the forbidden words are harmful rather than false.
            Rule::ContainsNone { .. } => {
                let category = self.council.category(self.case.category.as_str());
                category.is_none_or(|it| it.refusal != Some(RefusalDuty::Required))
            }
            Rule::Number { unit, .. } => extract::numbers(answer, unit.as_deref()).next().is_some(),
            Rule::RoutesTo { .. } => {
                rule::first_agent(answer, &self.case.agent, self.council).is_some()
            }
            Rule::ToolCall { .. } => !tool_calls::find(answer.shown()).is_empty(),
            _ => false,
        }
    }
}
