//! A real model takes an exam: SmolLM2-135M, downloaded once.

use std::path::Path;

use chat_format::ChatTokenizer;
use eval::{Exam, ExamOptions, ExamRun, ModelAnswerer, Outcome, Record, Sampling, Subject, Suite};
use models::{Adapter, Model};

/// Six short questions to one agent, which share a system prompt.
fn suite() -> Suite {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/suites/household.json");
    let mut suite = Suite::load(path).expect("the household suite");
    suite.cases.retain(|case| case.agent == "windu");
    suite.cases.truncate(6);
    suite
}

/// A run's records without their latencies.
fn said(run: &ExamRun) -> Vec<Record> {
    let mut records = run.records.clone();
    records.iter_mut().for_each(|record| record.latency_ms = 0);
    records
}

#[test]
fn answers_depend_neither_on_the_batch_nor_on_a_kill_and_come_again() {
    let path = match fetch::demo_model(&mut |_| {}) {
        Ok(path) => path,
        Err(error) => return eprintln!("skipped: {error}"),
    };
    let suite = suite();
    let model = Model::open(&path).unwrap();
    if model.computes_packed() {
        // Half a system prompt a minute at 2 GFLOP/s.
        return eprintln!(
            "skipped under native kernels on a CPU; the tiny nights of pipeline sit exams there"
        );
    }
    let tokenizer = ChatTokenizer::open(&path).unwrap();
    let adapter = Adapter::none(&model);
    let subject = Subject::of_files(&path, None).unwrap();
    let sit = |batch: usize, dir: &Path| {
        let mut answerer =
            ModelAnswerer::new(&model, &adapter, &tokenizer, subject.clone()).unwrap();
        let sampling = Sampling { max_tokens: 6, ..Sampling::default() };
        let options = ExamOptions { batch, sampling, ..ExamOptions::default() };
        match Exam::new(&suite, options).sit(&mut answerer, dir, &mut |_| {}).unwrap() {
            Outcome::Complete(run) => run,
            Outcome::Partial { spent, .. } => panic!("{spent}"),
        }
    };
    let folders: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let dirs: Vec<&Path> = folders.iter().map(|folder| folder.path()).collect();
    let together = said(&sit(6, dirs[0]));
    assert_eq!(together.len(), suite.cases.len());
    for record in &together {
        assert!(record.answer.split_whitespace().count() > 1, "{record:?}");
    }
    assert_eq!(together, said(&sit(6, dirs[1])), "the same again");
    assert_eq!(together, said(&sit(1, dirs[2])), "one by one");

    // Killed while the last answer but one was being written.
    let log = dirs[2].join("answers.jsonl");
    let whole = std::fs::read_to_string(&log).unwrap();
    let cut: usize = whole.split_inclusive('\n').take(4).map(str::len).sum::<usize>() + 40;
    std::fs::write(&log, &whole[..cut]).unwrap();
    assert_eq!(together, said(&sit(1, dirs[2])), "after a kill");
}
