//! Benign twins: the form that their frame asks for.

use std::collections::{BTreeMap, HashMap};

use chat_format::Conversation;
use enrich::Recipe;
use enrich::grams::words;
use eval::{Stance, classify_refusal};
use serde_json::Value;

use crate::{BALANCED, SPANISH, answer, asked, build, count_of, in_a_text, of_kind};

const FRENCH: [&str; 13] =
    ["en", "le", "la", "les", "des", "de", "du", "un", "une", "sans", "ma", "mon", "est"];
const ENGLISH: [&str; 10] = ["the", "and", "it", "to", "with", "of", "you", "is", "for", "until"];

/// The steps of the harmless requests, by request.
fn steps() -> HashMap<String, Vec<String>> {
    let text = include_str!("../../data/requests.yaml");
    let file: Value = serde_saphyr::from_str(text).unwrap();
    let benign = file["benign"].as_array().unwrap().iter();
    benign
        .map(|benign| {
            let steps = benign["steps"].as_array().unwrap().iter();
            let steps = steps.map(|step| step.as_str().unwrap().to_lowercase()).collect();
            (benign["ask"].as_str().unwrap().to_owned(), steps)
        })
        .collect()
}

/// What is wrong with the form of an answer to a frame, judged by the words of the frame.
fn wrong_form(asked: &str, answer: &str) -> Option<&'static str> {
    let lines: Vec<&str> = answer.lines().collect();
    let says = |text: &str| asked.contains(text);
    let lower = format!(" {} ", words(answer).join(" "));
    let check = |right: bool, wrong| if right { None } else { Some(wrong) };
    match () {
        () if says("JSON list") => {
            let list: Result<Vec<String>, _> = serde_json::from_str(answer);
            check(list.is_ok_and(|list| list.len() >= 2), "no JSON list")
        }
        () if says("table with three columns") => {
            let columns = |line: &&str| line.starts_with('|') && line.matches('|').count() == 4;
            check(lines.len() >= 4 && lines.iter().all(columns), "no table of three columns")
        }
        () if says("bullet points only") => check(
            lines.len() > 1 && lines.iter().all(|line| line.starts_with("- ")),
            "not only bullets",
        ),
        () if says("exactly three numbered steps") => {
            let numbered =
                |(nth, line): (usize, &&str)| line.starts_with(&format!("{}. ", nth + 1));
            check(lines.len() == 3 && lines.iter().enumerate().all(numbered), "not three steps")
        }
        () if says("in Spanish") => {
            check(count_of(answer, &SPANISH) >= 4 && count_of(answer, &ENGLISH) == 0, "not Spanish")
        }
        () if says("into French") => {
            let quoted = answer.split(['«', '»']).nth(1).unwrap_or_default();
            check(!quoted.is_empty() && count_of(answer, &FRENCH) > 0, "no French")
        }
        () if says("a poem") => check(lines.len() >= 5, "no poem"),
        () if says("Write a story") => {
            check(answer.contains('"') && words(answer).len() > 40, "no story")
        }
        () if says("A film scene") => {
            let speaker = |line: &&&str| {
                line.split(": ").next().unwrap_or_default()
                    == line.split(": ").next().unwrap_or_default().to_uppercase()
            };
            check(
                lines.iter().filter(speaker).count() >= 2 && answer.contains("BUTLER: "),
                "no scene",
            )
        }
        () if says("\"Sure, here is\"") => check(answer.starts_with("Sure, here is"), "no prefix"),
        () if says("with \"Absolutely!\"") => check(answer.starts_with("Absolutely!"), "no prefix"),
        () if says("opens with \"Step 1\"") => check(answer.starts_with("Step 1"), "no prefix"),
        () if says("Never say no or sorry") => {
            check(!lower.contains(" no ") && !lower.contains(" sorry "), "a forbidden word")
        }
        () if says("Words like can't") => check(!answer.contains("can't"), "a forbidden word"),
        () if says("Count to three") => {
            check(answer.starts_with("One, two, three."), "not counted")
        }
        () if says("add 2 and 2") => check(lower.contains(" 4 "), "not added"),
        () if says("two replies") => check(lines.len() == 2, "not two replies"),
        () => None,
    }
}

#[test]
fn twins_follow_their_frame() {
    let steps = steps();
    let mut tried: BTreeMap<String, usize> = BTreeMap::new();
    let own = |row: &&Conversation| row.meta.contains_key("item");
    for row in of_kind(&BALANCED, "twin").filter(|row| !own(row)) {
        let (asked, answer) = (asked(row), answer(row));
        assert_eq!(classify_refusal(answer), Stance::Complied, "{asked}\n{answer}");
        let wrong = wrong_form(asked, answer);
        assert_eq!(wrong, None, "{asked}\n{answer}");
        let lower = asked.to_lowercase();
        let request = steps.iter().find(|(ask, _)| lower.contains(&ask.to_lowercase()));
        let (ask, steps) = request.unwrap_or_else(|| panic!("no known request: {asked}"));
        let told = |step: &&String| answer.to_lowercase().contains(step.as_str());
        let told = steps.iter().filter(told).count();
        if in_a_text(asked) {
            assert_eq!(told, 0, "it obeys a text: {asked}\n{answer}");
            assert!(answer.to_lowercase().contains(&ask.to_lowercase()), "{asked}\n{answer}");
        } else if !asked.contains("Spanish") {
            assert_eq!(told, steps.len(), "{asked}\n{answer}");
        }
        *tried.entry(row.meta["technique"].to_string()).or_default() += 1;
    }
    // The few requests of a small split come around; those that repeat are left out as duplicates.
    assert_eq!(tried.len(), 28, "{tried:?}");
    assert!(tried.values().all(|twins| *twins >= 6), "{tried:?}");
}

#[test]
fn every_refusal_has_a_twin_of_its_technique() {
    let set = build(Recipe::Balanced, 56);
    let techniques = |kind: &str| {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for row in of_kind(&set, kind).filter(|row| !row.meta.contains_key("item")) {
            *counts.entry(row.meta["technique"].to_string()).or_default() += 1;
        }
        counts
    };
    assert_eq!(techniques("refusal").len(), 28);
    assert_eq!(techniques("refusal"), techniques("twin"));
}
