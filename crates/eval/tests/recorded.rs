//! The gate on three recorded runs of the demo's exam: SmolLM2-135M-Instruct itself, the candidate
//! of the demo's night (`fixtures/demo/night.yaml`), and that of the same night with every answer
//! under another question (`shuffled_answers` of the example `controls`). The folders are the `exam/base` and
//! `exam/candidate` of those nights: the answers as they were, the scores by version 2 of the scoring.

use eval::gate::Decision;
use eval::{
    Check, CheckResult, Drift, Drifts, Evidence, ExamRun, FreshExam, Gate, Policy, Sitting, Verdict,
};

fn recorded(name: &str) -> ExamRun {
    ExamRun::load(format!("{}/tests/data/runs/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn decide(candidate: &str, policy: &Policy) -> Verdict {
    against("base", candidate, None, policy)
}

fn against(base: &str, candidate: &str, drifts: Option<Drifts>, policy: &Policy) -> Verdict {
    let (candidate, base) = (recorded(candidate), recorded(base));
    let clean = |check| CheckResult { check, problems: Vec::new() };
    let evidence = Evidence {
        standing: Sitting { candidate: &candidate, champion: None, base: Some(&base) },
        fresh: FreshExam::Pending("the nights are older than the fresh exam".into()),
        best: None,
        drifts,
        checks: vec![clean(Check::Contamination), clean(Check::Adapter)],
    };
    Gate::new(policy.clone()).unwrap().decide(&evidence).unwrap()
}

/// The demo's policy and the crate's own, which asks for more.
fn policies() -> [Policy; 2] {
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/demo/gate.yaml");
    [Policy::load(demo).unwrap(), Policy::default()]
}

/// The recorded candidate has learnt, and refuses 50 of 95 requests that deserve an answer, twelve of the fourteen about its
/// identity among them: the rules about that refuse it before a fresh exam is spent on it.
#[test]
fn what_has_learnt_to_refuse_everything_is_refused_for_that() {
    for policy in policies() {
        let verdict = decide("candidate", &policy);
        assert_eq!(verdict.decision, Decision::Refuse, "{verdict}");
        let failed: Vec<_> = verdict.failed().map(|rule| rule.rule.as_str()).collect();
        assert_eq!(failed, ["fresh_exam", "over_refusal_rate", "floor.identity"], "{verdict}");
        assert!(!verdict.awaits_fresh_exam());
    }
}

#[test]
fn what_has_learnt_shuffled_answers_is_refused() {
    for policy in policies() {
        let verdict = decide("shuffled", &policy);
        assert_eq!(verdict.decision, Decision::Refuse, "{verdict}");
        assert!(verdict.failed().any(|rule| rule.rule == "held_out"), "{verdict}");
    }
}

/// A candidate that has learnt the house (170 updates of 4 rows in the last 16 layers, 15 % of them replay) and forgotten the
/// world: it is refused for that alone, before a fresh exam is spent on it. The base model answers 21 of 40 everyday questions
/// right, the candidate 7 of them; the divergence was measured in the same night.
#[test]
fn what_has_forgotten_the_world_is_refused_for_that() {
    let candidate = Drift { answers: 24, tokens: 813, kl: 0.827, perplexity_ratio: 1.8 };
    let drifts = Drifts { candidate, champion: None };
    let policy = Policy { over_refusal: policies()[0].over_refusal.clone(), ..Policy::default() };
    let verdict = against("everyday/base", "everyday/candidate", Some(drifts), &policy);
    let failed: Vec<_> = verdict.failed().map(|rule| rule.rule.as_str()).collect();
    assert_eq!(failed, ["fresh_exam", "forgetting.general", "forgetting.kl"], "{verdict}");
    let of = |rule: &str| verdict.rules.iter().find(|it| it.rule == rule).unwrap().sentence.clone();
    assert!(of("forgetting.general").contains("Of 21 everyday questions"), "{verdict}");
    assert!(of("forgetting.general").contains("still answers 7 (33.3 %)"), "{verdict}");
    assert!(verdict.reason.contains("forgetting"), "{}", verdict.reason);
    assert!(!verdict.awaits_fresh_exam());
}
