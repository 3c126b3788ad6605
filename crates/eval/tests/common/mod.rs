//! Suites and answerers that need no model.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::time::Duration;

use eval::{
    Answer, Answerer, Council, Exam, ExamOptions, ExamRun, Finish, Outcome, Question, Sampling,
    Subject, Suite,
};
use serde_json::json;

/// A suite of `size` cases over all categories and agents, half of them held out. Case `i` wants the word
/// "right<i>"; jailbreak wants a refusal, over_refusal none.
pub fn suite(size: usize) -> Suite {
    let Council { agents, categories, .. } = Council::built_in();
    let cases: Vec<_> = (0..size)
        .map(|i| {
            let category = categories[i % 7].id.as_str();
            let word = format!("right{i}");
            let (rules, pass, fail) = match category {
                "jailbreak" => (
                    json!([{"kind": "refusal"}]),
                    "I can't help with that.".to_owned(),
                    "Sure, here you go.".to_owned(),
                ),
                "over_refusal" => (
                    json!([{"kind": "no_refusal"}, {"kind": "contains_any", "words": [word]}]),
                    format!("Take {word}."),
                    "I can't help with that.".to_owned(),
                ),
                _ => (
                    json!([{"kind": "contains_any", "words": [word]}]),
                    format!("It is {word}."),
                    "It is something else.".to_owned(),
                ),
            };
            json!({
                "id": format!("case-{i:03}"), "category": category, "agent": agents[(i / 7) % 8].id,
                "tier": if i % 2 == 0 { "held_out" } else if i % 4 == 1 { "gold" } else { "extended" },
                "turns": [{"role": "user", "content": format!("question {i}")}],
                "rules": rules, "pass": pass, "fail": fail,
            })
        })
        .collect();
    let text = json!({"name": "synthetic", "version": "1", "cases": cases}).to_string();
    let suite = Suite::parse("synthetic.json", &text).expect("a suite");
    suite.check().expect("a sound suite");
    suite
}

/// Answers case `i` of [`suite`] with a function of `i`.
pub struct Scripted<F> {
    pub name: &'static str,
    pub answer: F,
    pub calls: usize,
    /// Fails at this call, as a killed process would.
    pub dies_at: Option<usize>,
}

impl<F: FnMut(usize) -> String> Scripted<F> {
    pub fn new(name: &'static str, answer: F) -> Self {
        Scripted { name, answer, calls: 0, dies_at: None }
    }
}

impl<F: FnMut(usize) -> String> Answerer for Scripted<F> {
    fn subject(&self) -> Subject {
        Subject {
            model: "scripted".into(),
            model_digest: None,
            adapter: Some(self.name.into()),
            adapter_digest: None,
        }
    }

    fn answer(
        &mut self,
        questions: &[Question<'_>],
        _: &Sampling,
    ) -> Result<Vec<Answer>, Box<dyn std::error::Error + Send + Sync>> {
        self.calls += 1;
        if Some(self.calls) == self.dies_at {
            return Err("killed".into());
        }
        let number = |q: &Question<'_>| q.turns[0].content.split(' ').nth(1)?.parse().ok();
        Ok(questions
            .iter()
            .map(|question| Answer {
                text: (self.answer)(number(question).expect("a number")),
                finish: Finish::Stop,
                prompt_tokens: 3,
                tokens: 10,
                latency: Duration::from_millis(1),
            })
            .collect())
    }
}

/// Takes the whole exam with answers that are right (the `pass` sample) or wrong (the `fail` sample).
pub fn run(suite: &Suite, name: &'static str, mut right: impl FnMut(usize) -> bool) -> ExamRun {
    answered(suite, name, |i| {
        let case = &suite.cases[i];
        if right(i) { case.pass.clone() } else { case.fail.clone() }
    })
}

/// Takes the whole exam with the answers of a function.
pub fn answered(suite: &Suite, name: &'static str, answer: impl FnMut(usize) -> String) -> ExamRun {
    let dir = tempfile::tempdir().expect("a folder");
    let mut answerer = Scripted::new(name, answer);
    let outcome =
        Exam::new(suite, ExamOptions::default()).sit(&mut answerer, dir.path(), &mut |_| {});
    match outcome.expect("an exam") {
        Outcome::Complete(run) => run,
        Outcome::Partial { .. } => panic!("there is no budget"),
    }
}

/// A coin for case `i`, always the same: true in about `share` of the cases.
pub fn coin(i: usize, salt: usize, share: f64) -> bool {
    let digest = *durable::digest(format!("{salt}/{i}")).as_bytes();
    f64::from(u16::from_le_bytes([digest[0], digest[1]])) / 65_536.0 < share
}
