//! The preference phase of a tiny model's night.

#[path = "support/kill.rs"]
mod kill;
#[path = "support/run.rs"]
mod run;
mod support;

use std::collections::HashSet;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use kill::{kill_at, name};
use lora_train::TrainConfig;
use pipeline::summary::PreferencePhase;
use pipeline::{Event, Home, Night, NightConfig, Outcome, Registry, StageName, Summary};
use run::{HOUR, clock, run, run_by};
use serde_json::Value;
use support::Tiny;

const PREFER: &str = "
train_mode: dpo
loss_type: [sigmoid, sft]
batch_size: 4
iters: 8
learning_rate: 1.0e-3
save_every: 3
seed: 1
nightshift: { lanes: 1 }
";

/// A dozen questions about identity, each with a pair: who one is, and not somebody else.
fn tiny() -> Tiny {
    let tiny = Tiny::with("preference: prefer.yaml\n");
    let question =
        |i| format!("- {{ id: so{i}, asks: ['What now, number {i}?'], answers: [tttt] }}\n");
    tiny.write("identity.yaml", &(0..12).map(question).collect::<String>());
    tiny.write("prefer.yaml", PREFER);
    tiny
}

fn start(tiny: &Tiny, watch: &mut dyn FnMut(Event<'_>)) -> pipeline::Result<Summary> {
    let config = NightConfig::load(tiny.path("night.yaml"))?;
    Night::start_or_resume(config)?.run(&mut |event: Event<'_>| watch(event))
}

fn champion(tiny: &Tiny) -> Option<durable::Digest> {
    let registry = Registry::new(&Home::open(tiny.path("home")).unwrap())
        .find(tiny.path("model").to_str())
        .unwrap();
    registry.state().unwrap().champion
}

fn lines(night: &Summary, file: &str) -> Vec<Value> {
    let text = fs::read_to_string(night.paths.night.join(file)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn phase(night: &Summary) -> &PreferencePhase {
    night.preference.as_ref().unwrap()
}

#[test]
fn the_adapter_of_the_phase_is_examined_and_promoted() {
    let tiny = tiny();
    let night = run(&tiny);
    assert_eq!(night.outcome, Outcome::Promoted, "{}", night.verdict);
    let pairs = lines(&night, "enrich/pairs.jsonl").len() as u64;
    assert!(pairs > 4, "{pairs} pairs");
    let PreferencePhase {
        lines: said,
        warning,
        updates,
        planned_updates,
        pairs: counts,
        change,
        ..
    } = phase(&night);
    assert_eq!((counts.read, counts.trained(), *updates, *planned_updates), (pairs, pairs, 8, 8));
    assert!(warning.is_none(), "{warning:?}");
    let change = change.unwrap();
    assert!(
        change.last.accuracy >= change.first.accuracy && change.last.margin > 0.0,
        "{change:?}"
    );
    assert!(said[0].contains("8 of 8 updates") && said[1].contains("accuracy"), "{said:?}");

    // The promoted weights are those of the phase, which begins with the supervised ones.
    let weights = |folder: &str| {
        fs::read(night.paths.night.join(folder).join("adapters.safetensors")).unwrap()
    };
    let promoted = fs::read(night.paths.adapter.join("adapters.safetensors")).unwrap();
    assert!(promoted == weights("prefer") && promoted != weights("train"));
    let metrics = lines(&night, "prefer/metrics.jsonl");
    let reference = metrics.iter().find(|record| record["kind"] == "reference").unwrap();
    assert_eq!(reference["adapter"], true);
    let first = &metrics.iter().find(|record| record["step"] == 1).unwrap()["preference"];
    assert!(first["chosen_change"].as_f64().unwrap().abs() < 1e-3, "{first}");
    for key in ["accuracy", "margin", "chosen_logp", "rejected_logp"] {
        assert!(first[key].is_f64(), "{key}: {first}");
    }
    let page = fs::read_to_string(&night.paths.report).unwrap();
    assert!(page.contains("Preference training") && page.contains("log-probability of the chosen"));
    let settings = fs::read_to_string(night.paths.adapter.join("adapter_config.json")).unwrap();
    assert!(!settings.contains(tiny.path("").to_str().unwrap()), "{settings}");
    assert!(!night.paths.night.join("prefer/checkpoints").exists());
    assert!(night.rows.adds_up());
}

#[test]
fn without_the_key_there_is_no_phase() {
    let with = tiny();
    let tiny = tiny();
    tiny.edit("night.yaml", "preference: prefer.yaml\n", "");
    let night = run(&tiny);
    assert!(night.preference.is_none() && !night.paths.night.join("prefer").exists());
    assert!(night.stages.iter().all(|stage| stage.stage != StageName::Prefer));
    assert!(!fs::read_to_string(&night.paths.report).unwrap().contains("Preference"));
    // The supervised training is the same with and without it.
    let supervised =
        |night: &Summary| fs::read(night.paths.night.join("train/adapters.safetensors"));
    assert_eq!(supervised(&night).unwrap(), supervised(&run(&with)).unwrap());
}

#[test]
fn killed_at_any_event_of_the_phase_a_night_ends_with_the_same_bytes() {
    let whole = tiny();
    let mut events = vec![];
    start(&whole, &mut |event| events.push(name(event))).unwrap();
    let expected = champion(&whole);
    assert!(expected.is_some());
    let mut seen = HashSet::new();
    let moments: Vec<usize> = (0..events.len())
        .filter(|&i| events[i].starts_with("prefer") || events[i] == "exam begun")
        .filter(|&i| seen.insert(events[i].clone()))
        .collect();
    assert!(moments.len() >= 11, "{events:#?}");
    for moment in moments {
        let what = &events[moment];
        let tiny = tiny();
        let status = kill_at(&tiny, moment);
        assert_eq!(status.signal(), Some(9), "{what}: {status:?}");
        let mut later = vec![];
        start(&tiny, &mut |event| later.push(name(event))).unwrap();
        assert_eq!(champion(&tiny), expected, "{what}");
        assert!(later.contains(&"train skipped".to_owned()), "{what}");
        let again = later.contains(&"prefer begun".to_owned());
        assert_eq!(again, *what != "exam begun" && *what != "prefer finished", "{what}: {later:?}");
    }
}

#[test]
fn child_of_the_kill_test() {
    kill::child();
}

#[test]
fn pairs_that_cannot_be_trained_are_set_aside_and_counted() {
    let tiny = tiny();
    // A template that refuses one question of the pairs' rows, in which the row is only a prompt.
    let raise = "{% if add_generation_prompt and 'number 3' in messages[-1].content %}\
                 {{ raise_exception('not this one') }}{% endif %}";
    tiny.edit(
        "model/tokenizer_config.json",
        "{% for m in messages %}",
        &format!("{raise}{{% for m in messages %}}"),
    );
    let all = run(&tiny);
    let refused = phase(&all).pairs.refused;
    assert!(refused > 0, "{:?}", phase(&all));
    let listed = lines(&all, "prefer/left-out.jsonl");
    assert_eq!(listed.len() as u64, refused);
    let pair = listed[0]["pair"].as_str().unwrap();
    let line: usize = pair.strip_prefix("pairs.jsonl:").unwrap().parse().unwrap();
    let row = &lines(&all, "enrich/pairs.jsonl")[line - 1];
    assert!(row["messages"][1]["content"].as_str().unwrap().contains("number 3"), "{row}");
    assert!(listed[0]["because"].as_str().unwrap().contains("not this one"), "{listed:?}");
    assert!(phase(&all).lines[0].contains(&format!("{refused} refused by the template")));

    // Too long, all of them: the supervised adapter goes on, and the night says so.
    tiny.edit("prefer.yaml", "iters: 8", "iters: 8\nmax_seq_length: 20");
    let none = run(&tiny);
    let counts = phase(&none).pairs;
    assert_eq!((counts.trained(), counts.over_length), (0, counts.read - refused));
    let said = &phase(&none).lines[0];
    assert!(said.contains("the supervised adapter goes on: there is no pair to train"), "{said}");
    assert!(fs::read_to_string(&none.paths.report).unwrap().contains(said));
    let examined = fs::read(none.paths.adapter.join("adapters.safetensors")).unwrap();
    assert_eq!(examined, fs::read(none.paths.night.join("train/adapters.safetensors")).unwrap());
}

#[test]
fn rows_without_pairs_leave_the_adapter_as_it_is() {
    let tiny = tiny();
    tiny.edit("night.yaml", "enrich: enrich.yaml", "enrich: none");
    let night = run(&tiny);
    assert_eq!((phase(&night).pairs.read, phase(&night).updates), (0, 0));
    assert!(phase(&night).lines[0].contains("there is no pair to train"), "{:?}", phase(&night));
}

#[test]
fn another_loss_may_compare_with_the_base_model() {
    let tiny = tiny();
    tiny.edit("prefer.yaml", "dpo\nloss_type: [sigmoid, sft]", "kto");
    tiny.edit("prefer.yaml", "lanes: 1", "lanes: 1, reference: base");
    let night = run(&tiny);
    assert_eq!(phase(&night).updates, 8);
    let metrics = lines(&night, "prefer/metrics.jsonl");
    let reference = metrics.iter().find(|record| record["kind"] == "reference").unwrap();
    assert_eq!(reference["adapter"], false);
    // The supervised adapter is where training starts, and far from the base model.
    let first = &metrics.iter().find(|record| record["step"] == 1).unwrap()["preference"];
    assert!(first["chosen_change"].as_f64().unwrap().abs() > 0.1, "{first}");
}

#[test]
fn when_time_is_up_the_phase_ends_and_the_exam_runs() {
    for (stage, at, done) in [(StageName::Prefer, 5, 5), (StageName::Train, 12, 0)] {
        let (tiny, clock) = (tiny(), clock());
        let night = run_by(&clock, &tiny, &mut |event| {
            if matches!(event, Event::Progress { stage: now, done, .. } if now == stage && done == at) {
                clock.advance(6 * HOUR);
            }
        })
        .unwrap();
        assert!(night.partial && night.scores.candidate.overall.answers > 0);
        assert_eq!(phase(&night).updates, done, "{:?}", phase(&night));
        let page = fs::read_to_string(&night.paths.report).unwrap();
        assert!(page.contains(&format!("{done} of 8 preference updates")), "{stage}");
    }
}

#[test]
fn the_distance_from_the_base_can_end_the_phase() {
    let replay = "replay: { share: 0.25, persona: mixed, sampling: { temperature: 1.0, max_tokens: 120 } }\n";
    for (limit, updates) in [("1.0e-9", 0), ("1000", 8)] {
        let tiny = tiny();
        let night = fs::read_to_string(tiny.path("night.yaml")).unwrap();
        tiny.write("night.yaml", &format!("{night}{replay}"));
        let retention = format!(
            "{{ lanes: 1, eval_best: true, early_stop: {{ patience: 1 }}, retention: {{ max_kl: {limit} }} }}"
        );
        tiny.edit("prefer.yaml", "{ lanes: 1 }", &format!("{retention}\nsteps_per_eval: 2"));
        let night = run(&tiny);
        assert_eq!(phase(&night).updates, updates, "{:?}", phase(&night));
        let metrics = lines(&night, "prefer/metrics.jsonl");
        let measured = metrics.iter().filter(|record| record["kind"] == "retention");
        assert!(measured.clone().all(|record| record["kl"]["mean"].as_f64().unwrap() > 0.0));
        assert_eq!(measured.count(), if updates == 0 { 1 } else { 5 });
        if updates == 0 {
            assert!(phase(&night).lines[0].contains("moved further from the base"));
        }
    }
}

#[test]
fn a_preference_loss_belongs_into_its_own_file() {
    let check = |tiny: &Tiny| {
        let config = NightConfig::load(tiny.path("night.yaml")).unwrap();
        config.check().unwrap_err().to_string()
    };
    let one = tiny();
    one.edit("lora.yaml", "seed: 1", "seed: 1\ntrain_mode: dpo");
    let error = check(&one);
    assert!(error.contains("lora.yaml:11: `train_mode`: expected sft"), "{error}");
    assert!(error.contains("the key `preference` of the night's file"), "{error}");
    let other = tiny();
    other.edit("prefer.yaml", "train_mode: dpo\nloss_type: [sigmoid, sft]", "");
    let error = check(&other);
    assert!(error.contains("prefer.yaml: `train_mode`: expected a preference loss"), "{error}");
    fs::remove_file(other.path("prefer.yaml")).unwrap();
    assert!(check(&other).contains("prefer.yaml"));
}

/// The nights of `fixtures/recipes` differ from the demo's in what they are named for, and in nothing that their table
/// compares.
#[test]
fn the_shipped_recipes_differ_in_what_they_are_named_for() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    let demo = NightConfig::load(folder.join("demo/night.yaml")).unwrap();
    for (name, replay, kl, pairs) in [
        ("imitation", false, false, false),
        ("replay", true, false, false),
        ("kl", true, true, false),
        ("pairs", true, true, true),
    ] {
        let night = NightConfig::load(folder.join(format!("recipes/{name}.yaml"))).unwrap();
        assert_eq!(night.replay, demo.replay.clone().filter(|_| replay), "{name}");
        let recipe = TrainConfig::load(&night.setup.train).unwrap();
        assert_eq!(recipe.nightshift.kl.is_some(), kl, "{name}");
        let phase = night.setup.preference.map(|path| TrainConfig::load(path).unwrap());
        assert_eq!(phase.and_then(|phase| phase.objective()).is_some(), pairs, "{name}");
    }
    let settings = |path: &str| {
        let text = fs::read_to_string(folder.join(path)).unwrap();
        let own = |line: &&str| !line.starts_with('#') && !line.starts_with("nightshift:");
        text.lines().filter(own).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(settings("recipes/lora-kl.yaml"), settings("demo/lora.yaml"));
}
