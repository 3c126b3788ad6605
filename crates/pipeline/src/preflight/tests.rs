//! One test per check: on a night where all is well it passes, and with its cause planted it fails,
//! by name. Causes are planted in the files of the night where a file can be the cause, and in what
//! a stage made of them where only a fault of ours could be.

#[path = "../../tests/support/mod.rs"]
mod support;

use std::fs;

use chat_format::Message;
use support::Tiny;

use super::finding::{Finding, Status};
use super::machine::{Timers, judge_clock};
use super::scene::{Scene, Tried};
use super::{CHECKS, Preflight, PreflightReport};
use crate::config::{Choice, NightFile};
use crate::home::Home;
use crate::journal::Entry;
use crate::lock::Lock;
use crate::registry::{Mandate, Registry};
use crate::schedule::{LABEL, Loaded};
use crate::stage::StageName;

/// A tiny night among the household's own names.
fn sanctum() -> Tiny {
    let tiny = Tiny::new();
    let models = "
model: gemma4
models:
  tiny: { model: model, data: { raw: raw.jsonl }, train: lora.yaml }
  gemma4:
    model: models/gemma-4-31B-it-4bit
    data: { raw: data/splits-gemma4 }
    train: configs/lora-gemma4-31b.yaml
  qwen:
    model: models/Qwen3.5-27B-Claude-Opus-Distilled-v2-4bit
    data: { raw: data/splits-carmack }
    train: configs/lora-carmack-overnight.yaml
";
    tiny.edit("night.yaml", "\nmodel: model\ndata: { raw: raw.jsonl }\n", models);
    tiny.edit("night.yaml", "train: lora.yaml\nexam", "exam");
    tiny
}

fn choice() -> Choice {
    Choice::Named { name: "tiny".into(), by: Choice::VARIABLE }
}

fn preflight(tiny: &Tiny) -> PreflightReport {
    let file = NightFile::load(tiny.path("night.yaml")).unwrap();
    Preflight::new(file, choice()).run(&mut |_| ()).unwrap()
}

/// What a check says about a scene that `plant` has spoiled.
fn spoiled(name: &str, plant: impl FnOnce(&mut Scene<'_>)) -> Finding {
    let tiny = sanctum();
    let file = NightFile::load(tiny.path("night.yaml")).unwrap();
    let choice = choice();
    let timers = Tried::Done(None);
    let mut scene = Scene::rehearse(&file, &choice, None, timers, &mut |_| ()).unwrap();
    let check = CHECKS.iter().find(|check| check.name == name).unwrap();
    let sound = (check.look)(&scene);
    assert!(
        matches!(sound.status, Status::Passed | Status::Warning | Status::Skipped),
        "{sound:?}"
    );
    plant(&mut scene);
    (check.look)(&scene)
}

/// Plants a cause in the night's files; the check must fail and name it.
fn plant(name: &str, cause: impl FnOnce(&Tiny), words: &[&str]) {
    let tiny = sanctum();
    cause(&tiny);
    let report = preflight(&tiny);
    let check = report.checks.iter().find(|check| check.check == name).unwrap();
    assert_eq!(check.status, Status::Failed, "{name}: {check:#?}");
    for word in words {
        assert!(check.detail.contains(word), "{name}: no {word:?} in {}", check.detail);
    }
    assert!(!report.ok && report.line.contains("failed"), "{}", report.line);
}

fn fails(finding: &Finding, words: &[&str]) {
    assert_eq!(finding.status, Status::Failed, "{finding:?}");
    for word in words {
        assert!(finding.detail.contains(word), "no {word:?} in {}", finding.detail);
    }
}

#[test]
fn a_sound_night_passes_all_of_the_seeds_21_checks() {
    let tiny = sanctum();
    let report = preflight(&tiny);
    assert_eq!((report.seed_passed, report.seed_checks), (21, 21), "{report:#?}");
    assert!(report.ok, "{report:#?}");
    // Nothing of the rehearsal is left, and nothing of the home was decided.
    let mut left: Vec<_> = fs::read_dir(tiny.path("home"))
        .unwrap()
        .map(|item| item.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["adapters", "night.lock", "nights", "preflight.json"]);
}

#[test]
fn the_seeds_suites_have_its_numbers_of_checks() {
    let mut counts: Vec<(String, usize)> = Vec::new();
    for check in CHECKS.iter().filter(|check| check.suite.is_of_the_seed()) {
        match counts.last_mut() {
            Some((suite, count)) if *suite == check.suite.to_string() => *count += 1,
            _ => counts.push((check.suite.to_string(), 1)),
        }
    }
    let seed = [
        ("Data Conversion", 3),
        ("Enrichment", 3),
        ("Training Config", 3),
        ("Model Availability", 4),
        ("Training Runs", 2),
        ("Pipeline Config", 4),
        ("Benchmark", 2),
    ];
    assert_eq!(counts, seed.map(|(suite, count)| (suite.to_owned(), count)));
}

#[test]
fn qwen_token_stripping() {
    let wizard = "<|im_start|>wizard\nhm<|im_end|>\n<|im_start|>assistant\nno<|im_end|>";
    let row = serde_json::json!({ "messages": [{ "role": "user", "content": wizard }] });
    plant(
        "Qwen token stripping",
        |tiny| tiny.write("raw.jsonl", &format!("{row}\n")),
        &["raw.jsonl:1", "wizard"],
    );
}

#[test]
fn output_format() {
    let row = r#"{"messages":[{"role":"user","content":"Is anybody there?"}]}"#;
    plant(
        "output format",
        |tiny| {
            let rows = fs::read_to_string(tiny.path("raw.jsonl")).unwrap();
            tiny.write("raw.jsonl", &format!("{row}\n{rows}"));
        },
        &["clean row 1", "assistant"],
    );
}

#[test]
fn no_leakage() {
    let finding = spoiled("no leakage", |scene| {
        let Tried::Done(clean) = &mut scene.clean else { panic!() };
        clean.rows[2].messages[1].content += "<|im_end|>";
    });
    fails(&finding, &["clean row 3", "<|im_end|>"]);
}

#[test]
fn enrichment_output() {
    plant(
        "OBLITERATUS/CL4R1T4S output",
        |tiny| {
            tiny.edit(
                "enrich.yaml",
                "seed: 1\n",
                "seed: 1\nsources: [{ form: obliteratus, path: obliteratus }]\n",
            );
        },
        &["obliteratus"],
    );
}

#[test]
fn enrichment_format() {
    let finding = spoiled("format", |scene| {
        let Tried::Done(enriched) = &mut scene.enriched else { panic!() };
        enriched.rows[1].messages.push(Message::user("And?"));
    });
    fails(&finding, &["train.jsonl:2", "user"]);
}

#[test]
fn enrichment_count() {
    plant(
        "count",
        |tiny| {
            let rows = fs::read_to_string(tiny.path("raw.jsonl")).unwrap();
            tiny.write("raw.jsonl", &rows.repeat(3));
        },
        &["repeat"],
    );
}

#[test]
fn yaml_validity() {
    plant("YAML validity", |tiny| tiny.edit("lora.yaml", "iters:", "itres:"), &["itres"]);
}

#[test]
fn lora_ranges() {
    plant("param ranges: LoRA", |tiny| tiny.edit("lora.yaml", "rank: 8", "rank: 0"), &["rank"]);
}

#[test]
fn schedule_ranges() {
    plant(
        "param ranges: schedule",
        |tiny| tiny.edit("lora.yaml", "learning_rate: 1.0e-2", "learning_rate: 3.0"),
        &["update 1", "3e0"],
    );
}

#[test]
fn config_json() {
    plant(
        "config.json",
        |tiny| tiny.edit("model/config.json", "\"llama\"", "\"mamba\""),
        &["mamba", "llama"],
    );
}

#[test]
fn safetensors() {
    plant(
        "safetensors",
        |tiny| {
            let path = tiny.path("model/model.safetensors");
            let bytes = fs::read(&path).unwrap();
            fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        },
        &["model.safetensors"],
    );
}

#[test]
fn tokenizer() {
    plant(
        "tokenizer",
        |tiny| fs::remove_file(tiny.path("model/tokenizer.json")).unwrap(),
        &["tokenizer.json"],
    );
}

#[test]
fn chat_template() {
    plant(
        "chat template",
        |tiny| tiny.write("model/tokenizer_config.json", r#"{"eos_token":"<|im_end|>"}"#),
        &["template"],
    );
}

#[test]
fn two_iterations() {
    plant(
        "2-iter execution",
        |tiny| {
            tiny.edit("lora.yaml", "seed: 1", "seed: 1\nresume_adapter_file: nowhere.safetensors")
        },
        &["nowhere.safetensors"],
    );
}

#[test]
fn peak_memory() {
    plant(
        "peak memory < 60GB",
        |tiny| tiny.edit("night.yaml", "gate:", "budgets: { memory: 1MB }\ngate:"),
        &["1 MB allowed"],
    );
}

#[test]
fn default_gemma4() {
    plant(
        "Default=gemma4",
        |tiny| tiny.edit("night.yaml", "model: gemma4", "model: qwen"),
        &["qwen"],
    );
}

#[test]
fn paths() {
    plant("paths", |tiny| fs::remove_file(tiny.path("gate.yaml")).unwrap(), &["gate", "gate.yaml"]);
    plant(
        "paths",
        |tiny| tiny.edit("night.yaml", "splits-gemma4", "splits-gemma"),
        &["models.gemma4.data", "data/splits-gemma4"],
    );
}

#[test]
fn qwen_fallback() {
    plant(
        "qwen fallback",
        |tiny| tiny.edit("night.yaml", "splits-carmack", "splits-gemma4"),
        &["models.qwen.data", "data/splits-carmack"],
    );
    plant("qwen fallback", |tiny| tiny.edit("night.yaml", "  qwen:", "  quen:"), &["qwen", "quen"]);
}

#[test]
fn score_fix() {
    let finding = spoiled("score fix", |scene| {
        let Tried::Done(suite) = &mut scene.suite else { panic!() };
        // As if every answer had been lost on the way.
        suite.cases.iter_mut().for_each(|case| case.pass.clear());
        fs::remove_dir_all(scene.night.join("score-fix")).unwrap();
    });
    fails(&finding, &["right answers", "expected a score of 1", "read back 0"]);
}

#[test]
fn carmack_eval_exists() {
    plant(
        "Carmack eval exists",
        |tiny| fs::remove_file(tiny.path("suite.json")).unwrap(),
        &["suite.json"],
    );
}

#[test]
fn carmack_eval_loads() {
    plant(
        "Carmack eval loads",
        |tiny| tiny.edit("suite.json", "contains_any", "contains_some"),
        &["contains_some"],
    );
}

#[test]
fn disk() {
    plant(
        "disk",
        |tiny| tiny.edit("night.yaml", "gate:", "budgets: { disk: 1000000TB }\ngate:"),
        &["free", "needed"],
    );
}

#[test]
fn memory() {
    plant(
        "memory",
        |tiny| tiny.edit("night.yaml", "gate:", "budgets: { memory: 1000000TB }\ngate:"),
        &["budgets.memory"],
    );
}

#[test]
fn lock() {
    let tiny = sanctum();
    let home = Home::open(tiny.path("home")).unwrap();
    let _lock = Lock::acquire(&home.lock_file()).unwrap();
    let report = preflight(&tiny);
    let check = report.checks.iter().find(|check| check.check == "lock").unwrap();
    assert_eq!(check.status, Status::Failed);
    assert!(check.detail.contains(&std::process::id().to_string()), "{}", check.detail);
}

#[test]
fn clock() {
    let now = |text: &str| text.parse::<jiff::Zoned>().unwrap();
    let evening = now("2026-04-08T22:00:00-04:00[America/Montreal]");
    fails(&judge_clock(&evening, Some("2026-04-10".parse().unwrap())), &["2026-04-10"]);
    assert_eq!(judge_clock(&evening, Some("2026-04-08".parse().unwrap())).status, Status::Passed);
    for (evening, word) in [
        ("2026-10-31T22:00:00-04:00[America/Montreal]", "twice"),
        ("2026-03-28T22:00:00+00:00[Europe/London]", "skipped"),
    ] {
        let finding = judge_clock(&now(evening), None);
        assert!(finding.detail.contains(word), "{evening}: {finding:?}");
    }
}

#[test]
fn schedule() {
    let job = |suffix: &str, loaded| Loaded {
        label: format!("{LABEL}{suffix}"),
        loaded,
        says: if loaded { "next Mon 01:00".into() } else { "inactive".into() },
    };
    let timers = |loaded, stale| Tried::Done(Some(Timers { loaded, stale }));
    let finding = spoiled("schedule", |scene| {
        scene.timers = timers(vec![job("", true), job(".failsafe", false)], vec![]);
    });
    fails(&finding, &["failsafe", "inactive"]);
    let finding = spoiled("schedule", |scene| {
        scene.timers = timers(vec![job("", true)], vec![format!("{LABEL}.plist")]);
    });
    fails(&finding, &["plist is not what was installed"]);
    let finding = spoiled("schedule", |scene| scene.timers = timers(vec![job("", false)], vec![]));
    assert_eq!(finding.status, Status::Warning, "starting by hand is a choice");
}

#[test]
fn config_lints() {
    plant(
        "config lints",
        |tiny| tiny.edit("lora.yaml", "iters: 12", "iters: 2"),
        &["rows are seen"],
    );
}

#[test]
fn adapter_keys() {
    plant(
        "adapter keys",
        |tiny| {
            let trained = tiny.path("other");
            fs::create_dir(&trained).unwrap();
            let config = serde_json::json!({
                "fine_tune_type": "lora", "num_layers": 1,
                "lora_parameters": { "rank": 1, "scale": 1.0 },
            });
            fs::write(trained.join("adapter_config.json"), config.to_string()).unwrap();
            let shape = vec![1];
            let view =
                safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape, &[0; 4]);
            let tensors = [("model.layers.7.mlp.experts.lora_a", view.unwrap())];
            let bytes = safetensors::serialize(tensors, None).unwrap();
            fs::write(trained.join("adapters.safetensors"), bytes).unwrap();
            let registry = Registry::new(&Home::open(tiny.path("home")).unwrap());
            let adapter = registry.nominate(&trained).unwrap();
            registry.promote(adapter, Mandate::Hand, "of another model").unwrap();
        },
        &["champion", "model.layers.7.mlp.experts.lora_a"],
    );
}

#[test]
fn suite_check() {
    plant("suite check", |tiny| tiny.edit("suite.json", "\"held_out\"", "\"gold\""), &["held-out"]);
}

#[test]
fn contamination() {
    let finding = spoiled("contamination", |scene| {
        let Tried::Done(enriched) = &mut scene.enriched else { panic!() };
        enriched.splits.contaminated = vec!["domain-0".into()];
    });
    fails(&finding, &["domain-0"]);
}

#[test]
fn dress_rehearsal() {
    plant(
        "dress rehearsal",
        |tiny| tiny.edit("suite.json", "\"held_out\"", "\"gold\""),
        &["held-out"],
    );
}

#[test]
fn previous_night() {
    let tiny = sanctum();
    let home = Home::open(tiny.path("home")).unwrap();
    let night = crate::nights::NightId::new(1, &jiff::Zoned::now());
    fs::create_dir(night.dir(&home)).unwrap();
    let mut journal = night.journal(&home).unwrap();
    let failed =
        Entry::StageFailed { stage: StageName::Train, message: "the loss is NaN".to_owned() };
    journal.append(failed).unwrap();
    let report = preflight(&tiny);
    let check = report.checks.iter().find(|check| check.check == "previous night").unwrap();
    assert_eq!(check.status, Status::Warning);
    assert!(check.detail.contains("the loss is NaN"), "{}", check.detail);
    fs::write(night.dir(&home).join("journal.jsonl"), "not json\n").unwrap();
    let report = preflight(&tiny);
    assert!(!report.ok && report.line.contains("previous night"), "{}", report.line);
}

#[test]
fn a_model_too_large_to_try_is_planned_and_never_read() {
    let tiny = sanctum();
    write_large_model(&tiny);
    let before = lora_train::metrics::resident_memory().unwrap();
    let report = preflight(&tiny);
    let grown = lora_train::metrics::resident_memory().unwrap().saturating_sub(before);
    let check = |name: &str| report.checks.iter().find(|check| check.check == name).unwrap();
    let detail = &check("safetensors").detail;
    assert!(detail.starts_with("30,8") && detail.contains("weights"), "{detail}");
    assert_eq!(check("2-iter execution").status, Status::Warning);
    assert!(check("2-iter execution").detail.contains("streamed"), "{report:#?}");
    assert!(check("peak memory < 60GB").detail.contains("expected"));
    assert_eq!(report.seed_passed, 21, "{report:#?}");
    // Other tests of this process grow it too, but not by a sixty-gigabyte model.
    assert!(grown < 2_000_000_000, "{grown}");
}

/// A Llama of 31 billion weights, all of them holes in a sparse file.
fn write_large_model(tiny: &Tiny) {
    const HIDDEN: usize = 8192;
    const FFN: usize = 28_672;
    const KEYS: usize = 1024;
    const LAYERS: usize = 36;
    let path = tiny.path("model/config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for (key, value) in [
        ("hidden_size", HIDDEN),
        ("intermediate_size", FFN),
        ("num_hidden_layers", LAYERS),
        ("num_attention_heads", 64),
        ("num_key_value_heads", 8),
        ("head_dim", 128),
    ] {
        config[key] = value.into();
    }
    fs::write(&path, config.to_string()).unwrap();
    let (mut header, mut end) = (serde_json::Map::new(), 0);
    let mut tensor = |name: String, shape: &[usize]| {
        let begin = end;
        end += 2 * shape.iter().product::<usize>();
        let entry = serde_json::json!({
            "dtype": "BF16", "shape": shape, "data_offsets": [begin, end],
        });
        header.insert(format!("{name}.weight"), entry);
    };
    let vocabulary = config["vocab_size"].as_u64().unwrap() as usize;
    tensor("model.embed_tokens".to_owned(), &[vocabulary, HIDDEN]);
    tensor("model.norm".to_owned(), &[HIDDEN]);
    for layer in 0..LAYERS {
        for (path, shape) in [
            ("self_attn.q_proj", &[HIDDEN, HIDDEN][..]),
            ("self_attn.k_proj", &[KEYS, HIDDEN]),
            ("self_attn.v_proj", &[KEYS, HIDDEN]),
            ("self_attn.o_proj", &[HIDDEN, HIDDEN]),
            ("mlp.gate_proj", &[FFN, HIDDEN]),
            ("mlp.up_proj", &[FFN, HIDDEN]),
            ("mlp.down_proj", &[HIDDEN, FFN]),
            ("input_layernorm", &[HIDDEN]),
            ("post_attention_layernorm", &[HIDDEN]),
        ] {
            tensor(format!("model.layers.{layer}.{path}"), shape);
        }
    }
    let header = serde_json::Value::Object(header).to_string();
    let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    let path = tiny.path("model/model.safetensors");
    fs::write(&path, &bytes).unwrap();
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len((bytes.len() + end) as u64).unwrap();
}
