//! Sitting an exam: records, kills, budgets, folders.

mod common;

use std::time::Duration;

use common::{Scripted, suite};
use eval::{Budget, BudgetSpent, Error, Exam, ExamOptions, ExamRun, Outcome};

fn options() -> ExamOptions {
    ExamOptions { batch: 8, seeds: vec![1, 2], ..ExamOptions::default() }
}

fn complete(outcome: Outcome) -> ExamRun {
    match outcome {
        Outcome::Complete(run) => run,
        Outcome::Partial { spent, .. } => panic!("{spent}"),
    }
}

#[test]
fn a_run_is_on_disk_as_it_was_returned() {
    let suite = suite(20);
    let dir = tempfile::tempdir().unwrap();
    let mut sizes = Vec::new();
    let mut answerer = Scripted::new("a", |i| suite.cases[i].pass.clone());
    let exam = Exam::new(&suite, options());
    let run = complete(
        exam.sit(&mut answerer, dir.path(), &mut |p| sizes.push((p.latest.len(), p.done, p.total)))
            .unwrap(),
    );
    assert_eq!(
        sizes,
        [(8, 8, 40), (8, 16, 40), (4, 20, 40), (8, 28, 40), (8, 36, 40), (4, 40, 40)]
    );
    assert_eq!(ExamRun::load(dir.path()).unwrap(), run);
    let summary = run.summary().unwrap();
    assert_eq!((summary.overall.score, summary.overall.answers, summary.complete), (1.0, 40, true));

    let elsewhere = tempfile::tempdir().unwrap();
    run.save(elsewhere.path()).unwrap();
    assert_eq!(ExamRun::load(elsewhere.path()).unwrap(), run);
}

#[test]
fn an_exam_killed_anywhere_goes_on_and_ends_the_same() {
    let suite = suite(20);
    let answer =
        |i: usize| if i.is_multiple_of(3) { "no".to_owned() } else { suite.cases[i].pass.clone() };
    let whole = tempfile::tempdir().unwrap();
    let exam = Exam::new(&suite, options());
    let expected =
        complete(exam.sit(&mut Scripted::new("a", answer), whole.path(), &mut |_| {}).unwrap());
    for dies_at in 1..=6 {
        for torn in [0, 1, 2] {
            let dir = tempfile::tempdir().unwrap();
            let mut answerer = Scripted::new("a", answer);
            answerer.dies_at = Some(dies_at);
            exam.sit(&mut answerer, dir.path(), &mut |_| {}).unwrap_err();
            tear(&dir.path().join("answers.jsonl"), torn);
            let mut again = Scripted::new("a", answer);
            let run = complete(exam.sit(&mut again, dir.path(), &mut |_| {}).unwrap());
            assert_eq!(run, expected);
            assert_eq!(ExamRun::load(dir.path()).unwrap(), expected);
            let repeated = usize::from(torn > 0 && dies_at > 1);
            assert_eq!(
                again.calls,
                6 - (dies_at - 1) + repeated,
                "finished batches are not put again"
            );
        }
    }
}

/// Cuts the last bytes of a log off, as a kill during an append does, and then some whole lines too.
fn tear(path: &std::path::Path, how: usize) {
    let text = std::fs::read_to_string(path).unwrap();
    let end = match how {
        0 => text.len(),
        1 => text.len().saturating_sub(10),
        _ => text.trim_end().rfind('\n').map_or(0, |at| at + 1),
    };
    std::fs::write(path, &text[..end]).unwrap();
}

#[test]
fn a_spent_budget_leaves_what_was_done_and_the_next_sitting_goes_on() {
    let suite = suite(20);
    let dir = tempfile::tempdir().unwrap();
    let exam = || Exam::new(&suite, options());
    let budget = Budget { tokens: Some(100), time: None };
    let mut answerer = Scripted::new("a", |_| "no".to_owned());
    let outcome = exam().with_budget(budget).sit(&mut answerer, dir.path(), &mut |_| {}).unwrap();
    let Outcome::Partial { run, spent } = outcome else {
        panic!("the budget is for 10 answers of 40")
    };
    assert_eq!(spent, BudgetSpent::Tokens { limit: 100, used: 160 });
    assert_eq!(run.records.len(), 16);
    assert!(!run.is_complete() && !run.summary().unwrap().complete);
    assert_eq!(ExamRun::load(dir.path()).unwrap(), run);

    let at_once = Budget { tokens: None, time: Some(Duration::ZERO) };
    let outcome = exam().with_budget(at_once).sit(&mut answerer, dir.path(), &mut |_| {}).unwrap();
    assert!(matches!(outcome, Outcome::Partial { spent: BudgetSpent::Time { .. }, ref run }
        if run.records.len() == 16));

    let run = complete(exam().sit(&mut answerer, dir.path(), &mut |_| {}).unwrap());
    assert_eq!(run.records.len(), 40);
}

#[test]
fn another_exam_in_the_folder_is_refused() {
    let (small, large) = (suite(10), suite(12));
    let dir = tempfile::tempdir().unwrap();
    let sit = |suite, name, options| {
        Exam::new(suite, options).sit(
            &mut Scripted::new(name, |_| "no".into()),
            dir.path(),
            &mut |_| {},
        )
    };
    sit(&small, "a", options()).unwrap();
    let expect = |what: &str, outcome: eval::Result<Outcome>| match outcome {
        Err(Error::OtherExam { what: found, .. }) => assert_eq!(found, what),
        other => panic!("{what}: {other:?}"),
    };
    expect("suite", sit(&large, "a", options()));
    expect("subject", sit(&small, "b", options()));
    expect("setting", sit(&small, "a", ExamOptions::default()));
    sit(&small, "a", options()).unwrap();
}

#[test]
fn damaged_files_are_refused_by_name_and_line() {
    let suite = suite(10);
    let dir = tempfile::tempdir().unwrap();
    let sit = || {
        let mut answerer = Scripted::new("a", |_| "no".to_owned());
        Exam::new(&suite, options()).sit(&mut answerer, dir.path(), &mut |_| {})
    };
    sit().unwrap();
    let log = dir.path().join("answers.jsonl");
    let good = std::fs::read_to_string(&log).unwrap();
    let mut lines: Vec<&str> = good.lines().collect();
    lines[2] = "{\"case\": 3}";
    std::fs::write(&log, lines.join("\n") + "\n").unwrap();
    for error in [ExamRun::load(dir.path()).unwrap_err(), sit().unwrap_err()] {
        assert!(error.to_string().contains("answers.jsonl: line 3:"), "{error}");
    }
    std::fs::write(&log, &good).unwrap();
    std::fs::write(dir.path().join("manifest.json"), "{}").unwrap();
    assert!(matches!(ExamRun::load(dir.path()), Err(Error::Json { .. })));
}

#[test]
fn an_answerer_that_skips_a_question_is_refused() {
    struct Silent;
    impl eval::Answerer for Silent {
        fn subject(&self) -> eval::Subject {
            Scripted::new("silent", |_| String::new()).subject()
        }
        fn answer(
            &mut self,
            _: &[eval::Question<'_>],
            _: &eval::Sampling,
        ) -> Result<Vec<eval::Answer>, Box<dyn std::error::Error + Send + Sync>> {
            Ok(Vec::new())
        }
    }
    let suite = suite(10);
    let dir = tempfile::tempdir().unwrap();
    let error = Exam::new(&suite, options()).sit(&mut Silent, dir.path(), &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::AnswerCount { expected: 8, found: 0 }), "{error}");
}

#[test]
fn options_that_put_nothing_and_folders_that_cannot_be_made_are_refused() {
    let suite = suite(10);
    let dir = tempfile::tempdir().unwrap();
    let in_the_way = dir.path().join("file");
    std::fs::write(&in_the_way, "").unwrap();
    let sit = |options, to: &std::path::Path| {
        let mut answerer = Scripted::new("a", |_| "no".to_owned());
        Exam::new(&suite, options).sit(&mut answerer, to, &mut |_| {}).unwrap_err().to_string()
    };
    let no_batch = ExamOptions { batch: 0, ..options() };
    let no_seeds = ExamOptions { seeds: vec![], ..options() };
    assert!(sit(no_batch, dir.path()).contains("batch"));
    assert!(sit(no_seeds, dir.path()).contains("seeds"));
    assert!(sit(options(), &in_the_way.join("run")).contains("file/run: cannot create the folder"));
}
