//! The settings that determine the result of a run, and those that do not.

use std::collections::BTreeSet;

use lora_train::TrainConfig;
use proptest::prelude::*;
use serde_json::{Value, json};

/// Every key with another value than its default, and whether it can change the adapter.
fn keys() -> Vec<(&'static str, Value, bool)> {
    vec![
        ("model", json!("m"), false),
        ("data", json!("d"), false),
        ("adapter_path", json!("elsewhere"), false),
        ("resume_adapter_file", json!("determining.rs"), true),
        ("fine_tune_type", json!("dora"), true),
        ("lora_parameters", json!({ "rank": 4 }), true),
        ("num_layers", json!(3), true),
        ("mask_prompt", json!(true), true),
        ("max_seq_length", json!(99), true),
        ("batch_size", json!(2), true),
        ("grad_accumulation_steps", json!(2), true),
        ("iters", json!(7), true),
        ("seed", json!(5), true),
        ("optimizer", json!("lion"), true),
        ("optimizer_config", json!({ "lion": { "weight_decay": 0.5 } }), true),
        ("learning_rate", json!(0.5), true),
        ("lr_schedule", json!({ "name": "constant", "arguments": [0.5] }), true),
        ("steps_per_report", json!(3), false),
        // With `eval_best` and `early_stop`, validation chooses the adapter.
        ("steps_per_eval", json!(3), true),
        ("val_batches", json!(3), true),
        ("test", json!(true), false),
        ("test_batches", json!(3), false),
        ("save_every", json!(3), false),
        ("train_mode", json!("dpo"), true),
        ("beta", json!(0.5), true),
        ("loss_type", json!("hinge"), true),
        ("dpo_cpo_loss_type", json!("hinge"), true),
        ("loss_weights", json!([2.0]), true),
        ("label_smoothing", json!(0.25), true),
        ("delta", json!(2.0), true),
        ("cpo_alpha", json!(2.0), true),
        ("simpo_gamma", json!(2.0), true),
        ("desirable_weight", json!(2.0), true),
        ("undesirable_weight", json!(2.0), true),
        ("reference_model_path", json!("m"), true),
        ("precompute_ref_log_probs", json!(true), false),
        ("reward_scaling", json!(2.0), false),
        ("prompt_feature", json!("p"), true),
        ("completion_feature", json!("c"), true),
        ("chat_feature", json!("c"), true),
        ("text_feature", json!("t"), true),
        ("train", json!(true), false),
        ("grad_checkpoint", json!(true), false),
        ("clear_cache_threshold", json!(3), false),
        ("report_to", json!("wandb"), false),
        ("project_name", json!("p"), false),
        ("trust_remote_code", json!(true), false),
        ("config", json!("c"), false),
        ("hf_dataset", json!({ "path": "p" }), true),
        ("nightshift.date", json!("2026-04-08"), true),
        ("nightshift.epochs", json!(0.5), true),
        // These two change the order of sums, hence the last bits.
        ("nightshift.max_tokens_per_step", json!(64), true),
        ("nightshift.lanes", json!(2), true),
        ("nightshift.memory_limit", json!(3), false),
        ("nightshift.max_grad_norm", json!(0.5), true),
        ("nightshift.on_bad_loss", json!("skip"), true),
        ("nightshift.schedule_unit", json!("iterations"), true),
        ("nightshift.warmup_share", json!(0.5), true),
        ("nightshift.scaling", json!("rank_stabilized"), true),
        ("nightshift.optimizer_state", json!("int8"), true),
        ("nightshift.rank_pattern", json!({ "mlp.down_proj": 2 }), true),
        ("nightshift.layers", json!([0]), true),
        ("nightshift.eval_best", json!(true), true),
        ("nightshift.early_stop", json!({ "patience": 2 }), true),
        ("nightshift.time_budget", json!("6h"), false),
        ("nightshift.keep_checkpoints", json!(3), false),
        ("nightshift.kl", json!({ "weight": 0.5, "on": "all" }), true),
        ("nightshift.retention", json!({ "rows": 3 }), true),
        ("nightshift.reference", json!("base"), true),
        ("nightshift.reference_cache", json!("r"), false),
    ]
}

/// The default configuration with other values of the keys with these numbers.
fn with(changed: &BTreeSet<usize>) -> TrainConfig {
    let mut settings = serde_json::to_value(TrainConfig::default()).unwrap();
    for (number, (key, value, _)) in keys().into_iter().enumerate() {
        if !changed.contains(&number) {
            continue;
        }
        match key.split_once('.') {
            Some((outer, inner)) => settings[outer][inner] = value,
            None => settings[key] = value,
        }
    }
    // The file of initial weights must exist: this one does.
    let mut config: TrainConfig = serde_json::from_value(settings).unwrap();
    let this = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    config.resume_adapter_file = config.resume_adapter_file.map(|name| this.join(name));
    config
}

#[test]
fn every_key_is_in_exactly_one_class() {
    let all = serde_json::to_value(TrainConfig::default()).unwrap();
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let outer = names(&all).into_iter().filter(|key| key != "nightshift");
    let inner = names(&all["nightshift"]).into_iter().map(|key| format!("nightshift.{key}"));
    let mut expected: Vec<String> = outer.chain(inner).collect();
    let mut found: Vec<String> = keys().into_iter().map(|(key, ..)| key.to_owned()).collect();
    expected.sort();
    found.sort();
    assert_eq!(found, expected, "a new key belongs into the table above");
}

#[test]
fn one_key_changes_the_determining_settings_if_it_can_change_the_result() {
    let everything: BTreeSet<usize> = (0..keys().len()).collect();
    for (number, (key, _, determines)) in keys().into_iter().enumerate() {
        for before in [BTreeSet::new(), &everything - &BTreeSet::from([number])] {
            let after = &before | &BTreeSet::from([number]);
            let [before, after] = [before, after].map(|keys| with(&keys).determining().unwrap());
            assert_eq!(before != after, determines, "{key}");
        }
    }
}

proptest! {
    #[test]
    fn configurations_are_told_apart_by_what_determines_the_result(
        a in proptest::collection::btree_set(0..keys().len(), 0..6),
        b in proptest::collection::btree_set(0..keys().len(), 0..6),
    ) {
        let keys = keys();
        let determining = |changed: &BTreeSet<usize>| -> BTreeSet<usize> {
            changed.iter().copied().filter(|number| keys[*number].2).collect()
        };
        let same = determining(&a) == determining(&b);
        prop_assert_eq!(with(&a).determining().unwrap() == with(&b).determining().unwrap(), same);
    }
}

#[test]
fn initial_weights_count_by_their_content() {
    let folder = tempfile::tempdir().unwrap();
    let of = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let mut config = TrainConfig::default();
        config.resume_adapter_file = Some(path);
        config.determining().unwrap()
    };
    assert_eq!(of("a", "weights"), of("b", "weights"));
    assert_ne!(of("a", "weights"), of("a", "others"));
}

#[test]
fn an_adapter_says_nothing_of_what_did_not_determine_it() {
    let written = |config: &TrainConfig| {
        let Value::Object(mut settings) = config.adapter_config(2).unwrap() else { panic!() };
        lora_train::config::remove_without_effect(&mut settings);
        settings
    };
    let mut config = TrainConfig::default();
    config.num_layers = Some(lora_train::NumLayers::All);
    let plain = written(&config);
    assert!(plain.contains_key("lora_parameters") && !plain.contains_key("save_every"));
    config.save_every = 3;
    config.nightshift.memory_limit = Some(lora_train::Bytes(9));
    assert_eq!(written(&config), plain);
    config.seed = 9;
    assert_ne!(written(&config), plain);
}
