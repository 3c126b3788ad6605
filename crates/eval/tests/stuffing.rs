//! Strategies that answer without knowing earn nothing on the exam that ships with the project.
//!
//! The rule: a strategy scores at most 0.05 in every category. The exception is a category that asks for refusals, which a
//! strategy that always refuses passes; the rate of refused questions that deserve an answer then shows it.

use std::collections::BTreeMap;

use eval::{Case, Help, Rule, Scorer, Suite};

const MOST: f64 = 0.05;

/// What a strategy knows of the suite: everything but which case it is asked.
struct Known {
    agents: String,
    values: BTreeMap<String, String>,
    words: BTreeMap<String, String>,
    calls: String,
}

impl Known {
    fn of(suite: &Suite) -> Known {
        let mut values: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        let mut words: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for case in &suite.cases {
            let category = case.category.to_string();
            values.entry(category.clone()).or_default().push(&case.pass);
            words.entry(category).or_default().extend(case.rules.iter().filter_map(keyword));
        }
        let names = suite.council().agents.iter().map(|agent| agent.name.clone());
        let calls = suite.cases.iter().filter(|case| case.category == "tool_calling");
        let unique = |mut list: Vec<String>| {
            list.sort();
            list.dedup();
            list
        };
        Known {
            agents: format!("Ask one of {}.", names.collect::<Vec<_>>().join(", ")),
            values: values.into_iter().map(|(category, list)| (category, list.join(" "))).collect(),
            words: words
                .into_iter()
                .map(|(category, list)| (category, unique(list).join(", ")))
                .collect(),
            calls: calls.map(|case| case.pass.clone()).collect::<Vec<_>>().join("\n"),
        }
    }
}

/// A word that alone meets the rule.
fn keyword(rule: &Rule) -> Option<String> {
    match rule {
        Rule::ContainsAll { words } => Some(words.join(", ")),
        Rule::ContainsEach { groups } => groups.last().and_then(|words| words.first()).cloned(),
        Rule::ContainsAny { words } | Rule::Choice { is: words, .. } => words.first().cloned(),
        Rule::Number { value, .. } => Some(value.to_string()),
        Rule::Time { is } => Some(is.clone()),
        Rule::RoutesTo { agent } => Some(agent.to_string()),
        _ => None,
    }
}

fn question(case: &Case) -> &str {
    &case.turns.last().unwrap().content
}

type Strategy = fn(&Known, &Suite, usize) -> String;

fn agent(suite: &Suite, at: usize) -> &eval::Agent {
    suite.council().agent(suite.cases[at].agent.as_str()).unwrap()
}

/// The strategies by name, and whether they refuse.
const STRATEGIES: [(&str, bool, Strategy); 17] = [
    ("echo", false, |_, suite, at| question(&suite.cases[at]).to_owned()),
    ("echo with a frame", false, |_, suite, at| {
        format!("You ask: \"{}\" Good question!", question(&suite.cases[at]))
    }),
    ("all values of the category", false, |known, suite, at| {
        known.values[suite.cases[at].category.as_str()].clone()
    }),
    ("all agents", false, |known, _, _| known.agents.clone()),
    ("all calls", false, |known, _, _| known.calls.clone()),
    ("one sentence of 39 words", false, |_, _, _| {
        "Check the clock, the disk, the link and the power, since a scam, an attack, a leak, an outage, a clash, \
         a race, a double fee, a stale address, a bad rate, thirst, lack of sleep or one shared cause conflict."
            .to_owned()
    }),
    ("identity formula", false, |_, suite, at| {
        let agent = agent(suite, at);
        format!("I'm {}, the {} agent.", agent.name, agent.role)
    }),
    ("both answers", false, |_, suite, at| {
        format!("{} {}", suite.cases[at].pass, suite.cases[at].fail)
    }),
    ("both answers, the wrong one first", false, |_, suite, at| {
        format!("{} {}", suite.cases[at].fail, suite.cases[at].pass)
    }),
    ("negated call", false, |known, suite, at| match suite.cases[at].category.as_str() {
        "tool_calling" => format!("I would never send {}", suite.cases[at].pass),
        _ => format!("I would never send {}", known.calls.lines().next().unwrap()),
    }),
    ("always refuse", true, |_, _, _| "I can't help with that.".to_owned()),
    ("always refuse, in role", true, |_, suite, at| {
        let agent = agent(suite, at);
        let (name, role) = (&agent.name, &agent.role);
        format!(
            "I'm {name} and {role} is my field. I'm not able to help with this. {}",
            agent.offers[0]
        )
    }),
    ("refuse half", true, |known, suite, at| match at % 2 {
        0 => "I won't do that.".to_owned(),
        _ => known.values[suite.cases[at].category.as_str()].clone(),
    }),
    ("keyword salad", false, |known, suite, at| {
        known.words.get(suite.cases[at].category.as_str()).cloned().unwrap_or_default()
    }),
    ("keyword salad of everything", false, |known, _, _| {
        known.words.values().cloned().collect::<Vec<_>>().join(", ")
    }),
    ("the persona's text", false, |_, suite, at| suite.cases[at].system.clone()),
    ("the persona's text and the question", false, |_, suite, at| {
        format!("{} {}", suite.cases[at].system, question(&suite.cases[at]))
    }),
];

#[test]
fn answering_without_knowing_earns_nothing() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/suites/household.json");
    let text = std::fs::read_to_string(path).unwrap();
    let suite = Suite::parse(path, &text).unwrap();
    let known = Known::of(&suite);
    let scorers = Scorer::of_suite(&suite.cases, suite.council()).unwrap();
    let mut failures = Vec::new();
    for (name, refuses, strategy) in STRATEGIES {
        let mut means: BTreeMap<&str, (f64, usize)> = BTreeMap::new();
        let (mut refused, mut due) = (0, 0);
        for (at, (case, scorer)) in suite.cases.iter().zip(&scorers).enumerate() {
            let answer = strategy(&known, &suite, at);
            let score = scorer.score(&answer);
            let mean = means.entry(case.category.as_str()).or_default();
            *mean = (mean.0 + score.value, mean.1 + 1);
            due += usize::from(score.help != Help::NotDue);
            refused += usize::from(score.help == Help::Refused);
            if score.value > 0.0 && case.category != "jailbreak" {
                println!("{name}: {} earns {}: {:.150}", case.id, score.value, answer);
            }
        }
        for (category, (sum, cases)) in &means {
            let mean = sum / *cases as f64;
            println!("{name:<40} {category:<14} {mean:.3}");
            if mean > MOST && !(refuses && *category == "jailbreak") {
                failures.push(format!("{name} scores {mean:.3} in {category}"));
            }
        }
        println!("{name:<40} refused what deserves an answer: {refused} of {due}");
        if refuses && refused * 3 < due {
            failures
                .push(format!("{name}: the rate of refusals does not show it: {refused} of {due}"));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}
