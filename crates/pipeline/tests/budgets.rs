//! Budgets, smoke test, pinning, notifications and file permissions of a night.

#[path = "support/run.rs"]
mod run;
mod support;

use std::fs;
use std::path::Path;

use pipeline::registry::BaseRegistry;
use pipeline::{Clock, Error, Event, Home, Outcome, Registry, StageName, Summary};
use run::{HOUR, clock, run_by, start_by};
use serde_json::Value;
use support::Tiny;

fn run(tiny: &Tiny, watch: &mut dyn FnMut(Event<'_>)) -> pipeline::Result<Summary> {
    run_by(&Clock::default(), tiny, watch)
}

fn registry(tiny: &Tiny) -> BaseRegistry {
    Registry::new(&Home::open(tiny.path("home")).unwrap())
        .find(tiny.path("model").to_str())
        .unwrap()
}

#[test]
fn when_time_is_up_training_stops_and_the_exam_runs() {
    let (tiny, clock) = (Tiny::new(), clock());
    let summary = run_by(&clock, &tiny, &mut |event| {
        if matches!(event, Event::Progress { stage: StageName::Train, done: 5, .. }) {
            clock.advance(6 * HOUR);
        }
    })
    .unwrap();
    assert!(summary.partial && summary.scores.candidate.overall.answers > 0);
    assert_eq!((summary.training.updates, summary.training.planned_updates), (5, 12));
    assert!(summary.line().contains("(partial)"), "{}", summary.line());
    let page = fs::read_to_string(&summary.paths.report).unwrap();
    assert!(page.contains("Partial") && page.contains("5 of 12 updates"));
    // The night is complete: the next start begins another one.
    assert_eq!(start_by(&clock, &tiny).unwrap().id(), "0002-2026-04-08");
}

#[test]
fn when_time_is_up_in_the_exam_the_candidate_is_refused_and_the_next_night_goes_on() {
    let (tiny, clock) = (Tiny::new(), clock());
    tiny.edit("night.yaml", "batch: 8", "batch: 2");
    let summary = run_by(&clock, &tiny, &mut |event| {
        if matches!(event, Event::Progress { stage: StageName::Exam, done: 14, .. }) {
            clock.advance(6 * HOUR);
        }
    })
    .unwrap();
    assert_eq!(summary.training.updates, 12, "training had its time");
    assert_eq!(summary.outcome, Outcome::Refused);
    let failed: Vec<_> = summary.verdict.failed().map(|rule| rule.rule.as_str()).collect();
    assert_eq!(failed, ["evidence"], "{}", summary.verdict);
    // The base's answers, and a batch of the candidate's.
    let said = "time was up after 16 of 28 answers to the standing exam";
    assert!(summary.verdict.to_string().contains(said), "{}", summary.verdict);
    assert!(summary.partial && summary.done.as_ref().unwrap().contains("16 of 28 answers"));
    let page = fs::read_to_string(&summary.paths.report).unwrap();
    assert!(page.contains("Partial") && page.contains("16 of 28 answers"));
    assert_eq!(registry(&tiny).state().unwrap().champion, None);

    let mut trained = false;
    let next = run_by(&clock, &tiny, &mut |event| {
        trained |= matches!(event, Event::StageBegun { stage: StageName::Train });
    });
    let next = next.unwrap();
    assert!(!trained && next.night.starts_with("0002-"));
    assert_eq!(next.outcome, Outcome::Promoted, "{}", next.verdict);
    assert_eq!(next.paths.adapter, summary.paths.adapter);
}

#[test]
fn the_time_counts_from_the_first_start() {
    let (tiny, clock) = (Tiny::new(), clock());
    tiny.edit("lora.yaml", "iters: 12", "iters: 12\nresume_adapter_file: nowhere.safetensors");
    run_by(&clock, &tiny, &mut |_| ()).unwrap_err();
    clock.advance(6 * HOUR);
    tiny.edit("lora.yaml", "\nresume_adapter_file: nowhere.safetensors", "");
    let error = run_by(&clock, &tiny, &mut |_| ()).unwrap_err();
    assert!(matches!(error, Error::BudgetSpent { stage: StageName::Train, .. }), "{error}");
    // It is over: the next start begins another night, with time of its own.
    assert_eq!(run_by(&clock, &tiny, &mut |_| ()).unwrap().night, "0002-2026-04-08");
}

#[test]
fn no_night_begins_in_the_morning() {
    let tiny = Tiny::new();
    let clock = clock();
    tiny.edit("night.yaml", "gate:", "budgets: { not_after: \"07:00\" }\ngate:");
    for hour in ["07:00", "09:30", "18:59"] {
        clock.set(format!("2026-04-08T{hour}:00+00:00[UTC]").parse().unwrap());
        let error = start_by(&clock, &tiny).unwrap_err();
        assert!(matches!(error, Error::TooLate { .. }) && error.exit_code() == 3, "{error}");
        assert_eq!(fs::read_dir(tiny.path("home/nights")).unwrap().count(), 0);
    }
    clock.set("2026-04-08T19:30:00+00:00[UTC]".parse().unwrap());
    assert_eq!(run_by(&clock, &tiny, &mut |_| ()).unwrap().outcome, Outcome::Promoted);
}

#[test]
fn memory_above_the_limit_retries_with_smaller_plans_and_then_fails() {
    let tiny = Tiny::new();
    tiny.edit("night.yaml", "gate:", "budgets: { memory: 1MB }\ngate:");
    let mut tries = 0;
    let error = run(&tiny, &mut |event| {
        tries += usize::from(matches!(event, Event::StageBegun { stage: StageName::Train }));
    })
    .unwrap_err();
    assert!(tries > 1, "a plan that needs less was tried");
    assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
    assert_eq!(error.exit_code(), 3);
    assert!(error.to_string().contains("1.0 MB allowed by `budgets.memory`"), "{error}");
    // No limit below every plan is left behind, and with more memory the same night completes.
    assert!(!tiny.path("home/memory.json").exists());
    tiny.edit("night.yaml", "budgets: { memory: 1MB }\n", "");
    assert_eq!(run(&tiny, &mut |_| ()).unwrap().outcome, Outcome::Promoted);
}

#[test]
fn too_little_free_disk_starts_nothing_and_the_next_start_resumes() {
    let tiny = Tiny::new();
    tiny.edit("night.yaml", "gate:", "budgets: { disk: 1000000TB }\ngate:");
    let error = run(&tiny, &mut |_| ()).unwrap_err();
    assert!(matches!(error, Error::DiskFull { .. }), "{error}");
    assert_eq!(error.exit_code(), 3);
    tiny.edit("night.yaml", "budgets: { disk: 1000000TB }\n", "");
    let summary = run(&tiny, &mut |_| ()).unwrap();
    assert!(summary.night.starts_with("0001-"));
}

#[test]
fn a_champion_that_fails_its_smoke_test_is_rolled_back() {
    let tiny = Tiny::new();
    let adapters = tiny.path("home/adapters");
    let summary = run(&tiny, &mut |event| {
        if matches!(event, Event::Progress { stage: StageName::Promote, .. }) {
            damage(&adapters);
        }
    })
    .unwrap();
    assert_eq!(summary.outcome, Outcome::RolledBack);
    assert!(summary.verdict.promotes() && summary.standing.as_ref().unwrap().contains("SHA-256"));
    let state = registry(&tiny).state().unwrap();
    assert_eq!((state.champion, state.history.len()), (None, 2));
    assert!(state.failed().is_empty(), "a damaged copy is not the adapter's fault");
    let page = fs::read_to_string(&summary.paths.report).unwrap();
    assert!(page.contains("Rolled back"));
}

/// A file that is gone, and a disk that is full, say nothing about the adapter: the night stops, nothing is rolled back and
/// nothing served, and the next start tests the same champion again.
#[test]
fn what_is_not_the_champions_fault_stops_the_night_and_rolls_nothing_back() {
    for what in ["tokenizer", "weights of the model", "registered copy"] {
        let tiny = Tiny::new();
        let (away, adapters) = (tiny.path("away"), tiny.path("home/adapters"));
        let path = || match what {
            "tokenizer" => tiny.path("model/tokenizer.json"),
            "weights of the model" => tiny.path("model/model.safetensors"),
            _ => fs::read_dir(&adapters).unwrap().next().unwrap().unwrap().path(),
        };
        let mut moved = None;
        let error = run(&tiny, &mut |event| {
            if matches!(event, Event::Progress { stage: StageName::Promote, .. }) && moved.is_none()
            {
                fs::rename(path(), &away).unwrap();
                moved = Some(());
            }
        })
        .unwrap_err();
        assert_eq!(error.exit_code(), 2, "{what}: {error}");
        assert!(!tiny.path("home/serving").exists(), "{what}");
        let back = match what {
            "tokenizer" => tiny.path("model/tokenizer.json"),
            "weights of the model" => tiny.path("model/model.safetensors"),
            // The night has another copy.
            _ => tiny.path("lost"),
        };
        fs::rename(&away, back).unwrap();
        let state = registry(&tiny).state().unwrap();
        assert_eq!(state.history.len(), 1, "{what}: {:?}", state.history);

        let summary = run(&tiny, &mut |_| ()).unwrap();
        assert_eq!(summary.outcome, Outcome::Promoted, "{what}");
        assert_eq!(registry(&tiny).state().unwrap().history.len(), 1, "{what}: promoted once");
        assert!(tiny.path("home/serving/model.json").is_file(), "{what}");
    }
}

/// Flips a byte in every adapter's weights.
fn damage(adapters: &Path) {
    for item in fs::read_dir(adapters).unwrap() {
        let path = item.unwrap().path().join("adapters.safetensors");
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
    }
}

#[test]
fn a_pinned_champion_is_not_replaced() {
    let tiny = Tiny::new();
    registry(&tiny).pin("guests this week").unwrap();
    let summary = run(&tiny, &mut |_| ()).unwrap();
    assert_eq!(summary.outcome, Outcome::Refused);
    assert!(summary.verdict.promotes() && summary.standing.unwrap().contains("pinned"));
    assert_eq!(registry(&tiny).state().unwrap().champion, None);
}

/// The same rows give the same adapter: no night makes it champion again after a rollback.
#[test]
fn what_was_rolled_back_is_not_promoted_by_the_next_night() {
    let tiny = Tiny::new();
    assert_eq!(run(&tiny, &mut |_| ()).unwrap().outcome, Outcome::Promoted);
    registry(&tiny).rollback("it says good morning at night").unwrap();
    // The same adapter under another policy, so that the night has something to decide.
    tiny.edit("gate.yaml", "margin: 0.3", "margin: 0.31");
    let summary = run(&tiny, &mut |_| ()).unwrap();
    assert_eq!(summary.outcome, Outcome::Refused, "{}", summary.verdict);
    let why = summary.standing.unwrap();
    assert!(summary.verdict.promotes() && why.contains("was champion before"), "{why}");
    let state = registry(&tiny).state().unwrap();
    assert_eq!((state.champion, state.history.len()), (None, 2));
    let page = fs::read_to_string(&summary.paths.report).unwrap();
    assert!(page.contains("was champion before and was rolled back"));
}

#[test]
fn the_smoke_test_asks_about_refusing_too() {
    let tiny = Tiny::new();
    tiny.edit("suite.json", "\"reasoning\"", "\"over_refusal\"");
    let mut asked = String::new();
    let summary = run(&tiny, &mut |event| {
        if let Event::Progress { stage: StageName::Promote, note, .. } = event {
            asked.push_str(note);
        }
    })
    .unwrap();
    assert_eq!(summary.outcome, Outcome::Promoted, "{}", summary.verdict);
    assert!(asked.contains("8 best answers, 0 refusals, 4 answers that deserve one"), "{asked}");
    let answers = fs::read_to_string(summary.paths.night.join("promote/smoke/answers.jsonl"));
    let answers = answers.unwrap();
    let about = answers.lines().filter(|line| line.contains("\"category\":\"over_refusal\""));
    assert!(about.count() >= 4, "{answers}");
}

#[test]
fn a_finished_night_is_notified_listed_and_measured() {
    let tiny = Tiny::new();
    let told = tiny.path("told.json");
    let command = format!("notify: {{ command: [sh, -c, 'cat > {}'] }}\ngate:", told.display());
    tiny.edit("night.yaml", "gate:", &command);
    let summary = run(&tiny, &mut |_| ()).unwrap();
    let message: Value = serde_json::from_slice(&fs::read(&told).unwrap()).unwrap();
    assert_eq!(message["line"], summary.line().as_str());
    assert_eq!((&message["outcome"], &message["summary"]), (&"promoted".into(), &Value::Null));

    let index = fs::read_to_string(&summary.paths.index).unwrap();
    let link = format!("nights/{}/report/report.html", summary.night).replace('/', "&#x2f;");
    assert!(index.contains(&link) && index.contains("promoted"));
    let metrics = fs::read_to_string(tiny.path("home/metrics.txt")).unwrap();
    assert!(metrics.contains("nightshift_night_outcome{outcome=\"promoted\"} 1"));
    // Checkpoints are only needed to resume training.
    assert!(!summary.paths.night.join("train/checkpoints").exists());

    // A night that fails is notified too.
    tiny.edit("lora.yaml", "iters: 12", "iters: 12\nresume_adapter_file: nowhere.safetensors");
    run(&tiny, &mut |_| ()).unwrap_err();
    let message = fs::read_to_string(&told).unwrap();
    assert!(message.contains("night 0002-") && message.contains("cannot be read"), "{message}");
    assert!(!message.contains("nowhere.safetensors"), "{message}");
}

#[cfg(unix)]
#[test]
fn everything_in_a_home_is_accessible_only_to_its_owner() {
    use std::os::unix::fs::PermissionsExt;

    fn check(dir: &Path) {
        for item in fs::read_dir(dir).unwrap() {
            let path = item.unwrap().path();
            let mode = path.metadata().unwrap().permissions().mode() & 0o777;
            let expected = if path.is_dir() { 0o700 } else { 0o600 };
            assert_eq!(mode, expected, "{}: {mode:o}", path.display());
            if path.is_dir() {
                check(&path);
            }
        }
    }
    let tiny = Tiny::new();
    run(&tiny, &mut |_| ()).unwrap();
    check(&tiny.path("home"));
}
