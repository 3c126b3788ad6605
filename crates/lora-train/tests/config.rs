//! The configuration: what is read, what is refused, and the messages.

use std::path::{Path, PathBuf};

use lora_train::config::{AnchoredTokens, OptimizerName, Scaling, ScheduleName};
use lora_train::{Batches, Bytes, NumLayers, TrainConfig};

fn read(yaml: &str) -> TrainConfig {
    TrainConfig::from_yaml(yaml, "night.yaml").unwrap()
}

fn refusal(yaml: &str) -> String {
    TrainConfig::from_yaml(yaml, "night.yaml").unwrap_err().to_string()
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/configs").join(name)
}

#[test]
fn reads_the_gemma_file_as_it_is() {
    let config = TrainConfig::load(fixture("lora-gemma4-31b.yaml")).unwrap();
    assert_eq!(config.lora_parameters.rank, 64);
    assert_eq!(config.lora_parameters.alpha, Some(128.0));
    assert_eq!(config.lora_parameters.dropout, 0.05);
    assert_eq!(config.scale(), 2.0);
    assert_eq!((config.batch_size, config.grad_accumulation_steps, config.iters), (1, 16, 800));
    assert_eq!(config.learning_rate, 3e-6);
    let schedule = config.lr_schedule.as_ref().unwrap();
    assert_eq!(schedule.name, ScheduleName::CosineDecay);
    assert_eq!(schedule.arguments, [3e-6, 800.0]);
    assert_eq!((schedule.warmup, schedule.warmup_init), (80, 1e-7));
    assert_eq!(config.updates(2008), 50);
}

#[test]
fn absent_keys_have_mlx_lms_defaults() {
    let config = read("model: m");
    assert_eq!(config.batch_size, 4);
    assert_eq!(config.iters, 1000);
    assert_eq!(config.val_batches, Batches::AtMost(25));
    assert_eq!(config.test_batches, Batches::AtMost(500));
    assert_eq!(config.learning_rate, 1e-5);
    assert_eq!((config.steps_per_report, config.steps_per_eval, config.save_every), (10, 200, 100));
    assert_eq!(config.adapter_path, PathBuf::from("adapters"));
    assert_eq!(config.max_seq_length, 2048);
    assert_eq!(config.seed, 0);
    assert_eq!(config.optimizer, OptimizerName::Adam);
    assert_eq!(config.lora_parameters.rank, 8);
    assert_eq!(config.scale(), 20.0);
    assert_eq!(config.adapted_layers(60).unwrap(), (44..60).collect::<Vec<_>>());
    assert_eq!(config.adapted_layers(12).unwrap(), (0..12).collect::<Vec<_>>());
    let mut default = TrainConfig::default();
    (default.origin, default.model) = (config.origin.clone(), Some("m".into()));
    assert_eq!(default, config);
}

#[test]
fn reads_every_key_of_mlx_lm() {
    let config = TrainConfig::load(fixture("every-key.yaml")).unwrap();
    assert_eq!(config.num_layers, Some(NumLayers::All));
    assert_eq!(config.val_batches, Batches::All);
    assert_eq!(config.clear_cache_threshold, Bytes(2_000_000_000));
    assert_eq!(config.optimizer_config.adamw.weight_decay, 0.05);
    assert_eq!(config.optimizer_config.adafactor.beta_1, Some(0.9));
    assert_eq!(config.nightshift.memory_limit, Some(Bytes(24 << 30)));
    assert_eq!(config.nightshift.time_budget.unwrap().as_secs(), 6 * 3600 + 30 * 60);
    assert_eq!(config.nightshift.early_stop.unwrap().patience, 3);
    assert_eq!(config.nightshift.scaling, Scaling::RankStabilized);
    assert_eq!(config.nightshift.kl.map(|kl| kl.on), Some(AnchoredTokens::Untrained));
    assert_eq!(config.scale(), 32.0 / 4.0);
}

#[test]
fn numbers_are_read_as_people_write_them() {
    for (text, value) in
        [("1e-5", 1e-5), ("3.0E-06", 3e-6), ("1", 1.0), (".5e-3", 5e-4), ("+2e-1", 0.2)]
    {
        assert_eq!(read(&format!("learning_rate: {text}")).learning_rate, value, "{text}");
    }
    let cases: [(&str, u64); 4] = [
        ("2GB", 2_000_000_000),
        ("512 MiB", 512 << 20),
        ("1024", 1024),
        ("'1.5 GB'", 1_500_000_000),
    ];
    for (text, bytes) in cases {
        let yaml = format!("nightshift:\n  memory_limit: {text}");
        assert_eq!(read(&yaml).nightshift.memory_limit, Some(Bytes(bytes)), "{text}");
    }
    assert_eq!(read("resume_adapter_file: null").resume_adapter_file, None);
}

#[test]
fn scale_comes_from_scale_else_alpha_else_the_default() {
    let cases = [
        ("{ rank: 64, alpha: 128, scale: 2.0 }", 2.0),
        ("{ rank: 16, scale: 5 }", 5.0),
        ("{ rank: 16, alpha: 32 }", 2.0),
        ("{ rank: 16 }", 20.0),
    ];
    for (lora, scale) in cases {
        assert_eq!(read(&format!("lora_parameters: {lora}")).scale(), scale, "{lora}");
    }
}

#[test]
fn refusals_name_the_place_the_key_and_what_is_wrong() {
    let cases = [
        (
            "iters: 10\nlerning_rate: 1e-5",
            "night.yaml:2: unknown key `lerning_rate`; did you mean `learning_rate`?",
        ),
        (
            "lora_parameters:\n  rank: 8\n  r: 8",
            "night.yaml:3: unknown key `r`; did you mean `rank`?",
        ),
        ("wibble: 1", "night.yaml:1: unknown key `wibble`"),
        (
            "nightshift:\n  max_gradnorm: 1",
            "night.yaml:2: unknown key `max_gradnorm`; did you mean `max_grad_norm`?",
        ),
        ("iters: 10\nbatch_size: 0", "night.yaml:2: `batch_size`: expected at least 1, found 0"),
        (
            "learning_rate: .nan",
            "night.yaml:1: `learning_rate`: expected a finite number above 0, found NaN",
        ),
        (
            "learning_rate: -1e-5",
            "night.yaml:1: `learning_rate`: expected a finite number above 0, found -0.00001",
        ),
        (
            "learning_rate: .inf",
            "night.yaml:1: `learning_rate`: expected a finite number above 0, found inf",
        ),
        (
            "num_layers: -2",
            "night.yaml:1: `num_layers`: expected a number of layers, or -1 for all, found integer `-2`",
        ),
        (
            "lora_parameters:\n  rank: 64\n  alpha: 128\n  scale: 4.0",
            "night.yaml:4: `lora_parameters.scale`: expected 2, which is alpha/rank = 128/64; or only one of `alpha` and `scale`, found 4",
        ),
        (
            "lora_parameters: { dropout: 1.0 }",
            "night.yaml:1: `lora_parameters.dropout`: expected at least 0 and below 1, found 1",
        ),
        (
            "optimizer: adamm",
            "night.yaml:1: `optimizer`: expected one of adam, adamw, muon, sgd, lion, adafactor, found adamm",
        ),
        (
            "seed: 0\nlr_schedule:\n  name: cosine_decay\n  arguments: [1e-5]",
            "night.yaml:4: `lr_schedule.arguments`: expected [init, steps] or [init, steps, end], with at least 1 whole step, found [1e-5]",
        ),
        (
            "nightshift: { memory_limit: 12 parsecs }",
            "night.yaml:1: `nightshift.memory_limit`: expected a size such as 24GB or 24GiB, found string \"12 parsecs\"",
        ),
        (
            "nightshift:\n  time_budget: soon",
            "night.yaml:2: `nightshift.time_budget`: expected a duration such as 6h or 90m, found string \"soon\"",
        ),
        (
            "iters: 5\nnightshift:\n  epochs: 2",
            "night.yaml:3: `nightshift.epochs`: expected only this or `iters`, found both",
        ),
        (
            "fine_tune_type: full",
            "night.yaml:1: `fine_tune_type`: expected lora or dora, found full",
        ),
        (
            "hf_dataset: { path: someone/rows }",
            "night.yaml:1: `hf_dataset`: expected local files, in `data`, found a data set on a hub",
        ),
        ("iters: ten", "night.yaml:1: `iters`: expected u64, found `ten`"),
        ("iters: 1\niters: 2", "night.yaml:2: `iters`: expected one such key, found another"),
        (
            "nightshift: { layers: [1, 1] }",
            "night.yaml:1: `nightshift.layers`: expected layer indices, each once, found [1, 1]",
        ),
    ];
    for (yaml, message) in cases {
        assert_eq!(refusal(yaml), message, "{yaml}");
    }
}

#[test]
fn text_that_is_no_yaml_is_refused_with_its_line() {
    for yaml in ["a: [1, 2", "a: b: c", "- 1\n- 2", "\tx: 1", "&a [*a]", "3"] {
        let message = refusal(yaml);
        assert!(message.starts_with("night.yaml"), "{yaml}: {message}");
    }
    let missing = TrainConfig::load("/no/such/night.yaml").unwrap_err().to_string();
    assert!(missing.starts_with("/no/such/night.yaml: cannot read"), "{missing}");
    assert_eq!(read("").iters, 1000, "an empty file is all defaults");
}

#[test]
fn layers_that_the_model_lacks_are_refused() {
    let message = read("num_layers: 31").adapted_layers(30).unwrap_err().to_string();
    assert_eq!(
        message,
        "night.yaml:1: `num_layers`: expected at most the 30 layers of the model, found 31"
    );
    let message =
        read("nightshift: { layers: [3, 30] }").adapted_layers(30).unwrap_err().to_string();
    assert!(message.contains("layers below 30"), "{message}");
    assert_eq!(read("nightshift: { layers: [7, 2] }").adapted_layers(30).unwrap(), [2, 7]);
}

#[test]
fn the_adapter_config_is_what_mlx_lms_loader_needs() {
    let config = TrainConfig::load(fixture("lora-gemma4-31b.yaml")).unwrap();
    let written = config.adapter_config(60).unwrap();
    assert_eq!(written["fine_tune_type"], "lora");
    assert_eq!(written["num_layers"], 16);
    assert_eq!(written["lora_parameters"]["rank"], 64);
    assert_eq!(written["lora_parameters"]["scale"], 2.0);
    assert_eq!(written["lora_parameters"]["dropout"], 0.05);
    assert_eq!(written["iters"], 800);
    let listed = read("nightshift: { layers: [20, 25] }").adapter_config(30).unwrap();
    assert_eq!(listed["num_layers"], 10, "mlx-lm counts from the last layer");

    let mut back: TrainConfig = serde_json::from_value(written).unwrap();
    back.origin = config.origin.clone();
    back.num_layers = None;
    assert_eq!(back, config, "nothing of a run is lost in its adapter's configuration");
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "[ -~\n]{0,80}") {
        let _ = TrainConfig::from_yaml(&text, "night.yaml");
    }

    #[test]
    fn any_value_is_read_or_refused_with_its_line(
        key in proptest::sample::select(vec![
            "iters", "learning_rate", "num_layers", "lr_schedule", "lora_parameters", "optimizer",
            "clear_cache_threshold", "nightshift", "optimizer_config", "val_batches", "model",
        ]),
        value in r"(-?[0-9]{1,30}(\.[0-9e+-]{0,6})?|\[[a-z0-9, ]{0,8}\]|\{[a-z]{0,6}: [0-9]{0,3}\}|[a-z.~]{0,8})",
    ) {
        if let Err(error) = TrainConfig::from_yaml(&format!("seed: 1\n{key}: {value}\n"), "night.yaml") {
            let message = error.to_string();
            proptest::prop_assert!(message.starts_with("night.yaml:2: "), "{message}");
        }
    }
}
