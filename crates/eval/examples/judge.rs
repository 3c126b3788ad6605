//! Asks a language model for a second opinion on a run's refusals, and prints how often it agrees.
//!
//! ```text
//! cargo run --release -p nightshift-eval --example judge -- RUN ENDPOINT MODEL
//! cargo run --release -p nightshift-eval --example judge -- runs/tonight http://localhost:8080/v1 qwen3
//! ```
//!
//! An API key, if the endpoint needs one, is read from NIGHTSHIFT_JUDGE_KEY. The opinions are stored in the run's
//! records, and the page that compares two runs shows them; the gate does not use them.

use std::process::ExitCode;

use eval::{ChatJudge, ExamRun};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [run, endpoint, model] = args.as_slice() else {
        eprintln!("error: expected RUN ENDPOINT MODEL, found {} arguments", args.len());
        return ExitCode::from(2);
    };
    match ask(run, ChatJudge::new(endpoint, model)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn ask(dir: &str, judge: ChatJudge) -> eval::Result<()> {
    let mut judge = match std::env::var("NIGHTSHIFT_JUDGE_KEY") {
        Ok(key) => judge.with_key(key),
        Err(_) => judge,
    };
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
