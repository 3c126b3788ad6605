//! The effective values of a configuration file, and where they come from.

use std::fmt;

use serde::Serialize;

use super::{ModelChoice, NightFile};
use crate::error::Result;

/// An effective value, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Setting {
    /// The key in the file.
    pub key: &'static str,
    /// The value, as JSON.
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The top of the file.
    File,
    /// The entry with this name in `models`.
    Model(String),
    /// An environment variable or a flag.
    Override(&'static str),
    /// The default.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File => f.pad("file"),
            Origin::Model(name) => f.pad(&format!("models.{name}")),
            Origin::Override(by) => f.pad(by),
            Origin::Default => f.pad("default"),
        }
    }
}

impl NightFile {
    /// All effective values of a night with the chosen model.
    ///
    /// # Errors
    /// As [`choose`](Self::choose).
    pub fn settings(&self, choice: &ModelChoice) -> Result<Vec<Setting>> {
        let (_, name) = self.setup(choice)?;
        let effective = serde_json::to_value(self.choose(choice)?).unwrap_or_default();
        let value = |key: &'static str| match effective.get(key) {
            None | Some(serde_json::Value::Null) => "built in".to_owned(),
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        let setting = |key, origin| Setting { key, value: value(key), origin };
        let stated =
            |key, stated| setting(key, if stated { Origin::File } else { Origin::Default });
        let of_setup = |key| setting(key, name.clone().map_or(Origin::File, Origin::Model));
        let written = &self.written;
        let mut settings = Vec::new();
        if let Some(name) = &name {
            let origin = match choice {
                ModelChoice::Default => Origin::File,
                ModelChoice::Named { by, .. } => Origin::Override(by),
            };
            settings.push(Setting { key: "chosen", value: name.clone(), origin });
        }
        settings.extend([
            of_setup("model"),
            of_setup("data"),
            of_setup("train"),
            stated("max_refused_share", written.max_refused_share.is_some()),
            stated("enrich", written.enrich.is_some()),
            stated("exam", true),
            stated("gate", written.gate.is_some()),
            stated("budgets", written.budgets.is_some()),
            stated("retention", written.retention.is_some()),
            stated("notify", written.notify.is_some()),
            stated("home", written.home.is_some()),
        ]);
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_has_its_origin() {
        let text = "
model: gemma4
models:
  gemma4: { model: models/gemma, data: { raw: data/splits-gemma4 }, train: lora-gemma.yaml }
  qwen: { model: models/qwen, data: { raw: data/splits-carmack }, train: lora-qwen.yaml }
exam: { suite: suite.json }
";
        let file = NightFile::from_yaml(text, "night.yaml").unwrap();
        let choice = ModelChoice::Named { name: "qwen".into(), by: ModelChoice::VARIABLE };
        let settings = file.settings(&choice).unwrap();
        let line =
            |setting: &Setting| format!("{}: {} ({})", setting.key, setting.value, setting.origin);
        let lines: Vec<_> = settings.iter().map(line).collect();
        for expected in [
            "chosen: qwen (SANCTUM_TRAIN_MODEL)",
            "model: models/qwen (models.qwen)",
            "data: {\"raw\":\"data/splits-carmack\"} (models.qwen)",
            "budgets: {\"wall_clock\":\"6h\",\"disk\":1000000000} (default)",
            "gate: built in (default)",
        ] {
            assert!(lines.iter().any(|line| line == expected), "{expected}\n{lines:#?}");
        }
    }
}
