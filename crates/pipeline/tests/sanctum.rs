//! The names, paths and default of `fixtures/sanctum.yaml`.

use std::path::Path;

use pipeline::config::{ModelChoice, ModelSource, NightFile};

#[test]
fn gemma_is_the_default_and_qwen_the_fallback() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
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
