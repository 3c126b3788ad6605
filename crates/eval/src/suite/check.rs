//! Checks of a single case.

use super::{Case, Speaker};
use crate::council::Council;
use crate::scoring::Rule;
use crate::scoring::Scorer;

/// What is wrong with a case: the field, and what was expected and found.
pub(super) type Problem = (String, String);

/// Answers that show no knowledge. A case or a rule that one of them meets is met by anything.
const UNINFORMED: [&str; 5] = [
    "",
    "Yes.",
    "I don't know.",
    "That is a good question. You can do it in many ways, so it will depend on what you have and \
     on what you want to get from it.",
    "The weather was pleasant, so they walked around the lake and talked about old friends until \
     the evening.",
];

/// Whether the council has every agent and category that the case names.
pub(super) fn ids(case: &Case, council: &Council) -> Result<(), Problem> {
    let at = |field: &str| {
        let field = field.to_owned();
        move |problem| (field, problem)
    };
    council.check_category(&case.category).map_err(at("category"))?;
    council.check_agent(&case.agent).map_err(at("agent"))?;
    for (i, rule) in case.rules.iter().enumerate() {
        if let Rule::RoutesTo { agent } = rule {
            council.check_agent(agent).map_err(at(&format!("rules[{i}].agent")))?;
        }
    }
    Ok(())
}

pub(super) fn case(case: &Case, council: &Council) -> Result<(), Problem> {
    ids(case, council)?;
    let problem = |field: &str, problem: String| Err((field.to_owned(), problem));
    if case.id.trim().is_empty() {
        return problem("id", "expected a text, found none".into());
    }
    if !case.weight.is_finite() || case.weight <= 0.0 {
        return problem("weight", format!("expected a positive number, found {}", case.weight));
    }
    if let Some(i) = case.turns.iter().position(|turn| turn.content.trim().is_empty()) {
        return problem(&format!("turns[{i}].content"), "expected a text, found none".into());
    }
    let speakers = case.turns.iter().rev().map(|turn| turn.role);
    let alternating = [Speaker::User, Speaker::Assistant].into_iter().cycle();
    if case.turns.len().is_multiple_of(2)
        || speakers.zip(alternating).any(|(is, should)| is != should)
    {
        return problem(
            "turns",
            "expected user and assistant in turn, the user first and last".into(),
        );
    }
    if case.rules.is_empty() {
        return problem("rules", "expected at least one rule, found none".into());
    }
    for (i, rule) in case.rules.iter().enumerate() {
        rule.check().map_err(|e| (format!("rules[{i}]"), e.to_string()))?;
        if matches!(rule, Rule::RoutesTo { agent } if *agent == case.agent) {
            return problem(&format!("rules[{i}]"), format!("routes {0} to {0}", case.agent));
        }
    }
    samples(case, council)
}

/// The rules must tell the two samples apart, and an answer that shows no knowledge must not meet them. This also finds
/// rules that contradict each other, because the passing sample cannot meet them either.
fn samples(case: &Case, council: &Council) -> Result<(), Problem> {
    let scorer =
        Scorer::with_council(case, council).map_err(|e| ("rules".to_owned(), e.to_string()))?;
    let scorer = scorer.without_samples();
    for (field, answer, expected) in [("pass", &case.pass, 1.0), ("fail", &case.fail, 0.0)] {
        let score = scorer.score(answer);
        if score.value != expected {
            let credits: Vec<String> =
                score.rules.iter().map(|r| format!("{} {}", r.kind, r.credit)).collect();
            let found = format!("{} ({})", score.value, credits.join(", "));
            let problem = format!("expected this sample to score {expected}, found {found}");
            return Err((field.to_owned(), problem));
        }
    }
    let met_by_anything = |field: String, answer: &str| {
        let expected = "expected rules that an answer without knowledge does not meet";
        Err((field, format!("{expected}, found that {answer:?} meets them")))
    };
    // Repeating the question shows no knowledge either, though the question may contain a word of the answer.
    let echo = case.turns.last().map_or("", |turn| turn.content.as_str());
    for answer in UNINFORMED.into_iter().chain([echo]) {
        let score = scorer.score(answer);
        if score.value >= 1.0 {
            return met_by_anything("rules".to_owned(), answer);
        }
        let content = case.rules.iter().map(|rule| !rule.is_condition());
        let mut credits = content.zip(&score.rules);
        let met = credits.position(|(content, rule)| content && rule.credit >= 1.0);
        if let Some(i) = met.filter(|_| answer != echo) {
            return met_by_anything(format!("rules[{i}]"), answer);
        }
    }
    Ok(())
}

/// The passing sample must also score 1 beside the other cases: it must not answer several of them at once.
pub(super) fn among_others(case: &Case, scorer: &Scorer<'_>) -> Result<(), Problem> {
    let score = scorer.score(&case.pass);
    match score.failure {
        Some(failure) => {
            let found = format!("found {} ({failure}): it answers other cases too", score.value);
            Err((
                "pass".to_owned(),
                format!("expected this sample to score 1 in the suite, {found}"),
            ))
        }
        None => Ok(()),
    }
}
