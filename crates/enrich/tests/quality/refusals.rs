//! Refusals: subject, variety, who speaks, reasons.

use std::collections::{BTreeMap, HashSet};

use chat_format::Conversation;
use enrich::grams::words;
use eval::{Stance, classify_refusal};
use regex::Regex;

use crate::{BALANCED, COUNCIL, SEED, agent, answer, asked, of_kind};

/// The words that carry a text's content.
fn content_words(text: &str) -> HashSet<String> {
    let function: HashSet<&str> =
        include_str!("../../data/function_words.txt").split_whitespace().collect();
    words(text)
        .into_iter()
        .filter(|word| word.len() > 2 && !function.contains(word.as_str()))
        .collect()
}

fn sentences(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive(['.', '?', '!']).map(str::trim).filter(|sentence| sentence.len() > 3)
}

/// The first three words of texts, with the share of the most frequent ones.
fn commonest_opening<'a>(texts: impl Iterator<Item = &'a str>) -> (String, f64) {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut all = 0;
    for text in texts {
        let opening: Vec<_> = words(text).into_iter().take(3).collect();
        *counts.entry(opening.join(" ")).or_default() += 1;
        all += 1;
    }
    let (opening, count) = counts.into_iter().max_by_key(|(_, count)| *count).unwrap();
    (opening, count as f64 / all as f64)
}

#[test]
fn refusals_name_the_subject_and_vary() {
    let rows: Vec<_> = of_kind(&SEED, "refusal").collect();
    assert_eq!(rows.len(), 224);
    let distinct: HashSet<&str> = rows.iter().flat_map(|row| sentences(answer(row))).collect();
    assert!(distinct.len() >= 180, "{} distinct sentences", distinct.len());
    let whole: HashSet<&str> = rows.iter().map(|row| answer(row)).collect();
    assert_eq!(whole.len(), 224, "no refusal is worded like another");

    let names: HashSet<String> = COUNCIL
        .agents
        .iter()
        .flat_map(|agent| [agent.name.to_lowercase(), agent.role.clone()])
        .collect();
    let shares = |row: &&&Conversation| {
        let (asked, said) = (content_words(asked(row)), content_words(answer(row)));
        asked.intersection(&said).any(|word| !names.contains(word))
    };
    let named = rows.iter().filter(shares).count();
    println!("{} distinct sentences, {named} of 224 name the subject", distinct.len());
    assert!(named * 10 >= 224 * 6, "{named} of 224 name what was asked");

    let (opening, share) = commonest_opening(rows.iter().map(|row| answer(row)));
    assert!(share <= 0.15, "{share:.2} of the refusals begin with {opening:?}");
}

#[test]
fn refusals_say_who_speaks_and_offer_what_the_agent_does() {
    let mut unclear = Vec::new();
    for row in of_kind(&SEED, "refusal").chain(of_kind(&BALANCED, "refusal")) {
        let (agent, answer) = (agent(row), answer(row));
        if classify_refusal(answer) != Stance::Refused {
            unclear.push(answer);
        }
        assert!(answer.contains(&agent.name) && answer.contains(&agent.role), "{answer}");
        assert!(agent.offers.iter().any(|offer| answer.ends_with(offer.as_str())), "{answer}");
    }
    assert!(unclear.is_empty(), "{} are no plain refusals: {unclear:#?}", unclear.len());
}

#[test]
fn reasons_are_about_harm_and_never_about_fields() {
    let reason = Regex::new(r"(?:: |because |since )(.+?)(?:, and I won't|[.])").unwrap();
    let quoted = Regex::new("says: \"[^\"]*\"").unwrap();
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    for row in of_kind(&SEED, "refusal") {
        // What declines is everything before the agent says who it is; a quoted request is not its own words.
        let who = answer(row).find(&agent(row).name).unwrap();
        let declines = quoted.replace(&answer(row)[..who], "");
        let found = reason.captures(&declines).unwrap_or_else(|| panic!("no reason: {declines}"));
        *reasons.entry(found[1].to_owned()).or_default() += 1;
        let fields =
            ["my field", "my role", "my job", "my area", "stay with", "not mine", "another agent"];
        let roles = COUNCIL.agents.iter().map(|agent| agent.role.as_str());
        let lower = found[1].to_lowercase();
        for word in fields.into_iter().chain(roles.filter(|role| *role != "health")) {
            assert!(!lower.contains(word), "{word:?} is no reason: {declines}");
        }
    }
    let most = reasons.values().max().unwrap();
    assert!(reasons.len() >= 40 && *most <= 16, "{} reasons: {reasons:#?}", reasons.len());
}
