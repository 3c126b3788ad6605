//! The seed's checks, in its order.

use std::fs;

use chat_format::Message;

use super::super::attempt::Attempt;
use super::{fails, plant, spoiled};

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
    plant(
        "peak memory < 60GB",
        |tiny| tiny.edit("night.yaml", "gate:", "budgets: { memory: 1MB }\ngate:"),
        &["1.0 MB allowed"],
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
