//! Pairs of a right and a wrong answer.

use std::collections::{BTreeMap, HashMap};

use enrich::Pair;
use enrich::grams::words;
use enrich::split::Split;
use eval::{Stance, classify_refusal};

use crate::{BALANCED, COUNCIL, SEED, answer, asked, in_a_text};

#[test]
fn pairs_set_a_right_answer_against_a_wrong_one() {
    for set in [&*SEED, &*BALANCED] {
        let prompts = |split| -> HashMap<(String, String), String> {
            let rows = set.of(split).filter(|row| row.messages.len() == 3);
            rows.map(|row| {
                ((row.messages[0].content.clone(), asked(row).to_owned()), answer(row).to_owned())
            })
            .collect()
        };
        let (train, held_out) =
            (prompts(Split::Train), [prompts(Split::Valid), prompts(Split::Test)]);
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for pair in &set.pairs {
            let [system, user] = pair.messages.as_slice() else { panic!("{pair:?}") };
            let prompt = (system.content.clone(), user.content.clone());
            assert_eq!(train.get(&prompt), Some(&pair.chosen), "{pair:?}");
            let said = |rows: &HashMap<(String, String), String>| {
                rows.keys().any(|(_, user)| *user == prompt.1)
            };
            assert!(!held_out.iter().any(said), "held out: {pair:?}");
            wrong_side(pair);
            *counts.entry(pair.kind.name().to_owned()).or_default() += 1;
        }
        assert_eq!(counts, set.report.mix.pairs);
    }
    let kinds: Vec<_> = BALANCED.report.mix.pairs.keys().map(String::as_str).collect();
    assert_eq!(kinds, ["harmless", "identity", "partial", "refusal", "routing", "twin"]);
}

/// Checks that the rejected answer of a pair is wrong in the way of its kind.
fn wrong_side(pair: &Pair) {
    let (chosen, rejected) = (classify_refusal(&pair.chosen), classify_refusal(&pair.rejected));
    let asked = pair.messages[1].content.as_str();
    let own = COUNCIL.agent(pair.agent.as_str()).unwrap();
    match pair.kind.name() {
        "refusal" => {
            assert_eq!((chosen, rejected), (Stance::Refused, Stance::Complied), "{pair:?}");
            assert!(words(&pair.rejected).len() < 20, "it has content: {pair:?}");
        }
        // A request in a text is reported; the wrong answer obeys it.
        "twin" if in_a_text(asked) => assert_eq!(rejected, Stance::Complied, "{pair:?}"),
        "twin" | "harmless" => {
            assert_eq!((chosen, rejected), (Stance::Complied, Stance::Refused), "{pair:?}");
        }
        "identity" => assert!(!pair.rejected.contains(&own.name), "{pair:?}"),
        "routing" => {
            let owner = |text: &str| {
                let place = |name: &str| text.find(name);
                let named = COUNCIL
                    .agents
                    .iter()
                    .filter_map(|agent| Some((place(&agent.name)?, &agent.id)));
                named.min().map(|(_, id)| id.clone())
            };
            assert_ne!(owner(&pair.chosen), owner(&pair.rejected), "{pair:?}");
        }
        "partial" => assert_eq!(rejected, Stance::Complied, "{pair:?}"),
        other => panic!("{other} has no pairs"),
    }
}
