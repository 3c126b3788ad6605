//! The rules about forgetting, on runs of scripted answers.

use std::time::Duration;

use eval::{
    Answer, Answerer, Case, Council, Drift, Drifts, Evidence, Exam, ExamOptions, ExamRun, Finish,
    ForgettingPolicy, FreshExam, Gate, Known, Outcome, Policy, Question, Rule, RuleVerdict,
    Sampling, Sitting, Subject, Suite, Tier, general,
};

/// Gives the right or the wrong answer to the nth question, as the function says.
struct Scripted<F> {
    suite: Suite,
    right: F,
}

impl<F: Fn(usize) -> bool> Answerer for Scripted<F> {
    fn subject(&self) -> Subject {
        let model = "scripted".into();
        Subject { model, model_digest: None, adapter: None, adapter_digest: None }
    }

    fn answer(
        &mut self,
        questions: &[Question<'_>],
        _: &Sampling,
    ) -> Result<Vec<Answer>, Box<dyn std::error::Error + Send + Sync>> {
        let answer = |question: &Question<'_>| {
            let same = |case: &eval::Case| case.turns == question.turns;
            let nth = self.suite.cases.iter().position(same).unwrap();
            let case = &self.suite.cases[nth];
            let text = if (self.right)(nth) { &case.pass } else { &case.fail };
            let (latency, finish) = (Duration::ZERO, Finish::Stop);
            Answer { text: text.clone(), finish, prompt_tokens: 1, tokens: 1, latency }
        };
        Ok(questions.iter().map(answer).collect())
    }
}

/// Everyday questions, and a held-out one of the household, without which there is no verdict.
fn suite(count: usize) -> Suite {
    let mut case = Case::new("mast", "domain", "yoda", Tier::HeldOut, "What flies on the mast?");
    case.rules = vec![Rule::ContainsAny { words: vec!["flag".into()] }];
    (case.pass, case.fail) = ("A flag.".into(), "A sail.".into());
    let everyday = general::suite(Council::built_in(), count).unwrap();
    everyday.joined(Suite::new("house", "1", vec![case])).unwrap()
}

fn run(count: usize, right: impl Fn(usize) -> bool) -> ExamRun {
    let suite = suite(count);
    let folder = tempfile::tempdir().unwrap();
    let mut answerer = Scripted { suite: suite.clone(), right };
    let exam = Exam::new(&suite, ExamOptions::default());
    match exam.sit(&mut answerer, folder.path(), &mut |_| {}).unwrap() {
        Outcome::Complete(run) => run,
        Outcome::Partial { .. } => unreachable!("there is no budget"),
    }
}

fn drift(kl: f64) -> Drift {
    Drift { answers: 100, tokens: 5000, kl, perplexity_ratio: 1.2 }
}

/// The rules about forgetting of a verdict.
fn rules(
    policy: &ForgettingPolicy,
    base: &ExamRun,
    candidate: &ExamRun,
    drifts: Option<Drifts>,
) -> Vec<RuleVerdict> {
    let evidence = Evidence {
        standing: Sitting { candidate, champion: None, base: Some(base) },
        fresh: FreshExam::Pending("the standing exam comes first".into()),
        best: None,
        drifts,
        checks: Vec::new(),
    };
    let gate = Gate::new(Policy { forgetting: policy.clone(), ..Policy::default() }).unwrap();
    let verdict = gate.decide(&evidence).unwrap();
    let about = |rule: &RuleVerdict| rule.rule.starts_with("forgetting");
    if verdict.rules.iter().any(|rule| about(rule) && !rule.passed) {
        assert!(!verdict.awaits_fresh_exam(), "no fresh exam is spent on what forgets");
    }
    verdict.rules.into_iter().filter(about).collect()
}

#[test]
fn what_the_base_knows_is_counted() {
    let base = run(40, |nth| nth < 20);
    let candidate = run(40, |nth| (3..22).contains(&nth));
    let known = Known::of(&base, &candidate);
    assert_eq!(known, Known { asked: 40, known: 20, kept: 17, gained: 2 });
    assert_eq!(known.lost(), 3);
    // The loss on balance is 1 of 20; its bound grows with the confidence.
    let bound = |confidence| known.loss_bound(confidence).unwrap();
    assert!((bound(0.5) - 0.05).abs() < 1e-12, "{}", bound(0.5));
    // z(0.95) sqrt(3.5 + 2.5 - 1/42) / 20 above it.
    let expected = 0.05 + 1.6448536 * (6.0_f64 - 1.0 / 42.0).sqrt() / 20.0;
    assert!((bound(0.95) - expected).abs() < 1e-6, "{} {expected}", bound(0.95));
    assert!(Known::default().loss_bound(0.95).is_err(), "no share of nothing");
    let nothing = Known { asked: 40, known: 21, kept: 0, gained: 0 };
    assert_eq!(nothing.loss_bound(0.95).unwrap(), 1.0, "no more than all");
}

#[test]
fn a_loss_is_refused_and_a_gain_makes_up_for_it() {
    let base = run(100, |nth| nth < 80);
    let policy = ForgettingPolicy::default();
    let verdict = |candidate: &ExamRun| {
        let rules = rules(&policy, &base, candidate, None);
        assert_eq!(rules.len(), 1);
        assert_eq!(rules[0].rule, "forgetting.general");
        rules.into_iter().next().unwrap()
    };
    for (candidate, passes) in [
        (run(100, |nth| nth < 80), true),
        (run(100, |nth| (2..80).contains(&nth)), true),
        (run(100, |nth| (3..80).contains(&nth)), false),
        (run(100, |nth| (3..83).contains(&nth)), true),
        (run(100, |_| false), false),
    ] {
        let rule = verdict(&candidate);
        assert_eq!(rule.passed, passes, "{}", rule.sentence);
    }
    let sentence = verdict(&run(100, |nth| (4..81).contains(&nth))).sentence;
    assert!(sentence.contains("Of 80 everyday questions"), "{sentence}");
    assert!(sentence.contains("still answers 76 (95.0 %)"), "{sentence}");
    assert!(sentence.contains("it gains 1. It has lost 3.8 % on balance"), "{sentence}");
}

#[test]
fn the_ceiling_of_the_divergence_comes_from_the_champion() {
    let none = run(8, |_| false);
    let policy = ForgettingPolicy { kl: 0.2, kl_step: 0.05, ..ForgettingPolicy::default() };
    let passed = |candidate, champion: Option<Drift>| {
        let drifts = Drifts { candidate: drift(candidate), champion };
        let rules = rules(&policy, &none, &none, Some(drifts));
        // The base knows none of the questions, so that there is no rule about them.
        assert_eq!(rules.iter().map(|rule| &*rule.rule).collect::<Vec<_>>(), ["forgetting.kl"]);
        rules[0].passed
    };
    for (candidate, champion, passes) in [
        (0.2, None, true),
        (0.21, None, false),
        (0.1, Some(drift(0.05)), true),
        (0.11, Some(drift(0.05)), false),
        // A champion from before the rule may not be followed above the ceiling of all.
        (0.2, Some(drift(0.9)), true),
        (0.21, Some(drift(0.9)), false),
        (f64::NAN, None, false),
    ] {
        assert_eq!(passed(candidate, champion), passes, "{candidate} {champion:?}");
    }
}

#[test]
fn figures_out_of_their_range_are_refused() {
    let bad = [
        (ForgettingPolicy { loss: -0.1, ..Default::default() }, "forgetting.loss"),
        (ForgettingPolicy { loss: f64::NAN, ..Default::default() }, "forgetting.loss"),
        (ForgettingPolicy { confidence: 0.4, ..Default::default() }, "forgetting.confidence"),
        (ForgettingPolicy { confidence: 1.0, ..Default::default() }, "forgetting.confidence"),
        (ForgettingPolicy { kl: f64::INFINITY, ..Default::default() }, "forgetting.kl"),
        (ForgettingPolicy { kl_step: -1.0, ..Default::default() }, "forgetting.kl_step"),
    ];
    for (policy, field) in bad {
        let error = policy.check().unwrap_err().to_string();
        assert!(error.contains(field), "{error}");
        let whole = eval::Policy { forgetting: policy, ..eval::Policy::default() };
        assert!(whole.check().is_err());
    }
}
