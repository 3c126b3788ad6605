//! The examples on Gemma 4 checkpoints of every kind (`fixtures/golden/gemma4`), with the real
//! template and a tokenizer of their 48 tokens.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

const VARIANTS: [&str; 6] =
    ["dense", "separate", "shared-4bit", "experts-mixed", "dense-floats", "dense-bf16"];

const CONTROL: [&str; 16] = [
    "<pad>",
    "<eos>",
    "<bos>",
    "<unk>",
    "<|turn>",
    "<turn|>",
    "<|channel>",
    "<channel|>",
    "<|think|>",
    "<|tool>",
    "<tool|>",
    "<|tool_call>",
    "<tool_call|>",
    "<|tool_response>",
    "<tool_response|>",
    "<|\"|>",
];

/// Control tokens, then one token a letter.
fn tokenizer() -> Value {
    let letters = "abcdefghijklmnopqrstuvwxyz \n.,?!".chars().map(String::from);
    let names: Vec<String> = CONTROL.map(String::from).into_iter().chain(letters).collect();
    assert_eq!(names.len(), 48);
    let vocabulary: serde_json::Map<_, _> =
        names.iter().enumerate().map(|(id, name)| (name.clone(), json!(id))).collect();
    let control = CONTROL.iter().enumerate().map(|(id, name)| {
        json!({ "id": id, "content": name, "special": true, "normalized": false,
            "single_word": false, "lstrip": false, "rstrip": false })
    });
    json!({
        "version": "1.0", "added_tokens": control.collect::<Vec<_>>(),
        "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": { "type": "Fuse" },
        "model": { "type": "BPE", "vocab": vocabulary, "merges": [], "unk_token": "<unk>", "fuse_unk": false },
    })
}

/// The checkpoint of a variant with what serving it takes.
fn model(folder: &Path, variant: &str, template: &Path) -> PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/golden/gemma4");
    let model = folder.join(variant);
    fs::create_dir(&model).unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(fixtures.join(variant).join(name), model.join(name)).unwrap();
    }
    fs::copy(template, model.join("chat_template.jinja")).unwrap();
    let write = |name: &str, value: Value| fs::write(model.join(name), value.to_string()).unwrap();
    write("tokenizer.json", tokenizer());
    write("tokenizer_config.json", json!({ "bos_token": "<bos>", "eos_token": "<eos>" }));
    write("generation_config.json", json!({ "eos_token_id": [1, 5] }));
    model
}

/// What an example prints as JSON, line by line.
fn run(example: &str, arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> Vec<Value> {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().unwrap().parent().unwrap().join("examples").join(example);
    let output = Command::new(program).args(arguments.iter().map(|a| a.as_ref())).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{example}: {errors}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[test]
fn every_kind_of_checkpoint_is_read_rendered_scored_trained_and_asked() {
    let Some(vocabularies) = fetch::if_reachable(fetch::vocabularies(&mut |_| ())).unwrap() else {
        return;
    };
    let template = vocabularies.join("google-gemma-4-31B-it.jinja");
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    let row = json!({ "messages": [
        { "role": "user", "content": "is it so?" }, { "role": "assistant", "content": "yes." },
    ] });
    let rows = data.join("train.jsonl");
    fs::write(&rows, format!("{row}\n").repeat(4)).unwrap();

    for variant in VARIANTS {
        let model = model(folder.path(), variant, &template);
        // What is trained is what the assistant says, and the end of the turn.
        let shown = run("inspect", &[&model, &rows, &"--json"]);
        let texts = shown[0]["texts"].as_array().unwrap();
        let span = &shown[0]["trained"][0];
        let [start, end] = [0, 1].map(|end| span[end].as_u64().unwrap() as usize);
        let text: String = texts[start..end].iter().map(|text| text.as_str().unwrap()).collect();
        assert_eq!(text, "yes.<turn|>", "{variant}");

        let logits = folder.path().join(format!("{variant}.logits"));
        run("logits", &[&"--model", &model, &"--tokens", &"2,20,30,5", &"--out", &logits]);
        let bytes = fs::read(&logits).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(file.tensor("logits").unwrap().shape(), [4, 48], "{variant}");

        let adapter = folder.path().join(format!("{variant}.adapter"));
        let yaml = format!(
            "model: {}\ndata: {}\nadapter_path: {}\nlora_parameters: {{ rank: 4, scale: 2.0 }}\n\
             num_layers: -1\nmask_prompt: true\nbatch_size: 4\niters: 8\nlearning_rate: 2e-2\n",
            model.display(),
            data.display(),
            adapter.display()
        );
        let config = folder.path().join("train.yaml");
        fs::write(&config, yaml).unwrap();
        run("train", &[&"--config", &config, &"--json"]);

        let score = |more: &[&dyn AsRef<std::ffi::OsStr>]| {
            let base: [&dyn AsRef<std::ffi::OsStr>; 6] =
                [&"--model", &model, &"--data", &rows, &"--mask-prompt", &"--json"];
            run("score", &[&base[..], more].concat())[0]["loss"].as_f64().unwrap()
        };
        let (before, after) = (score(&[]), score(&[&"--adapter", &adapter]));
        assert!(after < 0.9 * before, "{variant}: {before} to {after}");

        let answer = run(
            "generate",
            &[&"--model", &model, &"--prompt", &"is it so?", &"--max-tokens", &"5", &"--json"],
        );
        let text = answer.last().unwrap()["text"].as_str().unwrap();
        assert!(!CONTROL.iter().any(|token| text.contains(token)), "{variant}: {text}");
    }
}
