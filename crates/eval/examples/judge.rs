//! Asks a language model for a second opinion on a run's refusals, and prints how often it agrees.
//!
//! ```text
//! cargo run --release -p nightshift-eval --example judge -- RUN ENDPOINT MODEL
//! cargo run --release -p nightshift-eval --example judge -- runs/tonight http://localhost:8080/v1 qwen3
//! cargo run --release -p nightshift-eval --example judge -- runs/tonight http://localhost:8080/v1 qwen3 runs/champion
//! ```
//!
//! With a second run it compares the answers of both, blind and in both orders, and writes `pairs.json` into the first
//! run's folder; replies are cached beside it in `pairs.jsonl`.
//!
//! An API key, if the endpoint needs one, is read from NIGHTSHIFT_JUDGE_KEY. The opinions are stored in the run's
//! records, and the page that compares two runs shows them; the gate does not use them.

use std::path::Path;
use std::process::ExitCode;

use eval::ExamRun;
use eval::exam::{ChatJudge, compare};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.as_slice() {
        [run, endpoint, model] => ask(run, with_key(ChatJudge::new(endpoint, model))),
        [run, endpoint, model, champion] => {
            pairs(run, champion, with_key(ChatJudge::new(endpoint, model)))
        }
        _ => {
            eprintln!(
                "error: expected RUN ENDPOINT MODEL [CHAMPION], found {} arguments",
                args.len()
            );
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn with_key(judge: ChatJudge) -> ChatJudge {
    match std::env::var("NIGHTSHIFT_JUDGE_KEY") {
        Ok(key) => judge.with_key(key),
        Err(_) => judge,
    }
}

fn pairs(dir: &str, champion: &str, mut judge: ChatJudge) -> eval::Result<()> {
    let (candidate, champion) = (ExamRun::load(dir)?, ExamRun::load(champion)?);
    let dir = Path::new(dir);
    let cache = dir.join("pairs.jsonl");
    let found = compare(&candidate, &champion, &mut judge, cache, &mut |pair| {
        let verdict = pair.error.clone().unwrap_or_else(|| format!("{:?}", pair.judge));
        eprintln!("{:<32} {verdict}", pair.case);
    })?;
    durable::write_json(dir.join("pairs.json"), &found)?;
    print!("{found}");
    Ok(())
}

fn ask(dir: &str, mut judge: ChatJudge) -> eval::Result<()> {
    let mut run = ExamRun::load(dir)?;
    let asked = run.ask(&mut judge, &mut |record| {
        let stance = record.opinion.as_ref().and_then(|opinion| opinion.stance);
        eprintln!("{:<32} {}", record.case, stance.map_or("unclear", |stance| stance.name()));
    });
    // Opinions are kept even if the endpoint failed before the last case.
    run.save(dir)?;
    asked?;
    print!("{}", run.summary()?);
    Ok(())
}
