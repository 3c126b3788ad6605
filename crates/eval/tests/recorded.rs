//! The gate on three recorded runs of the demo's exam: SmolLM2-135M-Instruct itself, the candidate
//! of the demo's night (`fixtures/demo/night.yaml`), and that of the same night with every answer
//! under another question (`fixtures/demo/shuffled.yaml`). The folders are the `exam/base` and
//! `exam/candidate` of those nights as they were.

use eval::gate::Decision;
use eval::{Check, CheckResult, Evidence, ExamRun, Gate, Policy, Reference, Verdict};

fn recorded(name: &str) -> ExamRun {
    ExamRun::load(format!("{}/tests/data/runs/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn decide(candidate: &str, policy: &Policy) -> Verdict {
    let (candidate, base) = (recorded(candidate), recorded("base"));
    let clean = |check| CheckResult { check, problems: Vec::new() };
    let evidence = Evidence {
        candidates: vec![&candidate],
        reference: &base,
        against: Reference::Base,
        checks: vec![clean(Check::Contamination), clean(Check::Adapter)],
    };
    Gate::new(policy.clone()).unwrap().decide(&evidence).unwrap()
}

/// The demo's policy and the crate's own, which asks for more.
fn policies() -> [Policy; 2] {
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/demo/gate.yaml");
    [Policy::load(demo).unwrap(), Policy::default()]
}

#[test]
fn what_has_learnt_is_promoted() {
    for policy in policies() {
        let verdict = decide("candidate", &policy);
        assert_eq!(verdict.decision, Decision::Promote, "{verdict}");
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
