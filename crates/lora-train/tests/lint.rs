//! The findings of the linter.

use std::path::Path;

use lora_train::TrainConfig;
use lora_train::lint::{Facts, Lint, LintCode, Severity, lint};

const COUNCIL: Facts = Facts { rows: 2008, model_layers: 60 };

fn lints(yaml: &str, facts: Facts) -> Vec<Lint> {
    lint(&TrainConfig::from_yaml(yaml, "night.yaml").unwrap(), facts).unwrap()
}

fn message(lints: &[Lint], code: LintCode) -> &str {
    lints.iter().find(|lint| lint.code == code).map_or("", |lint| lint.message.as_str())
}

#[test]
fn the_gemma_file_has_findings() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/configs/lora-gemma4-31b.yaml");
    let found = lint(&TrainConfig::load(path).unwrap(), COUNCIL).unwrap();
    let warnings: Vec<&str> = found
        .iter()
        .filter(|lint| lint.severity == Severity::Warning)
        .map(|lint| lint.message.as_str())
        .collect();
    assert_eq!(
        warnings,
        [
            "50 updates < 80 of warm-up: the rate never reaches 3e-6 (it ends at 1.88e-6); \
             a schedule counts updates, and 800 iterations / 16 of accumulation are 50",
            "800 of 2,008 rows are seen (40 %)",
            "`num_layers` not given: the last 16 of 60",
        ],
    );
    let notes: Vec<&str> =
        found.iter().skip(warnings.len()).map(|lint| lint.message.as_str()).collect();
    assert_eq!(
        notes,
        [
            "`learning_rate` 3e-6 is not read beside an `lr_schedule`, which starts from 3e-6",
            "`alpha/rank` = 2.0 agrees with `scale`, which is the one used",
            "`max_seq_length` not given: 2048 tokens, longer rows are cut",
            "`mask_prompt` not given: the loss is on prompts as well as on answers",
            "`optimizer` not given: adam, without weight decay or bias correction",
            "`seed` not given: 0",
        ],
    );
}

#[test]
fn a_good_file_has_no_warnings() {
    let sound = "
lora_parameters: { rank: 8, scale: 2.0 }
num_layers: -1
batch_size: 4
grad_accumulation_steps: 4
max_seq_length: 1024
mask_prompt: true
optimizer: adamw
seed: 1
lr_schedule: { name: cosine_decay, arguments: [1e-4, 120] }
nightshift: { epochs: 1, warmup_share: 0.05 }
";
    let found = lints(sound, COUNCIL);
    assert!(found.iter().all(|lint| lint.severity == Severity::Note), "{found:?}");
    assert_eq!(message(&found, LintCode::Epochs), "2,008 rows are seen 1.0 times");
    assert_eq!(
        message(&found, LintCode::PartialUpdate),
        "the last update has 2 of 4 iterations; it is made anyway, while mlx-lm drops it",
    );
}

#[test]
fn each_finding_has_its_numbers() {
    let cosine = "iters: 100\nlr_schedule: { name: cosine_decay, arguments: [1e-4, 1000] }";
    let long = "iters: 1000\nlr_schedule: { name: cosine_decay, arguments: [1e-4, 100] }";
    let cases = [
        (
            cosine,
            LintCode::DecayOutlastsRun,
            "100 updates of a schedule of 1,000: the rate ends at 9.76e-5, not at the schedule's end",
        ),
        (
            long,
            LintCode::RunOutlastsDecay,
            "1,000 updates, but the schedule ends after 100: the other 900 run at 0.00e0",
        ),
        ("iters: 1500", LintCode::Epochs, "2,008 rows are seen 3.0 times"),
        (
            "lora_parameters: { rank: 8, alpha: 32 }",
            LintCode::ScaleFromAlpha,
            "`scale` not given: 4.0, from `alpha/rank`; mlx-lm would refuse the file",
        ),
        ("batch_size: 1", LintCode::RowsUnseen, "1,000 of 2,008 rows are seen (50 %)"),
        (
            "grad_checkpoint: true",
            LintCode::NoEffect,
            "`grad_checkpoint` has no effect: layers are recomputed if memory requires it",
        ),
    ];
    for (yaml, code, expected) in cases {
        assert_eq!(message(&lints(yaml, COUNCIL), code), expected, "{yaml}");
    }
    let small = lints("iters: 10", Facts { rows: 40, model_layers: 12 });
    let layers = small.iter().find(|lint| lint.message.contains("num_layers")).unwrap();
    assert_eq!(layers.severity, Severity::Note);
    assert_eq!(layers.message, "`num_layers` not given: the last 12 of 12");
}

#[test]
fn the_worst_comes_first_and_serializes() {
    let found = lints("batch_size: 1", COUNCIL);
    assert!(found.is_sorted_by(|a, b| a.severity >= b.severity));
    let json = serde_json::to_value(&found[0]).unwrap();
    assert_eq!(json["severity"], "warning");
    assert_eq!(json["code"], "rows_unseen");
}

#[test]
fn an_adapted_embedding_needs_the_whole_backward_pass() {
    let yaml = |layers| {
        format!(
            "{{ num_layers: {layers}, lora_parameters: \
             {{ keys: [self_attn.q_proj, language_model.model.embed_tokens] }} }}"
        )
    };
    let found = lints(&yaml(8), COUNCIL);
    assert_eq!(
        message(&found, LintCode::WholeBackwardPass),
        "`language_model.model.embed_tokens` is adapted: the backward pass goes through all 60 \
         layers, of which the first 52 have no adapter",
    );
    assert_eq!(message(&lints(&yaml(-1), COUNCIL), LintCode::WholeBackwardPass), "");
}
