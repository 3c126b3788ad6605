//! The nights after the first: nothing is trained twice.

#[path = "support/run.rs"]
mod run;
mod support;

use std::fs;

use pipeline::config::ModelChoice;
use pipeline::{
    Clock, Event, Home, Night, NightConfig, NightFile, Outcome, Registry, StageName, Summary,
};
use run::{HOUR, clock, start_by};
use support::Tiny;

/// What a night did.
struct Done {
    summary: Summary,
    /// The stages that ran.
    begun: Vec<StageName>,
    /// The updates that were made.
    updates: Vec<u64>,
}

fn run(tiny: &Tiny) -> Done {
    run_watched(&Clock::default(), tiny, &mut |_| ())
}

fn run_watched(clock: &Clock, tiny: &Tiny, watch: &mut dyn FnMut(&Event<'_>)) -> Done {
    let (mut begun, mut updates) = (vec![], vec![]);
    let night = start_by(clock, tiny).unwrap();
    let summary = night.run(&mut |event: Event<'_>| {
        match event {
            Event::StageBegun { stage } => begun.push(stage),
            Event::Progress { stage: StageName::Train, done, note, .. }
                if note.starts_with("loss") =>
            {
                updates.push(done);
            }
            _ => {}
        }
        watch(&event);
    });
    Done { summary: summary.unwrap(), begun, updates }
}

#[test]
fn a_night_without_anything_new_says_so_and_ends() {
    let tiny = Tiny::new();
    let first = run(&tiny).summary;
    assert_eq!(first.new_rows, None, "there is no night before");
    // None of this can change the result.
    tiny.write("model/.DS_Store", "a file manager was here");
    tiny.edit("lora.yaml", "save_every: 3", "save_every: 5\nsteps_per_report: 1");
    tiny.edit("lora.yaml", "lanes: 1", "lanes: 1, memory_limit: 3GB, keep_checkpoints: 5");
    tiny.edit("night.yaml", "data:", "max_refused_share: 0.5\ndata:");
    tiny.edit("night.yaml", "gate:", "retention: { chats: 30d }\ngate:");
    for number in ["0002-", "0003-"] {
        fs::create_dir_all(tiny.path("home/chats")).unwrap();
        tiny.write("home/chats/2020-01-01.jsonl", "{}\n");
        let Done { summary, begun, .. } = run(&tiny);
        assert_eq!(summary.outcome, Outcome::NothingNew);
        assert_eq!(summary.deleted_chats.unwrap().files, 1, "old chats go on every night");
        assert!(summary.night.starts_with(number) && !begun.contains(&StageName::Train));
        assert_eq!(summary.since.as_ref(), Some(&first.night));
        assert_eq!(summary.new_rows.as_ref().unwrap().rows, 0);
        let line = summary.line();
        assert!(line.contains(&format!("nothing new since night {}", first.night)), "{line}");
        assert!(!summary.paths.night.join("enrich").exists(), "the rows are kept once");
        let index = fs::read_to_string(&summary.paths.index).unwrap();
        assert!(index.contains(&format!("nothing new since night {}", first.night)));
    }
    let metrics = fs::read_to_string(tiny.path("home/metrics.txt")).unwrap();
    assert!(metrics.contains("nightshift_night_outcome{outcome=\"nothing_new\"} 1"), "{metrics}");
    let registry = Registry::new(&Home::open(tiny.path("home")).unwrap());
    let promotions: usize =
        registry.state().unwrap().bases.values().map(|it| it.history.len()).sum();
    assert_eq!(promotions, 1);
}

#[test]
fn a_damaged_champion_is_found_although_nothing_is_new() {
    let tiny = Tiny::new();
    let first = run(&tiny).summary;
    // Another recipe, which is refused: the champion is that of the first night.
    tiny.edit("lora.yaml", "learning_rate: 1.0e-2", "learning_rate: 1.0e-9");
    assert_eq!(run(&tiny).summary.outcome, Outcome::Refused);
    fs::write(first.paths.adapter.join("adapters.safetensors"), "damage").unwrap();
    let config = NightConfig::load(tiny.path("night.yaml")).unwrap();
    let night = Night::start_or_resume(config).unwrap();
    let error = night.run(&mut |_: Event<'_>| ()).unwrap_err();
    assert!(matches!(error, pipeline::Error::Corrupt { .. }), "{error}");
}

#[test]
fn new_rows_are_counted_and_trained() {
    let tiny = Tiny::new();
    let first = run(&tiny).summary;
    let rows = fs::read_to_string(tiny.path("raw.jsonl")).unwrap();
    let new = rows.lines().next().unwrap().replace("dish 0", "dish of the day");
    // At the beginning, so that every other row is in another line than before.
    tiny.write("raw.jsonl", &format!("{new}\n{rows}"));
    let Done { summary, begun, .. } = run(&tiny);
    let counted = summary.new_rows.as_ref().unwrap();
    assert_eq!((counted.rows, &counted.since), (1, &first.night));
    assert!(begun.contains(&StageName::Train));
    assert!(summary.line().contains("; new rows: 1;"), "{}", summary.line());
    let page = fs::read_to_string(&summary.paths.report).unwrap();
    assert!(page.contains(&format!("1 that night {} did not have", first.night)));
}

#[test]
fn another_exam_is_taken_by_the_adapter_of_the_night_before() {
    let tiny = Tiny::new();
    let first = run(&tiny).summary;
    tiny.write("suite.json", &support::suite("Visitor").to_string());
    let Done { summary, begun, .. } = run(&tiny);
    assert!(begun.contains(&StageName::Exam) && !begun.contains(&StageName::Train), "{begun:?}");
    assert_eq!(summary.paths.adapter, first.paths.adapter);
    let train = summary.stages.iter().find(|stage| stage.stage == StageName::Train).unwrap();
    let said = format!("taken over from night {}", first.night);
    assert!(train.reused && train.figures.contains(&said), "{}", train.figures);
    // Its report needs no file of the other night.
    fs::remove_dir_all(&first.paths.night).unwrap();
    assert!(summary.paths.night.join("train/metrics.jsonl").is_file());
}

#[test]
fn with_the_next_seed_each_night_is_another_one() {
    let tiny = Tiny::with("when_unchanged: next_seed\n");
    let seeds: Vec<u64> = (0..3)
        .map(|_| {
            let Done { summary, begun, .. } = run(&tiny);
            assert!(begun.contains(&StageName::Train));
            let settings = fs::read(summary.paths.adapter.join("adapter_config.json")).unwrap();
            let settings: serde_json::Value = serde_json::from_slice(&settings).unwrap();
            settings["seed"].as_u64().unwrap()
        })
        .collect();
    assert_eq!(seeds, [1, 2, 3]);
}

#[test]
fn a_partial_training_goes_on_in_the_next_night() {
    let (tiny, clock) = (Tiny::new(), clock());
    let first = run_watched(&clock, &tiny, &mut |event| {
        if matches!(event, Event::Progress { stage: StageName::Train, done: 5, .. }) {
            clock.advance(6 * HOUR);
        }
    });
    assert!(first.summary.partial && first.updates == [1, 2, 3, 4, 5], "{:?}", first.updates);
    let second = run_watched(&clock, &tiny, &mut |_| ());
    assert_eq!(second.updates, [6, 7, 8, 9, 10, 11, 12]);
    assert!(!second.summary.partial && second.summary.training.updates == 12);
    // The same as in one go.
    let whole = Tiny::new();
    let whole = run(&whole).summary;
    assert_eq!(second.summary.paths.adapter.file_name(), whole.paths.adapter.file_name());
    // What the first night has written is as it was.
    let metrics = fs::read_to_string(first.summary.paths.night.join("train/metrics.jsonl"));
    assert!(!metrics.unwrap().contains("\"step\":6"));
}

/// Memory that another program takes is gone when training starts again.
#[test]
fn after_running_out_of_memory_training_goes_on_from_its_checkpoint() {
    let tiny = Tiny::new();
    tiny.edit("night.yaml", "gate:", "budgets: { memory: 1GB }\ngate:");
    let mut held = vec![];
    let mut tries = 0;
    let done = run_watched(&Clock::default(), &tiny, &mut |event| match event {
        Event::StageBegun { stage: StageName::Train } => {
            tries += 1;
            held = vec![];
        }
        Event::Progress { stage: StageName::Train, done: 4, .. } if tries == 1 => {
            held = vec![1_u8; 1_200_000_000];
        }
        _ => {}
    });
    assert_eq!((tries, held.len()), (2, 0));
    // The update after the memory was taken is the last of the first try.
    assert_eq!(done.updates, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    assert_eq!(done.summary.outcome, Outcome::Promoted, "{}", done.summary.verdict);
    assert!(tiny.path("home/memory.json").exists(), "the limit is remembered");
}

#[test]
fn the_adapter_of_a_night_is_stored_once() {
    use std::os::unix::fs::MetadataExt;

    let tiny = Tiny::new();
    let paths = run(&tiny).summary.paths;
    let inode =
        |path: &std::path::Path| fs::metadata(path.join("adapters.safetensors")).unwrap().ino();
    assert_eq!(inode(&paths.adapter), inode(&paths.night.join("train")));
}

/// A first model that cannot be opened, and a second one.
#[test]
fn after_three_failed_nights_the_fallback_model_is_used_and_the_night_says_so() {
    let tiny = Tiny::new();
    let models = "
model: broken
fallback_model: tiny
models:
  broken: { model: nowhere, data: { raw: raw.jsonl }, train: lora.yaml }
  tiny: { model: model, data: { raw: raw.jsonl }, train: lora.yaml }
";
    tiny.edit("night.yaml", "\nmodel: model\ndata: { raw: raw.jsonl }\n", models);
    tiny.edit("night.yaml", "train: lora.yaml\nexam", "exam");
    let file = NightFile::load(tiny.path("night.yaml")).unwrap();
    let tonight = || file.choose_tonight(&ModelChoice::Default, None).unwrap();
    let start = || Night::start_or_resume(tonight()).unwrap().run(&mut |_: Event<'_>| ());
    let error = start().unwrap_err().to_string();
    assert!(error.contains("nowhere"), "{error}");
    // Two earlier days on which the same happened.
    let night = fs::read_dir(tiny.path("home/nights")).unwrap().next().unwrap().unwrap().path();
    let journal = night.join("journal.jsonl");
    let text = fs::read_to_string(&journal).unwrap();
    let failure = text.lines().find(|line| line.contains("start_failed")).unwrap();
    let (head, tail) = failure.split_once("\"at\":\"").unwrap();
    let (_, tail) = tail.split_once('"').unwrap();
    for (day, name) in [("2026-01-02", "nowhere"), ("2026-01-03", "model")] {
        let before = tonight().setup.model;
        assert!(format!("{before:?}").contains("nowhere"), "{before:?}");
        let line = format!("{head}\"at\":\"{day}T01:00:00Z\"{tail}\n");
        fs::write(&journal, fs::read_to_string(&journal).unwrap() + &line).unwrap();
        let after = tonight().setup.model;
        assert!(format!("{after:?}").contains(name), "{after:?}");
    }
    let summary = start().unwrap();
    assert_eq!(summary.outcome, Outcome::Promoted);
    let said = "3 nights in a row failed with broken: this one uses tiny (fallback_model)";
    assert!(summary.line().contains(said), "{}", summary.line());
    // By name the other one, whatever happened before; and after a verdict the first one again.
    let named = ModelChoice::Named { name: "broken".into(), by: ModelChoice::VARIABLE };
    assert_eq!(file.choose_tonight(&named, None).unwrap().note, None);
    assert_eq!(tonight().note, None);

    tiny.edit("night.yaml", "fallback_model: tiny", "fallback_model: gemini");
    let error = NightFile::load(tiny.path("night.yaml")).unwrap_err().to_string();
    assert!(
        error.contains("expected a name in `models` (broken, tiny), found \"gemini\""),
        "{error}"
    );
}
