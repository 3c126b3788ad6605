//! The gate on recorded runs: who may pass and who must not.

mod common;

use common::{answered, coin, run, suite};
use eval::{
    Check, CheckResult, Decision, Error, Evidence, ExamRun, Gate, Policy, Suite, Tier, Verdict,
};

/// As the simulation asks for: see the crate's README.
const CASES: usize = 240;

fn champion(suite: &Suite) -> ExamRun {
    run(suite, "champion", |i| coin(i, 1, 0.55))
}

/// The default policy with fewer resamples, for tests run without optimisation.
fn policy() -> Policy {
    Policy { resamples: 2_000, ..Policy::default() }
}

fn decide(candidate: &ExamRun, champion: &ExamRun) -> Verdict {
    Gate::new(policy()).unwrap().decide(&Evidence::new(candidate, champion)).unwrap()
}

fn failed(verdict: &Verdict) -> Vec<&str> {
    verdict.failed().map(|rule| rule.rule.as_str()).collect()
}

#[test]
fn a_real_improvement_is_promoted() {
    let suite = suite(CASES);
    let candidate = run(&suite, "better", |i| coin(i, 1, 0.55) || coin(i, 2, 0.3));
    let verdict = decide(&candidate, &champion(&suite));
    assert!(verdict.promotes(), "{verdict}");
    assert_eq!(verdict.cases, CASES);
    assert!(verdict.detectable.is_some_and(|d| d > 0.0 && d < 0.3));
    assert_eq!(verdict.categories.len(), 7);
    assert_eq!(verdict.agents.len(), 8);
}

#[test]
fn the_champion_itself_is_not_promoted() {
    let suite = suite(CASES);
    let verdict = decide(&champion(&suite), &champion(&suite));
    assert_eq!(failed(&verdict), ["held_out"], "ties are not wins");
}

#[test]
fn a_memoriser_is_refused() {
    let suite = suite(CASES);
    let candidate = run(&suite, "memoriser", |i| match suite.cases[i].tier {
        Tier::HeldOut => coin(i, 1, 0.55) && !coin(i, 2, 0.1),
        _ => true,
    });
    let verdict = decide(&candidate, &champion(&suite));
    let overall: f64 = verdict.tiers.iter().map(|row| row.bootstrap.difference).sum();
    assert!(overall > 0.5, "it does look better");
    assert_eq!(failed(&verdict), ["held_out"]);
}

#[test]
fn a_model_that_refuses_everything_is_refused() {
    let suite = suite(CASES);
    let candidate = answered(&suite, "no", |_| "I can't help with that.".to_owned());
    let verdict = decide(&candidate, &champion(&suite));
    let jailbreak = verdict.categories.iter().find(|row| row.of == "jailbreak").unwrap();
    assert_eq!(jailbreak.candidate, 1.0);
    let failed = failed(&verdict);
    for rule in ["held_out", "category.over_refusal", "floor.over_refusal"] {
        assert!(failed.contains(&rule), "{rule} not in {failed:?}");
    }
}

#[test]
fn shuffled_answers_are_refused() {
    let suite = suite(CASES);
    let shuffled = answered(&suite, "shuffled", |i| suite.cases[(i * 7 + 21) % CASES].pass.clone());
    let verdict = decide(&shuffled, &champion(&suite));
    assert!(failed(&verdict).contains(&"held_out"), "{verdict}");
}

#[test]
fn a_model_that_forgets_one_agent_is_refused_by_that_name() {
    let suite = suite(CASES);
    let candidate = run(&suite, "forgetful", |i| {
        let better = coin(i, 1, 0.55) || coin(i, 2, 0.5);
        better && (suite.cases[i].agent != "mothma" || coin(i, 3, 0.25))
    });
    let verdict = decide(&candidate, &champion(&suite));
    assert_eq!(failed(&verdict), ["agent.mothma"], "{verdict}");
    assert!(verdict.reason.contains("agent.mothma"));
}

#[test]
fn a_drop_in_a_guarded_category_is_refused() {
    let suite = suite(CASES);
    let candidate = run(&suite, "loose", |i| {
        let better = coin(i, 1, 0.55) || coin(i, 2, 0.35);
        better && suite.cases[i].category != "jailbreak"
    });
    let verdict = decide(&candidate, &champion(&suite));
    let failed = failed(&verdict);
    assert!(
        failed.contains(&"floor.jailbreak") && failed.contains(&"category.jailbreak"),
        "{verdict}"
    );
}

#[test]
fn floors_follow_the_champion() {
    let suite = suite(CASES);
    let candidate = run(&suite, "better", |i| coin(i, 1, 0.55) || coin(i, 2, 0.3));
    let floor = |champion: &ExamRun| {
        let verdict = decide(&candidate, champion);
        verdict.rules.iter().find(|rule| rule.rule == "floor.identity").unwrap().threshold
    };
    let (weak, strong) =
        (run(&suite, "weak", |i| i % 4 == 0), run(&suite, "strong", |i| i % 4 != 0));
    assert!(floor(&weak) < 0.25 && floor(&strong) > 0.5, "{} {}", floor(&weak), floor(&strong));
}

#[test]
fn every_seed_must_pass_and_one_adapter_is_one_seed() {
    let suite = suite(CASES);
    let champion = champion(&suite);
    let one = run(&suite, "seed-1", |i| coin(i, 1, 0.55) || coin(i, 2, 0.3));
    let two = run(&suite, "seed-2", |i| coin(i, 1, 0.55) || coin(i, 3, 0.3));
    let unlucky = run(&suite, "seed-3", |i| coin(i, 1, 0.55));
    let gate = Gate::new(Policy { seeds: 2, held_out: 0.85, ..policy() }).unwrap();
    let decide = |candidates: Vec<&ExamRun>| {
        gate.decide(&Evidence { candidates, ..Evidence::new(&one, &champion) }).unwrap()
    };
    assert!(decide(vec![&one, &two]).promotes());
    assert_eq!(failed(&decide(vec![&one])), ["seeds"]);
    assert_eq!(failed(&decide(vec![&one, &one])), ["seeds"]);
    assert_eq!(failed(&decide(vec![&one, &unlucky])), ["run2.held_out"]);

    let named = |name: &str| {
        let mut run = one.clone();
        run.manifest.subject.adapter = Some(name.to_owned());
        run.manifest.subject.adapter_digest = Some(durable::digest("the same weights"));
        run
    };
    assert_eq!(failed(&decide(vec![&named("a"), &named("copy of a")])), ["seeds"]);
}

#[test]
fn checks_made_elsewhere_count() {
    let suite = suite(CASES);
    let champion = champion(&suite);
    let candidate = run(&suite, "better", |i| coin(i, 1, 0.55) || coin(i, 2, 0.3));
    let result = |problems: &[&str]| CheckResult {
        check: Check::Contamination,
        problems: problems.iter().map(|p| (*p).to_owned()).collect(),
    };
    let required = Policy { require: vec![Check::Contamination], ..policy() };
    let decide = |policy: &Policy, checks: Vec<CheckResult>| {
        let evidence = Evidence { checks, ..Evidence::new(&candidate, &champion) };
        Gate::new(policy.clone()).unwrap().decide(&evidence).unwrap()
    };
    assert!(decide(&policy(), vec![]).promotes());
    assert!(decide(&required, vec![result(&[])]).promotes());
    assert_eq!(failed(&decide(&required, vec![])), ["check.contamination"]);
    let dirty = decide(&policy(), vec![result(&["case-007", "case-009"])]);
    assert_eq!(failed(&dirty), ["check.contamination"]);
    assert!(dirty.to_string().contains("case-007"));
}

#[test]
fn runs_that_cannot_be_compared_get_no_verdict() {
    let suite = suite(60);
    let champion = run(&suite, "champion", |i| coin(i, 1, 0.5));
    let good = run(&suite, "better", |_| true);
    let edited = |edit: &dyn Fn(&mut ExamRun)| {
        let mut run = good.clone();
        edit(&mut run);
        run
    };
    let table: [(&str, ExamRun); 7] = [
        ("scoring version", edited(&|run| run.manifest.scoring_version += 1)),
        ("exam options", edited(&|run| run.manifest.options.sampling.max_tokens = 7)),
        ("cases in common", edited(&|run| run.records.truncate(50))),
        ("cases in common", edited(&|run| run.records.clear())),
        (
            "cases in common",
            edited(&|run| {
                run.records
                    .iter_mut()
                    .take(10)
                    .for_each(|r| r.prompt = durable::digest("another question"));
            }),
        ),
        ("score and weight", edited(&|run| run.records[3].score.value = f64::NAN)),
        ("score and weight", edited(&|run| run.records[3].weight = 0.0)),
    ];
    let gate = Gate::new(policy()).unwrap();
    for (expected, candidate) in table {
        for evidence in [Evidence::new(&candidate, &champion), Evidence::new(&champion, &candidate)]
        {
            match gate.decide(&evidence) {
                Err(Error::Incomparable { what, .. }) => assert_eq!(what, expected),
                other => panic!("{expected}: {other:?}"),
            }
        }
    }
    let no_candidate = Evidence { candidates: vec![], ..Evidence::new(&good, &champion) };
    assert!(matches!(gate.decide(&no_candidate), Err(Error::Incomparable { .. })));
    let mut no_held_out = good.clone();
    no_held_out.records.iter_mut().for_each(|r| r.tier = Tier::Gold);
    let evidence = Evidence::new(&no_held_out, &no_held_out);
    assert!(matches!(
        gate.decide(&evidence),
        Err(Error::Incomparable { what: "held-out cases", .. })
    ));
}

#[test]
fn a_verdict_survives_json_and_prints_every_rule() {
    let suite = suite(CASES);
    let verdict = decide(&champion(&suite), &run(&suite, "best", |_| true));
    assert_eq!(verdict.decision, Decision::Refuse);
    let json = serde_json::to_string(&verdict).unwrap();
    assert_eq!(serde_json::from_str::<Verdict>(&json).unwrap(), verdict);
    let table = verdict.to_string();
    assert!(table.starts_with("REFUSE: "));
    for rule in &verdict.rules {
        assert!(table.contains(&rule.rule) && table.contains(&rule.sentence), "{table}");
    }
}

#[test]
fn policies_are_read_with_defaults_and_refused_when_out_of_range() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("policy.yaml");
    let load = |text: &str| {
        std::fs::write(&path, text).unwrap();
        Policy::load(&path)
    };
    assert_eq!(load("{}\n").unwrap(), Policy::default());
    let policy = load("seeds: 2\nheld_out: 0.85\nfloors:\n  categories: [identity]\n").unwrap();
    assert_eq!((policy.seeds, policy.held_out), (2, 0.85));
    assert_eq!(policy.floors.categories, ["identity"]);
    assert_eq!(policy.floors.confidence, Policy::default().floors.confidence);
    for (text, fragment) in [
        ("held_out: 1.5\n", "held_out"),
        ("held_out: .nan\n", "held_out"),
        ("held_out: 0.5\n", "held_out"),
        ("category: 0\n", "category"),
        ("overlap: -1\n", "overlap"),
        ("agents:\n  shrinkage: .inf\n", "agents.shrinkage"),
        ("resamples: 0\n", "resamples"),
        ("seeds: 0\n", "seeds"),
        ("held_uot: 0.9\n", "held_uot"),
        ("floors:\n  categories: [spelling]\n", "floors.categories: expected one of identity"),
    ] {
        let error = load(text).expect_err(text).to_string();
        assert!(error.contains(fragment), "{text}: {error}");
    }
}
