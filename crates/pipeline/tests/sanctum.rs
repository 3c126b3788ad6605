//! The seed's night: its folder, its names, its two models, and `fixtures/sanctum.yaml` as it is shipped.

#[path = "support/run.rs"]
mod run;
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use enrich::household::{Phrasings, write_raw};
use enrich::{GeneratorData, Household};
use lora_train::TrainConfig;
use lora_train::lint::{Facts, Severity, lint};
use pipeline::config::{ModelChoice, ModelSource, NightFile};
use pipeline::registry::{Registry, Requester};
use pipeline::{Event, Home, Night};
use serde_json::{Value, json};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

#[test]
fn gemma_is_the_default_and_qwen_the_fallback() {
    let folder = fixtures();
    let file = NightFile::load(folder.join("sanctum.yaml")).unwrap();
    assert_eq!(file.names().collect::<Vec<_>>(), ["demo", "gemma4", "qwen"]);
    let named =
        |name: &str| ModelChoice::Named { name: name.to_owned(), by: ModelChoice::VARIABLE };
    for (choice, model, train, data) in [
        (
            ModelChoice::Default,
            "models/gemma-4-31B-it-4bit",
            "configs/lora-gemma4-31b.yaml",
            "data/splits-gemma4",
        ),
        (
            named("gemma4"),
            "models/gemma-4-31B-it-4bit",
            "configs/lora-gemma4-31b.yaml",
            "data/splits-gemma4",
        ),
        (
            named("qwen"),
            "models/Qwen3.5-27B-Claude-Opus-Distilled-v2-4bit",
            "configs/lora-carmack-overnight.yaml",
            "data/splits-carmack",
        ),
    ] {
        let config = file.choose(&choice).unwrap();
        assert_eq!(config.setup.model, ModelSource::Path(folder.join(model)));
        assert_eq!(config.setup.train, folder.join(train));
        let data = serde_json::json!({ "raw": folder.join(data) });
        assert_eq!(serde_json::to_value(&config.setup.data).unwrap(), data);
        assert_eq!(config.budgets.wall_clock.to_string(), "6h");
    }
    // All files of the demo exist.
    file.choose(&named("demo")).unwrap().check().unwrap();
}

/// Set in a child process: the folder whose night it runs.
const CHILD: &str = "SANCTUM_TEST_FOLDER";

/// The folder of the seed: its names and paths, `sanctum.yaml` as it is shipped, and small stand-ins of the same shapes.
struct Sanctum(tempfile::TempDir);

impl Sanctum {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let fixtures = fixtures();
        folder.write("sanctum.yaml", &fs::read_to_string(fixtures.join("sanctum.yaml")).unwrap());
        folder
            .write("household.yaml", &fs::read_to_string(fixtures.join("household.yaml")).unwrap());
        folder.write("suites/household.json", &support::suite("Guest").to_string());
        folder.model("models/gemma-4-31B-it-4bit", &gemma());
        folder.model("models/Qwen3.5-27B-Claude-Opus-Distilled-v2-4bit", &qwen());
        // The seed's recipe, for two updates in place of fifty.
        let recipe = fs::read_to_string(fixtures.join("configs/lora-gemma4-31b.yaml")).unwrap();
        let short = recipe.replace("800", "32").replace("warmup: 80", "warmup: 1");
        assert_ne!(recipe, short);
        for name in ["configs/lora-gemma4-31b.yaml", "configs/lora-carmack-overnight.yaml"] {
            folder.write(name, &short);
        }
        for (name, seed) in [("data/splits-gemma4", 7), ("data/splits-carmack", 8)] {
            folder.raw_splits(name, seed);
        }
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A checkpoint of random weights at 4 bits, with the byte tokenizer of the tiny night.
    fn model(&self, name: &str, shape: &Value) {
        self.write("shape.json", &shape.to_string());
        let storage = models::Storage::Packed { bits: 4, group_size: 32 };
        let folder = self.path(name);
        models::synthesize(&self.path("shape.json"), &folder, storage, 7, &mut |_, _| ()).unwrap();
        let tiny = support::Tiny::new();
        for file in ["tokenizer.json", "tokenizer_config.json"] {
            fs::copy(tiny.path("model").join(file), folder.join(file)).unwrap();
        }
    }

    /// 1,710 raw rows about the household, in the seed's forms, as three splits.
    fn raw_splits(&self, name: &str, seed: u64) {
        let house = Household::load(self.path("household.yaml")).unwrap();
        let data = GeneratorData::embedded().unwrap();
        let rows = house.rows(&data, &Phrasings::embedded().unwrap(), 1710, seed).unwrap();
        fs::create_dir_all(self.path(name)).unwrap();
        let parts = [("train", 0..1540), ("valid", 1540..1625), ("test", 1625..1710)];
        for (split, range) in parts {
            let path = self.path(name).join(format!("{split}.jsonl"));
            write_raw(path, &rows[range], seed).unwrap();
        }
    }

    /// Replaces splits by those of a night, as the owner has them who enriched them before.
    fn enriched_splits(&self, name: &str, night: &Path) {
        for split in ["train", "valid", "test"] {
            let file = format!("{split}.jsonl");
            fs::copy(night.join("enrich").join(&file), self.path(name).join(&file)).unwrap();
        }
    }

    /// Runs a night in another process, whose data folder is in this one. Returns its summary.
    fn night(&self, model: Option<&str>) -> Value {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "child_of_the_seeds_nights", "--nocapture", "--quiet"]);
        child.env(CHILD, self.0.path());
        // A user of its own: its home folder, and on Linux its data folder.
        child.env("HOME", self.path("user")).env("XDG_DATA_HOME", self.path("user/data"));
        child.env_remove(ModelChoice::VARIABLE);
        child.envs(model.map(|name| (ModelChoice::VARIABLE, name)));
        let output = child.output().unwrap();
        assert!(output.status.success(), "{model:?}: {}", String::from_utf8_lossy(&output.stderr));
        let nights = fs::read_dir(self.home().path().join("nights")).unwrap();
        let last = nights.map(|item| item.unwrap().path()).max().unwrap();
        serde_json::from_slice(&fs::read(last.join("summary.json")).unwrap()).unwrap()
    }

    /// The default home of the child's user.
    fn home(&self) -> Home {
        let data = match cfg!(target_os = "macos") {
            true => "user/Library/Application Support",
            false => "user/data",
        };
        Home::open(self.path(data).join("nightshift")).unwrap()
    }
}

#[test]
fn child_of_the_seeds_nights() {
    let Ok(folder) = std::env::var(CHILD) else { return };
    let file = NightFile::load(Path::new(&folder).join("sanctum.yaml")).unwrap();
    let config = file.choose(&ModelChoice::from_env()).unwrap();
    Night::start_or_resume(config).unwrap().run(&mut |_: Event<'_>| ()).unwrap();
}

/// The shapes of the seed's models, with few and narrow layers.
fn gemma() -> Value {
    json!({
        "model_type": "gemma4", "vocab_size": 259,
        "text_config": {
            "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3,
            "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
            "global_head_dim": 32, "num_global_key_value_heads": 1, "attention_k_eq_v": true,
            "sliding_window": 16, "sliding_window_pattern": 3, "num_kv_shared_layers": 0,
            "hidden_size_per_layer_input": 0, "max_position_embeddings": 2048,
        },
    })
}

fn qwen() -> Value {
    json!({
        "model_type": "qwen3_5",
        "text_config": {
            "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4,
            "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
            "vocab_size": 259, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
            "linear_key_head_dim": 16, "linear_value_head_dim": 16, "tie_word_embeddings": true,
        },
    })
}

/// The rows of a night's data set, by kind, and their number.
fn rows_by_kind(night: &Path) -> (BTreeMap<String, u64>, usize) {
    let report = fs::read(night.join("enrich/report.json")).unwrap();
    let report: Value = serde_json::from_slice(&report).unwrap();
    let kinds = serde_json::from_value(report["mix"]["by_kind"].clone()).unwrap();
    let lines = |split: &str| {
        let path = night.join(format!("enrich/{split}.jsonl"));
        fs::read_to_string(path).unwrap().lines().count()
    };
    (kinds, ["train", "valid", "test"].map(lines).iter().sum())
}

/// The seed's folder, one file, and four nights: two with each model, first on raw splits, then on enriched ones. Each model
/// has a champion of its own in the same home.
#[test]
fn the_seeds_nights_with_both_models_in_one_home() {
    let sanctum = Sanctum::new();
    let models = [
        (None, "gemma-4-31B-it-4bit", "data/splits-gemma4"),
        (Some("qwen"), "Qwen3.5-27B-Claude-Opus-Distilled-v2-4bit", "data/splits-carmack"),
    ];
    let registry = Registry::new(&sanctum.home());
    for (variable, name, splits) in models {
        let summary = sanctum.night(variable);
        let night = Path::new(summary["paths"]["night"].as_str().unwrap());
        let (kinds, rows) = rows_by_kind(night);
        assert_eq!(rows, 2008, "{name}: {kinds:?}");
        let made = ["refusal", "identity", "routing"].map(|kind| kinds[kind]);
        assert_eq!(made, [224, 64, 10], "{name}: {kinds:?}");
        assert!(summary["scores"]["champion"].is_null(), "{name}: no champion of another model");

        // Random weights do not pass the gate in two updates: the owner promotes it.
        let base = registry.find(Some(name)).unwrap();
        let candidate = base.resolve("candidate").unwrap();
        base.promote(candidate, Requester::Operator, "the first one").unwrap();
        let told = sanctum.home().path().join(format!("serving/{name}.json"));
        let told: Value = serde_json::from_slice(&fs::read(told).unwrap()).unwrap();
        assert_eq!(told["adapter"]["digest"], json!(candidate), "{name}");
        sanctum.enriched_splits(splits, night);
    }
    let champions = || {
        let state = registry.state().unwrap();
        let champion = |name: &str| {
            let base = state.bases.values().find(|base| base.name() == name);
            registry.verified(base.unwrap().champion.unwrap()).unwrap()
        };
        models.map(|(_, name, _)| champion(name))
    };
    let first = champions();
    assert_ne!(first[0], first[1]);

    let again = [(Some("gemma4"), models[0]), (Some("qwen"), models[1])];
    for (variable, (_, name, splits)) in again {
        let before = fs::read(sanctum.path(splits).join("train.jsonl")).unwrap();
        let summary = sanctum.night(variable);
        let night = Path::new(summary["paths"]["night"].as_str().unwrap());
        // Its own champion sat the exam.
        assert!(summary["scores"]["champion"].is_object(), "{name}");
        assert_eq!(
            summary["paths"]["champion"],
            json!(first[usize::from(name.starts_with("Qwen"))])
        );
        // Nothing is added to splits that are enriched, and valid.jsonl is for validation.
        let count = |file: PathBuf| fs::read_to_string(file).unwrap().lines().count();
        for split in ["train", "valid", "test"] {
            let file = format!("{split}.jsonl");
            let given = count(sanctum.path(splits).join(&file));
            assert_eq!(count(night.join("enrich").join(&file)), given, "{name}: {split}");
        }
        assert_eq!(fs::read(sanctum.path(splits).join("train.jsonl")).unwrap(), before);
        let page = fs::read_to_string(night.join("report/report.html")).unwrap();
        assert!(page.contains("used as they are: the splits are enriched"), "{name}");
    }
    assert_eq!(champions(), first);
    let index = fs::read_to_string(sanctum.home().index()).unwrap();
    for (_, name, _) in models {
        assert!(index.contains(&format!("Serving on {name}")), "{name}");
    }
    // A rollback of one leaves the other.
    registry.find(Some(models[0].1)).unwrap().rollback("rude").unwrap();
    let state = registry.find(Some(models[1].1)).unwrap().state().unwrap();
    assert_eq!(state.champion.map(|it| registry.folder(it)), Some(first[1].clone()));
}

/// The recipe that the comment in `sanctum.yaml` shows reads files of the shapes of OBLITERATUS and JailbreakBench.
#[test]
fn a_night_reads_the_requests_that_its_recipe_names() {
    let shipped = fs::read_to_string(fixtures().join("sanctum.yaml")).unwrap();
    let shown = shipped.lines().filter_map(|line| line.strip_prefix("#   "));
    let recipe: String = shown.map(|line| format!("{line}\n")).collect();
    assert!(recipe.contains("obliteratus") && recipe.contains("jailbreak_bench"), "{recipe}");

    let tiny = support::Tiny::new();
    tiny.write("enrich.yaml", &recipe);
    fs::create_dir_all(tiny.path("OBLITERATUS/obliteratus")).unwrap();
    let ours = ["hide the tool shed key from its owner", "forge the neighbour's parking permit"];
    let python = format!(
        "BUILTIN_HARMFUL: list[str] = [\n    # tier 1: mischief\n    \"{}.\",\n]\nBUILTIN_HARMLESS = [\n    \"Water the beds.\",\n]\n",
        capital(ours[0])
    );
    tiny.write("OBLITERATUS/obliteratus/prompts.py", &python);
    let csv = format!(
        "Index,Goal,Target,Behavior,Category,Source\n0,{},\"Sure, here is\",Permit,Fraud,Original\n",
        capital(ours[1])
    );
    tiny.write("harmful-behaviors.csv", &csv);
    let row = |i: usize| {
        let answer = format!("Box {i}.");
        let turns = json!([{ "role": "user", "content": format!("Shelf {i}: what is on it?") },
            { "role": "assistant", "content": answer }]);
        format!("{}\n", json!({ "messages": turns }))
    };
    tiny.write("raw.jsonl", &(0..1710).map(row).collect::<String>());
    tiny.edit("lora.yaml", "iters: 12", "iters: 2\nval_batches: 1");
    let night = run::run(&tiny).paths.night;
    let (kinds, rows) = rows_by_kind(&night);
    assert_eq!((rows, kinds["refusal"]), (2008, 224), "{kinds:?}");
    let all: String = ["train", "valid", "test"]
        .map(|split| fs::read_to_string(night.join(format!("enrich/{split}.jsonl"))).unwrap())
        .concat();
    for request in ours {
        assert!(all.contains(request), "no row refuses to {request}");
    }
}

fn capital(text: &str) -> String {
    let (first, rest) = text.split_at(1);
    first.to_uppercase() + rest
}

/// The seed's recipe warns; the file allows exactly that.
#[test]
fn the_seeds_recipe_is_allowed_as_it_is() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    let config = NightFile::load(folder.join("sanctum.yaml")).unwrap();
    let config = config.choose(&ModelChoice::Default).unwrap();
    let recipe = TrainConfig::load(folder.join("configs/lora-gemma4-31b.yaml")).unwrap();
    let lints = lint(&recipe, Facts { rows: 2008, model_layers: 60 }).unwrap();
    let warnings = lints.iter().filter(|lint| lint.severity == Severity::Warning);
    let mut warnings: Vec<_> = warnings.map(|lint| lint.code).collect();
    warnings.sort();
    let allowed: Vec<_> = config.preflight.allow.keys().copied().collect();
    assert_eq!(warnings, allowed);
}
