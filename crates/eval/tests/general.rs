//! The everyday questions: what the file promises about itself.

use std::collections::{BTreeMap, BTreeSet};

use eval::{Council, Scorer, Suite, general};

fn all() -> Suite {
    general::suite(Council::built_in(), usize::MAX).unwrap()
}

#[test]
fn every_question_tells_its_right_answer_from_its_wrong_one() {
    let suite = all();
    assert!(suite.cases.len() >= 120, "{}", suite.cases.len());
    let one = |case: &eval::Case| Suite::new("one", "1", vec![case.clone()]).check();
    let wrong: Vec<String> =
        suite.cases.iter().filter_map(|case| Some(one(case).err()?.to_string())).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    suite.check().unwrap();
}

#[test]
fn half_have_no_system_prompt_and_every_agent_is_asked() {
    let suite = all();
    let mut by_kind: BTreeMap<&str, [usize; 2]> = BTreeMap::new();
    let mut agents = BTreeSet::new();
    for case in &suite.cases {
        let persona = !case.system.is_empty();
        by_kind.entry(&case.tags[0]).or_default()[usize::from(persona)] += 1;
        if persona {
            agents.insert(case.agent.as_str());
            let agent = suite.council().agent(case.agent.as_str()).unwrap();
            assert_eq!(case.system, agent.system_prompt());
        }
    }
    assert_eq!(agents.len(), Council::built_in().agents.len());
    assert!(by_kind.len() >= 8, "{by_kind:?}");
    for (kind, [plain, persona]) in by_kind {
        assert!(plain >= 8 && plain == persona, "{kind}: {plain} plain, {persona} as an agent");
    }
}

#[test]
fn answers_that_show_nothing_pass_no_question() {
    let suite = all();
    let answers = [
        "I'm Smollima and I stay with Hugging Face.",
        "That is mine, I look after it.",
        "I can't help with that. Shall I check the firewall instead?",
        "You can do it in many ways, and it depends on what you have.",
        "The capital is the network agent.",
    ];
    let mut passed = Vec::new();
    for case in &suite.cases {
        let scorer = Scorer::with_council(case, suite.council()).unwrap();
        let right = answers.iter().filter(|answer| scorer.score(answer).value >= 1.0);
        passed.extend(right.map(|answer| format!("{}: {answer}", case.id)));
    }
    assert!(passed.is_empty(), "{passed:#?}");
}

#[test]
fn a_part_has_the_proportions_of_the_whole() {
    let part = general::suite(Council::built_in(), 48).unwrap();
    assert_eq!(part.cases.iter().filter(|case| case.system.is_empty()).count(), 24);
    let kinds: BTreeSet<_> = part.cases.iter().map(|case| case.tags[0].as_str()).collect();
    assert!(kinds.len() >= 8);
}

#[test]
fn any_council_gets_the_questions() {
    let text = r#"{"name": "own", "version": "1", "council": "council.yaml", "cases": []}"#;
    let folder = tempfile::tempdir().unwrap();
    let council = "
agents: [{ id: nell, name: Nell, role: kitchen, persona: You are Nell. }]
categories: [{ id: cooking }]
";
    std::fs::write(folder.path().join("council.yaml"), council).unwrap();
    let own = Suite::parse(folder.path().join("suite.json"), text).unwrap();
    let questions = general::suite(own.council(), usize::MAX).unwrap();
    questions.check().unwrap();
    let joined = own.clone().joined(questions.clone()).unwrap();
    joined.check().unwrap();
    assert_eq!(joined.cases.len(), questions.cases.len());
    assert!(joined.cases.iter().any(|case| case.system == "You are Nell."));
    assert!(joined.council().category("general").unwrap().retained);
    let twice = joined.joined(questions).unwrap_err().to_string();
    assert!(twice.contains("twice"), "{twice}");
}
