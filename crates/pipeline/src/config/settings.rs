//! The effective values of a configuration file, and where they come from.

use std::fmt;

use serde::Serialize;

use super::{ModelChoice, NightConfig, NightFile};
use crate::data_plan::{Treatment, given_splits};
use crate::error::Result;
use crate::home::Home;
use crate::stages::enrich::EnrichmentRecipe;

/// An effective value, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Setting {
    /// The key in the file; of a household's file, `household.NAME`.
    pub key: String,
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
    /// The enrichment recipe that the file names.
    Recipe,
    /// The rows themselves.
    Data,
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
            Origin::Recipe => f.pad("enrich"),
            Origin::Data => f.pad("data"),
            Origin::Override(by) => f.pad(by),
            Origin::Default => f.pad("default"),
        }
    }
}

impl NightFile {
    /// All effective values of a night with the chosen model. Of the files that it names only the enrichment recipe and
    /// the rows of given splits are read: the first may name files of the household, the second decide what is done to them.
    ///
    /// # Errors
    /// As [`choose`](Self::choose), and a recipe or rows that cannot be used.
    pub fn settings(&self, choice: &ModelChoice) -> Result<Vec<Setting>> {
        let (_, name) = self.setup(choice)?;
        let config = self.choose(choice)?;
        let effective = serde_json::to_value(&config).unwrap_or_default();
        let value = |key: &str| match effective.get(key) {
            None | Some(serde_json::Value::Null) if key == "gate" => "built in".to_owned(),
            None | Some(serde_json::Value::Null) => "none".to_owned(),
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        let setting =
            |key: &str, origin| Setting { key: key.to_owned(), value: value(key), origin };
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
            settings.push(Setting { key: "chosen".to_owned(), value: name.clone(), origin });
        }
        settings.extend([
            of_setup("model"),
            of_setup("data"),
            of_setup("train"),
            match config.setup.preference {
                Some(_) => of_setup("preference"),
                None => setting("preference", Origin::Default),
            },
            stated("max_refused_share", written.max_refused_share.is_some()),
            stated("scrub", written.scrub.is_some()),
            stated("merge_logs", written.merge_logs.is_some()),
            enrichment(&config)?,
            stated("replay", written.replay.is_some()),
        ]);
        settings.extend(household(&config)?);
        settings.extend([
            stated("exam", true),
            stated("forgetting", written.forgetting.is_some()),
            stated("gate", written.gate.is_some()),
            stated("budgets", written.budgets.is_some()),
            stated("when_unchanged", written.when_unchanged.is_some()),
            stated("retention", written.retention.is_some()),
            stated("serving", written.serving.is_some()),
            stated("preflight", written.preflight.is_some()),
            stated("notify", written.notify.is_some()),
            home(&config),
        ]);
        Ok(settings)
    }
}

/// What is done to the rows. Where the file does not say, the rows decide.
fn enrichment(config: &NightConfig) -> Result<Setting> {
    let (value, origin) = match (&config.enrich, given_splits(config)?) {
        (Some(choice), None) => (choice.to_string(), Origin::File),
        (None, None) => ("balanced".to_owned(), Origin::Default),
        (choice, given) => {
            let origin = if choice.is_some() { Origin::File } else { Origin::Data };
            (Treatment::of(config, given.as_ref())?.to_string(), origin)
        }
    };
    Ok(Setting { key: "enrich".to_owned(), value, origin })
}

/// The files of the household.
fn household(config: &NightConfig) -> Result<Vec<Setting>> {
    let recipe = EnrichmentRecipe::load(config)?;
    let recipe = recipe.files_of_household();
    let own_council = recipe.agents.is_some();
    let of_night = config.household.entries().into_iter();
    let settings = of_night.zip(recipe.entries()).map(|((key, own), (_, effective))| {
        let origin = match (own, effective) {
            (Some(_), _) => Origin::File,
            (None, Some(_)) => Origin::Recipe,
            (None, None) => Origin::Default,
        };
        let value = match effective {
            Some(path) => path.display().to_string(),
            // No facts and personas are shipped.
            None if matches!(key, "facts" | "personas") => "none".to_owned(),
            None if key == "situations" && own_council => "none".to_owned(),
            None if key == "routing" && own_council => {
                "built in, but for agents that the council does not have".to_owned()
            }
            None => "built in".to_owned(),
        };
        Setting { key: format!("household.{key}"), value, origin }
    });
    Ok(settings.collect())
}

/// The home, with the folder that the default stands for.
fn home(config: &NightConfig) -> Setting {
    let origin = if config.home.is_some() { Origin::File } else { Origin::Default };
    let home = config.home.clone().or_else(Home::default_path);
    let value = home.map_or("none".to_owned(), |home| home.display().to_string());
    Setting { key: "home".to_owned(), value, origin }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_household_come_from_the_night_or_its_recipe() {
        let folder = tempfile::tempdir().unwrap();
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("routing.yaml", "[]");
        write("identity.yaml", "[{ id: who, asks: [Who?], answers: ['{Name}.'] }]");
        write("enrich.yaml", "inputs: [x]\nhousehold: { routing: routing.yaml }\n");
        let text = "
model: demo
data: { raw: [a.jsonl, logs] }
train: lora.yaml
scrub: [phone, email, phone]
enrich: enrich.yaml
household: { identity: identity.yaml }
exam: { suite: suite.json }
";
        let path = folder.path().join("night.yaml");
        let settings = |text: &str| {
            let file = NightFile::from_yaml(text, &path)?;
            file.settings(&ModelChoice::Default)
        };
        let line = |s: &Setting| format!("{}: {} ({})", s.key, s.value, s.origin);
        let lines: Vec<_> = settings(text).unwrap().iter().map(line).collect();
        let at = |name: &str| folder.path().join(name).display().to_string();
        for expected in [
            format!("household.identity: {} (file)", at("identity.yaml")),
            format!("household.routing: {} (enrich)", at("routing.yaml")),
            format!("enrich: {} (file)", at("enrich.yaml")),
            "scrub: [\"phone\",\"email\"] (file)".to_owned(),
        ] {
            assert!(lines.contains(&expected), "{expected}\n{lines:#?}");
        }
        for (from, to, words) in [
            ("identity:", "routing:", "household.routing: expected one file, found two"),
            ("identity.yaml }", "none.yaml }", "none.yaml"),
            ("[phone,", "[fax,", ":5:"),
            ("household: {", "household: { agent: x,", "agent"),
            ("[a.jsonl, logs]", "[]", "data.raw: expected at least one path"),
            ("[a.jsonl, logs]", "{ a: b }", "expected a path or a list of paths"),
        ] {
            let error = settings(&text.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(words), "{to}: {error}");
        }
    }

    #[test]
    fn addresses_and_tokens_are_not_shown() {
        let file = |notify: &str| {
            let text = format!(
                "model: demo\ndata: {{ raw: r }}\ntrain: t\nexam: {{ suite: s }}\nnotify: {notify}\n"
            );
            NightFile::from_yaml(&text, "night.yaml")
        };
        let notify = r#"{ webhook: "https://me:MARK@ntfy.sh/MARK", token: MARK, format: ntfy }"#;
        let settings = file(notify).unwrap().settings(&ModelChoice::Default).unwrap();
        let shown = settings.iter().find(|setting| setting.key == "notify").unwrap().value.clone();
        assert!(shown.contains("https://ntfy.sh/…") && shown.contains("(hidden)"), "{shown}");
        let config = file(notify).unwrap().choose(&ModelChoice::Default).unwrap();
        assert!(!shown.contains("MARK") && !format!("{config:?}").contains("MARK"), "{config:?}");
        for (notify, words) in [
            ("{ webhook: 'https://MARK/${MARK' }", "notify.yaml"),
            ("{ token: '${MARK}' }", "notify.token: belongs to a `webhook`"),
            ("{ format: slack }", "notify.format: belongs to a `webhook`"),
            ("{ webhook: MARK, format: teams }", "ntfy"),
        ] {
            let error = file(notify).unwrap_err().to_string();
            let words = words.replace("notify.yaml", "the name of an environment variable");
            assert!(error.contains(&words) && !error.contains("MARK"), "{notify}: {error}");
        }
    }

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
            "when_unchanged: skip (default)",
            "replay: none (default)",
            "preference: none (default)",
            "enrich: balanced (default)",
            "scrub: none (default)",
            "household.council: built in (default)",
            "household.facts: none (default)",
        ] {
            assert!(lines.iter().any(|line| line == expected), "{expected}\n{lines:#?}");
        }
    }
}
