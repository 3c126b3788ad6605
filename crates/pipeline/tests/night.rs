//! Whole nights of a tiny model, also killed at every kind of event.

#[path = "support/kill.rs"]
mod kill;
mod support;

use std::collections::HashSet;
use std::env;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

use kill::{kill_at, name};
use pipeline::registry::Action;
use pipeline::{Event, Home, Night, NightConfig, Outcome, Registry, StageName, Summary};
use support::Tiny;

/// The stages of a night without a preference phase.
const STAGES: [StageName; 8] = [
    StageName::Convert,
    StageName::Enrich,
    StageName::Train,
    StageName::Exam,
    StageName::FreshExam,
    StageName::Gate,
    StageName::Promote,
    StageName::Report,
];

fn run(tiny: &Tiny, watch: &mut dyn FnMut(String)) -> pipeline::Result<Summary> {
    let config = NightConfig::load(tiny.path("night.yaml"))?;
    Night::start_or_resume(config)?.run(&mut |event: Event<'_>| watch(name(event)))
}

/// The champion, after a check of its content, the number of promotions, and that of nights.
fn outcome(tiny: &Tiny) -> (Option<durable::Digest>, usize, usize) {
    let registry = Registry::new(&Home::open(tiny.path("home")).unwrap())
        .find(tiny.path("model").to_str())
        .unwrap();
    let state = registry.state().unwrap();
    let promotions = state.history.iter().filter(|c| c.action == Action::Promote).count();
    let champion = state.champion;
    champion.map(|adapter| registry.verified(adapter).unwrap());
    (champion, promotions, nights(tiny).len())
}

fn nights(tiny: &Tiny) -> Vec<PathBuf> {
    let items = fs::read_dir(tiny.path("home/nights")).unwrap();
    items.map(|item| item.unwrap().path()).collect()
}

#[test]
fn a_night_trains_and_promotes_and_the_next_one_compares_with_the_champion() {
    let tiny = Tiny::new();
    let mut events = vec![];
    let first = run(&tiny, &mut |event| events.push(event)).unwrap();
    assert_eq!(first.outcome, Outcome::Promoted, "{}", first.verdict);
    for stage in STAGES {
        let begun = events.iter().position(|e| *e == format!("{stage} begun")).unwrap();
        let finished = events.iter().position(|e| *e == format!("{stage} finished")).unwrap();
        assert!(begun < finished, "{stage}");
    }
    assert!(first.losses.train_last < first.losses.train_first);
    assert!(first.scores.candidate.overall.score > first.scores.base.overall.score);
    assert!(first.scores.champion.is_none());
    assert_eq!(first.paths.champion.as_ref(), Some(&first.paths.adapter));
    let sample = first.sample.unwrap();
    assert!(sample.score_after > sample.score_before);
    let page = fs::read_to_string(&first.paths.report).unwrap();
    assert!(page.contains("Promoted") && page.contains("<svg") && !page.contains("http:"));
    assert!(page.contains("Chat formats of the raw rows"));

    // With the next seed it is compared with the champion.
    tiny.edit("night.yaml", "data:", "when_unchanged: next_seed\ndata:");
    let second = run(&tiny, &mut |_| ()).unwrap();
    assert_eq!(second.outcome, Outcome::Refused, "{}", second.verdict);
    assert_ne!(second.paths.adapter, first.paths.adapter);
    let champion = &second.scores.champion.as_ref().unwrap().overall;
    assert_eq!(champion.score, first.scores.candidate.overall.score);
    let (_, promotions, nights) = outcome(&tiny);
    assert_eq!((promotions, nights), (1, 2));

    // To read both reports: NIGHTSHIFT_PAGES=DIR cargo test -p nightshift-pipeline --test night the_next_one
    if let Some(dir) = env::var_os("NIGHTSHIFT_PAGES") {
        for (name, night) in [("promoted.html", &first.paths), ("refused.html", &second.paths)] {
            fs::copy(&night.report, Path::new(&dir).join(name)).unwrap();
        }
    }

    // A second start on the same day has nothing to do.
    let config = NightConfig::load(tiny.path("night.yaml")).unwrap();
    let today = jiff::Zoned::now().date().to_string();
    let again = Night::start_once_a_day(config).unwrap();
    assert_eq!(again.is_none(), second.night.ends_with(&today));
}

/// The sealed exams that a home has used, in their order.
fn fresh_exams(tiny: &Tiny) -> Vec<String> {
    let text = fs::read_to_string(tiny.path("home/fresh-exams.jsonl")).unwrap_or_default();
    let used = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let path = line["origin"]["sealed"]["path"].as_str().unwrap();
        Path::new(path).file_name().unwrap().to_string_lossy().into_owned()
    };
    text.lines().map(used).collect()
}

#[test]
fn every_sealed_exam_is_used_once_and_then_the_night_stops() {
    let tiny = Tiny::with("when_unchanged: next_seed\n");
    for who in ["Cook", "Diver", "Elder", "Farmer"] {
        fs::remove_file(tiny.path(&format!("sealed/{who}.json"))).unwrap();
    }
    let registry = Registry::new(&Home::open(tiny.path("home")).unwrap())
        .find(tiny.path("model").to_str())
        .unwrap();
    for used in [vec!["Actor.json"], vec!["Actor.json", "Baker.json"]] {
        let summary = run(&tiny, &mut |_| ()).unwrap();
        assert_eq!(summary.outcome, Outcome::Promoted, "{}", summary.verdict);
        let rule = summary.verdict.rules.iter().find(|rule| rule.rule == "fresh_exam").unwrap();
        assert!(rule.passed && rule.value < 0.005, "{rule:?}");
        assert!(summary.verdict.promise.contains("at most 0.25 promotions"));
        assert_eq!(fresh_exams(&tiny), used);
        // Served again, the base model is what the next candidate has to beat.
        registry.withdraw("for the test").unwrap();
    }
    let error = run(&tiny, &mut |_| ()).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    let message = error.to_string();
    assert!(message.contains("sealed") && message.contains("2, all of them used"), "{message}");

    // A new one: the night resumes, and the answers to the standing exam are not asked again.
    tiny.write("sealed/Zoo.json", &support::suite("Zookeeper").to_string());
    assert_eq!(run(&tiny, &mut |_| ()).unwrap().outcome, Outcome::Promoted);
    assert_eq!(fresh_exams(&tiny).last().unwrap(), "Zoo.json");
    // The best scores that served stay on file for the floors.
    assert_eq!(registry.state().unwrap().best.len(), 1);
}

#[test]
fn a_candidate_that_fails_the_standing_exam_uses_no_fresh_one() {
    let tiny = Tiny::new();
    // The learning rate of nothing: the candidate answers as the base model does.
    tiny.edit("lora.yaml", "learning_rate: 1.0e-2", "learning_rate: 1.0e-9");
    let summary = run(&tiny, &mut |_| ()).unwrap();
    assert_eq!(summary.outcome, Outcome::Refused);
    let failed: Vec<_> = summary.verdict.failed().map(|rule| rule.rule.as_str()).collect();
    assert!(failed.contains(&"held_out") && failed.contains(&"fresh_exam"), "{failed:?}");
    assert!(
        summary.verdict.to_string().contains("Not taken: the candidate fails the standing exam")
    );
    assert!(fresh_exams(&tiny).is_empty());
}

#[test]
fn without_a_source_of_fresh_exams_the_standing_one_decides_at_a_stricter_level() {
    let tiny = Tiny::new();
    tiny.edit("night.yaml", "  fresh: { sealed: sealed }\n", "");
    let summary = run(&tiny, &mut |_| ()).unwrap();
    assert_eq!(summary.outcome, Outcome::Promoted, "{}", summary.verdict);
    let rule = summary.verdict.rules.iter().find(|rule| rule.rule == "held_out").unwrap();
    assert!((rule.threshold - 0.25 / 365.0).abs() < 1e-9);
    assert!(summary.verdict.promise.contains("as long as no candidate was adapted"));
    let page = fs::read_to_string(&summary.paths.report).unwrap();
    assert!(page.contains("no source of fresh exams"));
}

#[test]
fn no_held_out_question_or_answer_is_in_a_report_or_message() {
    let tiny = Tiny::new();
    let summary = run(&tiny, &mut |_| ()).unwrap();
    let message = serde_json::to_string(&summary).unwrap();
    let page = fs::read_to_string(&summary.paths.report).unwrap();
    let index = fs::read_to_string(&summary.paths.index).unwrap_or_default();
    for text in [message, page, index, summary.verdict.to_string(), summary.line()] {
        for (who, numbers) in [("Guest", 0..12), ("Actor", 0..14)] {
            for i in numbers {
                assert!(!text.contains(&format!("{who} {i} is thirsty")), "{who} {i}");
            }
        }
    }
}

#[test]
fn odd_rows_are_set_aside_while_their_share_is_small() {
    let tiny = Tiny::new();
    let rows = fs::read_to_string(tiny.path("raw.jsonl")).unwrap();
    let count = rows.lines().count();
    tiny.write("raw.jsonl", &format!("{rows}{{\"messages\": [torn\n"));
    let setting = "max_refused_share: 0.0001";
    tiny.edit("night.yaml", "data:", &format!("{setting}\ndata:"));
    let error = run(&tiny, &mut |_| ()).unwrap_err().to_string();
    let place = format!("raw.jsonl:{}", count + 1);
    assert!(error.contains(&place) && error.contains("max_refused_share"), "{error}");

    tiny.edit("night.yaml", setting, "max_refused_share: 0.5");
    run(&tiny, &mut |_| ()).unwrap();
    let refused = nights(&tiny)[0].join("convert/refused.jsonl");
    let refused = fs::read_to_string(refused).unwrap();
    let row: serde_json::Value = serde_json::from_str(refused.trim()).unwrap();
    assert_eq!((&row["line"], &row["text"]), (&(count + 1).into(), &"{\"messages\": [torn".into()));
}

/// A template that wants a question first refuses a chat that the assistant begins.
#[test]
fn a_row_that_the_template_refuses_is_named_and_set_aside() {
    let tiny = Tiny::new();
    let (template, loop_of) = ("model/tokenizer_config.json", "{% for m in messages %}");
    let raise = "{% if messages[0].role == 'assistant' %}{{ raise_exception('a question first') }}{% endif %}";
    tiny.edit(template, loop_of, &format!("{raise}{loop_of}"));
    let rows = fs::read_to_string(tiny.path("raw.jsonl")).unwrap();
    let greeting = r#"{"messages":[{"role":"assistant","content":"Hello!"},{"role":"user","content":"Hm?"},{"role":"assistant","content":"tttt"}]}"#;
    let mut lines: Vec<&str> = rows.lines().collect();
    lines.insert(6, greeting);
    tiny.write("raw.jsonl", &(lines.join("\n") + "\n"));
    let error = run(&tiny, &mut |_| ()).unwrap_err();
    let message = error.to_string();
    assert!(message.starts_with("raw.jsonl:7: expected at most the share"), "{message}");
    assert!(message.contains("1 of 25") && message.contains("a question first"), "{message}");
    assert_eq!(error.exit_code(), 2);

    tiny.edit("night.yaml", "data:", "max_refused_share: 0.05\ndata:");
    let summary = run(&tiny, &mut |_| ()).unwrap();
    assert_eq!((summary.rows.not_trained, summary.rows.read), (1, 25));
    assert!(summary.rows.adds_up(), "{:?}", summary.rows);
    let list = fs::read_to_string(nights(&tiny)[0].join("train/left-out.jsonl")).unwrap();
    let row: serde_json::Value = serde_json::from_str(list.trim()).unwrap();
    assert_eq!((&row["row"], &row["reason"]), (&"raw.jsonl:7".into(), &"refused".into()));
}

#[test]
fn a_night_runs_on_a_qwen_3_5() {
    goes_through(&Tiny::qwen(), 60);
}

#[test]
fn a_night_runs_on_a_gemma_4() {
    goes_through(&Tiny::gemma(), 150);
}

/// Through all stages, to a promotion. Random layers of these families learn more slowly than those of the Llama, in 16
/// bits more slowly than in f32.
fn goes_through(tiny: &Tiny, updates: u32) {
    tiny.edit("lora.yaml", "iters: 12", &format!("iters: {updates}"));
    let mut events = vec![];
    let summary = run(tiny, &mut |event| events.push(event)).unwrap();
    assert_eq!(summary.outcome, Outcome::Promoted, "{}", summary.verdict);
    for stage in STAGES {
        assert!(events.contains(&format!("{stage} finished")), "{stage}");
    }
    assert_eq!(outcome(tiny).1, 1);
}

#[test]
fn killed_at_any_event_a_night_resumes_and_promotes_once() {
    let whole = Tiny::new();
    let mut events = vec![];
    run(&whole, &mut |event| events.push(event)).unwrap();
    let (champion, ..) = outcome(&whole);
    assert!(champion.is_some());

    // For every stage its start, its end and one step in between; for training a step before a
    // checkpoint, one after it, and the last.
    let mut seen = HashSet::new();
    let steps = ["train at 2", "train at 4", "train at 12"].map(str::to_owned);
    let kind = |event: &String| match event.split_once(" at ") {
        Some((stage, _)) if !steps.contains(event) => stage.to_owned(),
        _ => event.clone(),
    };
    let moments: Vec<usize> =
        (0..events.len()).filter(|&i| seen.insert(kind(&events[i]))).collect();
    assert!(moments.len() >= 2 * STAGES.len());
    for moment in moments {
        let what = &events[moment];
        let tiny = Tiny::new();
        let status = kill_at(&tiny, moment);
        assert_eq!(status.signal(), Some(9), "{what}: {status:?}");
        assert!(fs::read_dir(tiny.path("home/nights")).unwrap().count() == 1, "{what}");

        let mut later = vec![];
        let summary = run(&tiny, &mut |event| later.push(event)).unwrap();
        assert_eq!(summary.outcome, Outcome::Promoted, "{what}");
        assert_eq!(later[0], "night resumed=true", "{what}");
        assert_eq!(outcome(&tiny), (champion, 1, 1), "{what}");
        assert_eq!(fresh_exams(&tiny).len(), 1, "{what}: the same fresh exam");
        for finished in events[..moment].iter().filter(|e| e.ends_with(" finished")) {
            let skipped = finished.replace("finished", "skipped");
            assert!(later.contains(&skipped), "{what}: {finished} ran again");
        }
    }
}

#[test]
fn child_of_the_kill_test() {
    kill::child();
}

#[test]
fn after_a_change_of_the_recipe_only_the_affected_stages_run_again() {
    let tiny = Tiny::new();
    tiny.edit("lora.yaml", "iters: 12", "iters: 12\nresume_adapter_file: nowhere.safetensors");
    let error = run(&tiny, &mut |_| ()).unwrap_err();
    assert!(error.to_string().contains("nowhere.safetensors"), "{error}");
    tiny.edit("lora.yaml", "\nresume_adapter_file: nowhere.safetensors", "");
    let mut events = vec![];
    run(&tiny, &mut |event| events.push(event)).unwrap();
    assert_eq!(events[0], "night resumed=true");
    assert!(events.contains(&"enrich skipped".to_owned()), "{events:?}");
    assert!(events.contains(&"train begun".to_owned()), "{events:?}");
}

#[test]
fn a_budget_that_is_spent_before_training_ends_the_night_and_the_next_start_begins_another() {
    let tiny = Tiny::new();
    let night = fs::read_to_string(tiny.path("night.yaml")).unwrap();
    tiny.write("night.yaml", &format!("{night}budgets: {{ wall_clock: 0s }}\n"));
    let error = run(&tiny, &mut |_| ()).unwrap_err();
    assert_eq!((error.exit_code(), error.to_string().contains("0s")), (3, true), "{error}");
    let index = fs::read_to_string(tiny.path("home/index.html")).unwrap();
    assert!(index.contains("given up") && index.contains("the budget of 0s ran out"), "{index}");
    tiny.write("night.yaml", &night);
    assert_eq!(run(&tiny, &mut |_| ()).unwrap().outcome, Outcome::Promoted);
    assert_eq!(nights(&tiny).len(), 2);
}
