//! The seed's checks, in its order.

use std::fs;

use chat_format::Message;

use super::super::attempt::Attempt;
use super::super::finding::CheckStatus;
use super::support::Tiny;
use super::{Preflight, fails, plant, preflight, sanctum, spoiled};
use crate::config::{ModelChoice, NightFile};

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
    let finding = spoiled("no leakage", |rehearsal| {
        let Attempt::Done(clean) = &mut rehearsal.clean else { panic!() };
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
    let finding = spoiled("format", |rehearsal| {
        let Attempt::Done(enriched) = &mut rehearsal.enriched else { panic!() };
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
        &["duplicates"],
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
    for keys in ["budgets: { memory: 1MB }", "preflight: { peak_memory: 1MB }"] {
        plant(
            "peak memory < 1MB",
            |tiny| tiny.edit("night.yaml", "gate:", &format!("{keys}\ngate:")),
            &["1.0 MB allowed"],
        );
    }
}

/// The name of the seed is that of a file with its numbers.
#[test]
fn the_limit_is_that_of_the_file() {
    let tiny = sanctum();
    tiny.edit("night.yaml", "gate:", "preflight: { peak_memory: 60GB }\ngate:");
    let report = preflight(&tiny);
    let check = report.checks.iter().find(|check| check.check == "peak memory < 60GB").unwrap();
    assert_eq!(check.status, CheckStatus::Passed, "{check:?}");
}

#[test]
fn default_model() {
    let by_default = |cause: &dyn Fn(&Tiny)| {
        let tiny = sanctum();
        cause(&tiny);
        let file = NightFile::load(tiny.path("night.yaml")).unwrap();
        let report = Preflight::new(file, ModelChoice::Default).run(&mut |_| ()).unwrap();
        report.checks.into_iter().find(|check| check.check.starts_with("Default=")).unwrap()
    };
    let check = by_default(&|_| ());
    assert_eq!((check.check.as_str(), check.status), ("Default=gemma4", CheckStatus::Passed));
    let recipe = "configs/lora-gemma4-31b.yaml";
    let check = by_default(&|tiny| fs::remove_file(tiny.path(recipe)).unwrap());
    assert_eq!(check.status, CheckStatus::Failed);
    assert!(check.detail.contains(recipe), "{check:?}");
    let check = by_default(&|tiny| tiny.edit(recipe, "iters:", "itres:"));
    assert!(check.status == CheckStatus::Failed && check.detail.contains("itres"), "{check:?}");
    // Another model trains tonight.
    let tiny = sanctum();
    fs::remove_file(tiny.path(recipe)).unwrap();
    let report = preflight(&tiny);
    let check = report.checks.iter().find(|check| check.check == "Default=gemma4").unwrap();
    assert_eq!(check.status, CheckStatus::Warning);
    assert!(check.detail.contains("tonight tiny by SANCTUM_TRAIN_MODEL"), "{check:?}");
    assert!(report.ok && report.seed_passed == 20, "{}", report.line);
    assert!(report.line.contains("to look at: Default=gemma4"), "{}", report.line);
}

#[test]
fn paths() {
    plant("paths", |tiny| fs::remove_file(tiny.path("gate.yaml")).unwrap(), &["gate", "gate.yaml"]);
    plant("paths", |tiny| fs::remove_file(tiny.path("raw.jsonl")).unwrap(), &["data", "raw.jsonl"]);
}

#[test]
fn fallback() {
    let found = |cause: &dyn Fn(&Tiny)| {
        let tiny = sanctum();
        cause(&tiny);
        let report = preflight(&tiny);
        report.checks.into_iter().find(|check| check.check.ends_with("fallback")).unwrap()
    };
    let check = found(&|_| ());
    assert_eq!((check.check.as_str(), check.status), ("qwen/tiny fallback", CheckStatus::Passed));
    let check = found(&|tiny| fs::remove_dir(tiny.path("data/splits-carmack")).unwrap());
    assert_eq!(check.status, CheckStatus::Warning);
    assert!(check.detail.contains("qwen: data") && check.detail.contains("splits-carmack"));
    let recipe = "configs/lora-carmack-overnight.yaml";
    let check = found(&|tiny| tiny.edit(recipe, "rank: 8", "rank: 0"));
    assert!(check.status == CheckStatus::Warning && check.detail.contains("rank"), "{check:?}");
    // A household with other names, and one with a single model.
    let check = found(&|tiny| tiny.edit("night.yaml", "  qwen:", "  mistral:"));
    assert_eq!(check.check, "mistral/tiny fallback");
    let tiny = Tiny::new();
    let file = NightFile::load(tiny.path("night.yaml")).unwrap();
    let report = Preflight::new(file, ModelChoice::Default).run(&mut |_| ()).unwrap();
    let check = |name: &str| report.checks.iter().find(|check| check.check == name).unwrap();
    assert_eq!(check("fallback").status, CheckStatus::NotNeeded);
    assert_eq!(check("Default=model").status, CheckStatus::NotNeeded);
    assert!(report.ok && report.seed_passed == 19, "{}", report.line);
}

#[test]
fn score_fix() {
    let finding = spoiled("score fix", |rehearsal| {
        let Attempt::Done(suite) = &mut rehearsal.suite else { panic!() };
        // As if every answer had been lost.
        suite.cases.iter_mut().for_each(|case| case.pass.clear());
        fs::remove_dir_all(rehearsal.night.join("score-fix")).unwrap();
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
