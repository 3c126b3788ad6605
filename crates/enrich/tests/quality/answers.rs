//! Answers of every kind: length, English, and to whom requests are routed.

use std::collections::BTreeMap;

use chat_format::Role;
use enrich::Household;
use enrich::grams::words;
use eval::{Stance, classify_refusal};
use regex::Regex;
use serde_json::Value;

use crate::{BALANCED, COUNCIL, SEED, SPANISH, agent, answer, asked, count_of, fixtures, of_kind};

fn median(mut lengths: Vec<usize>) -> usize {
    lengths.sort_unstable();
    lengths[lengths.len() / 2]
}

#[test]
fn answers_are_long_enough_and_whole_sentences() {
    for kind in
        ["refusal", "twin", "partial", "harmless", "identity", "routing", "topic", "scenario"]
    {
        let lengths = of_kind(&BALANCED, kind).map(|row| answer(row).split_whitespace().count());
        let median = median(lengths.collect());
        println!("{kind}: median {median} words");
        assert!(median >= 12, "{kind}: median {median} words");
    }
    for row in of_kind(&BALANCED, "fact").chain(of_kind(&BALANCED, "dialogue")) {
        for said in row.messages.iter().filter(|message| message.role == Role::Assistant) {
            let text = said.content.as_str();
            let begins = text.starts_with(|c: char| c.is_uppercase() || c.is_ascii_digit());
            assert!(begins && text.ends_with(['.', '?']), "{text}");
            assert!(words(text).len() >= 2, "{text}");
        }
    }
}

#[test]
fn agents_answer_questions_about_themselves_and_harmless_ones() {
    for kind in ["identity", "routing", "harmless", "topic", "scenario", "fact"] {
        for row in of_kind(&BALANCED, kind) {
            assert_eq!(classify_refusal(answer(row)), Stance::Complied, "{kind}: {}", answer(row));
        }
    }
    for row in of_kind(&BALANCED, "identity") {
        let agent = agent(row);
        assert!(
            answer(row).contains(&agent.name) && answer(row).to_lowercase().contains(&agent.role),
            "{}",
            answer(row)
        );
    }
}

#[test]
fn situations_go_to_the_agent_whose_field_they_are() {
    let mut owners: BTreeMap<String, [usize; 2]> = BTreeMap::new();
    for row in of_kind(&BALANCED, "routing") {
        let item = row.meta["item"].as_str().unwrap();
        let Some(rest) = item.strip_prefix("situation-") else { continue };
        let (owner, _) = rest.rsplit_once('-').unwrap();
        let owner = COUNCIL.agent(owner).unwrap();
        let said = words(answer(row));
        let place = |name: &String| said.iter().position(|word| *word == name.to_lowercase());
        let mut named: Vec<_> = COUNCIL
            .agents
            .iter()
            .filter_map(|agent| Some((place(&agent.name)?, &agent.id)))
            .collect();
        named.sort_unstable();
        let accepts = agent(row).id == owner.id;
        owners.entry(owner.id.to_string()).or_default()[usize::from(accepts)] += 1;
        if accepts {
            assert!(named.iter().all(|(_, id)| *id == &owner.id), "{}", answer(row));
        } else {
            assert_eq!(named.first().map(|(_, id)| *id), Some(&owner.id), "{}", answer(row));
        }
    }
    assert_eq!(owners.len(), 8);
    assert!(owners.values().all(|[passed, accepted]| *passed >= 9 && *accepted >= 2), "{owners:?}");
}

#[test]
fn the_english_of_made_rows_is_right() {
    let wrong = [
        r"\b[Aa] [aeioAEIO]\w+",
        r"\b[Aa]n [^aeiouhAEIOUH\W]\w*",
        r"  ",
        r"\.\.",
        r"[{}]",
        r" [.,;:?!]",
        r"[,;:][.?!]",
    ]
    .map(|pattern| Regex::new(pattern).unwrap());
    let doubled = |text: &str| {
        let said: Vec<_> = text.split_whitespace().collect();
        said.windows(2).any(|pair| pair[0] == pair[1] && pair[0].chars().all(char::is_alphabetic))
    };
    for row in BALANCED.rows.iter() {
        for message in row.messages.iter().filter(|message| message.role != Role::System) {
            let text = message.content.as_str();
            if message.role == Role::Tool || text.starts_with(['[', '|', '-']) {
                continue;
            }
            let foreign = count_of(text, &SPANISH) > 3 || text.contains('«');
            let found = wrong.iter().find(|pattern| pattern.is_match(text));
            assert!(foreign || found.is_none(), "{found:?}: {text}");
            assert!(!doubled(text), "{text}");
        }
    }
}

#[test]
fn verbs_agree_with_what_a_fact_is_about() {
    const SINGULAR: [&str; 10] =
        ["is", "does", "has", "runs", "listens", "comes", "starts", "stays", "begins", "uses"];
    const PLURAL: [&str; 10] =
        ["are", "do", "have", "run", "listen", "come", "start", "stay", "begin", "use"];
    let house = Household::load(fixtures().join("household.yaml")).unwrap();
    let mut seen = [0, 0];
    for row in &SEED.rows {
        let item = row.meta.get("item").and_then(Value::as_str);
        let Some(fact) = item.and_then(|item| house.fact(item)) else { continue };
        let (of, wrong) = (fact.of.to_lowercase(), if fact.plural { SINGULAR } else { PLURAL });
        let asked = asked(row).to_lowercase();
        // "Which port is the hub on": the verb before its subject.
        for verb in &wrong[..2] {
            let subject = asked.contains(&format!("{verb} {of}")) && !asked.contains("should");
            assert!(!subject, "{verb}: {asked}");
        }
        // "The hub listens on port 1": the verb right behind the subject that opens the sentence.
        let said = answer(row).to_lowercase();
        let behind = said.strip_prefix(&of).and_then(|rest| rest.split_whitespace().next());
        if let Some(verb) = behind {
            assert!(!wrong.contains(&verb), "{verb}: {said}");
            seen[usize::from(fact.plural)] += 1;
        }
    }
    assert!(seen.iter().all(|rows| *rows > 10), "{seen:?}");
}
