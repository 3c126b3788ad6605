//! Pipeline Config: the night's own file.

use std::path::{Path, PathBuf};

use eval::{
    Answer, Answerer, Case, Exam, ExamOptions, ExamRun, Finish, Outcome, Question, Sampling,
};
use eval::{Subject, Suite};

use super::finding::Finding;
use super::scene::Scene;
use crate::config::{Choice, DataSource, ModelSource, NightConfig};

/// A name that the household's pipeline has always had, with the model, recipe and data behind it.
struct Known {
    name: &'static str,
    model: &'static str,
    train: &'static str,
    data: &'static str,
}

const GEMMA: Known = Known {
    name: "gemma4",
    model: "models/gemma-4-31B-it-4bit",
    train: "configs/lora-gemma4-31b.yaml",
    data: "data/splits-gemma4",
};

const QWEN: Known = Known {
    name: "qwen",
    model: "models/Qwen3.5-27B-Claude-Opus-Distilled-v2-4bit",
    train: "configs/lora-carmack-overnight.yaml",
    data: "data/splits-carmack",
};

impl Known {
    /// What of a night's paths is not as it has always been.
    fn differences(&self, config: &NightConfig) -> Vec<String> {
        let model = PathBuf::from(config.setup.model.clone());
        let data = match &config.setup.data {
            DataSource::Raw(path) => path.clone(),
            DataSource::Household { facts, .. } => facts.clone(),
        };
        let pairs = [
            ("model", model, self.model),
            ("train", config.setup.train.clone(), self.train),
            ("data", data, self.data),
        ];
        pairs
            .into_iter()
            .filter(|(_, found, expected)| !found.ends_with(expected))
            .map(|(key, found, expected)| {
                let name = self.name;
                format!("models.{name}.{key}: expected {expected}, found {}", found.display())
            })
            .collect()
    }
}

fn named(name: &str) -> Choice {
    Choice::Named { name: name.to_owned(), by: Choice::VARIABLE }
}

/// Unless somebody says otherwise, the night trains Gemma 4.
pub(super) fn default_gemma4(scene: &Scene<'_>) -> Finding {
    if !scene.file.names().any(|name| name == GEMMA.name) {
        return Finding::skipped("the file has no gemma4 among its `models`");
    }
    match scene.file.default_model() {
        default if default == GEMMA.name => match scene.choice {
            Choice::Default => Finding::passed("gemma4, tonight too"),
            Choice::Named { name, by } => {
                Finding::passed(format!("gemma4; tonight {name} by {by}"))
            }
        },
        other => Finding::failed(format!("model: expected gemma4, found {other}")),
    }
}

/// All that tonight's choice names is there, and gemma4 names what it has always named.
pub(super) fn paths(scene: &Scene<'_>) -> Finding {
    let mut problems = missing(&scene.config);
    if scene.file.names().any(|name| name == GEMMA.name) {
        match scene.file.choose(&named(GEMMA.name)) {
            Ok(config) => problems.extend(GEMMA.differences(&config)),
            Err(error) => problems.push(error.to_string()),
        }
    }
    Finding::of(&problems, "model, recipe, data, suite and policy are there")
}

/// The files of a night that are not there.
fn missing(config: &NightConfig) -> Vec<String> {
    let model = match &config.setup.model {
        ModelSource::Path(path) => Some(path.as_path()),
        // Fetched when it is needed.
        ModelSource::Demo => None,
    };
    let (DataSource::Raw(data) | DataSource::Household { facts: data, .. }) = &config.setup.data;
    let named: [(&str, Option<&Path>); 6] = [
        ("model", model),
        ("data", Some(data)),
        ("train", Some(&config.setup.train)),
        ("enrich", config.enrich.as_deref()),
        ("exam.suite", Some(&config.exam.suite)),
        ("gate", config.gate.as_deref()),
    ];
    let gone = named.into_iter().filter_map(|(key, path)| Some((key, path?)));
    let gone = gone.filter(|(_, path)| !path.exists());
    gone.map(|(key, path)| format!("{key}: nothing at {}", path.display())).collect()
}

/// `SANCTUM_TRAIN_MODEL=qwen` takes what it has always taken, and a name that nobody knows is
/// refused with the list of those that are.
pub(super) fn qwen_fallback(scene: &Scene<'_>) -> Finding {
    let names: Vec<_> = scene.file.names().collect();
    if names.is_empty() {
        return Finding::skipped("the file has one model and no `models` to choose from");
    }
    let config = match scene.file.choose(&named(QWEN.name)) {
        Ok(config) => config,
        Err(error) => return Finding::failed(error),
    };
    let mut problems = QWEN.differences(&config);
    if scene.file.choose(&named("no such model")).is_ok() {
        problems.push("a name that nobody knows was accepted".to_owned());
    }
    let here = match missing(&config).len() {
        0 => "",
        _ => " (not on this machine)",
    };
    Finding::of(&problems, format!("{}{here}", QWEN.model))
}

/// A score reaches the gate as the exam gave it. (A pipe that was cut short once made every
/// candidate's score 0, four nights long.)
pub(super) fn score_fix(scene: &Scene<'_>) -> Finding {
    scene.suite.needed("the suite", |suite| {
        let mut suite = suite.clone();
        suite.cases.truncate(ANSWERS);
        let suite = &suite;
        let right = Key { suite, name: "right", text: |case| &case.pass };
        let wrong = Key { suite, name: "wrong", text: |case| &case.fail };
        let problems: Vec<_> = [(right, 1.0), (wrong, 0.0)]
            .into_iter()
            .filter_map(|(key, expected)| {
                let name = key.name;
                match score(key, suite, &scene.night.join("score-fix").join(name)) {
                    Ok(found) if found == expected => None,
                    Ok(found) => Some(format!(
                        "the {name} answers: expected a score of {expected}, read back {found}"
                    )),
                    Err(error) => Some(error.to_string()),
                }
            })
            .collect();
        Finding::of(&problems, "all right answers are read back as 1, all wrong ones as 0")
    })
}

/// So many answers show it: each is written and synced like an exam's.
const ANSWERS: usize = 24;

/// Sits the exam and reads the score back from the files, as the gate does.
fn score(mut key: Key<'_>, suite: &Suite, folder: &Path) -> eval::Result<f64> {
    let options = ExamOptions::default();
    match Exam::new(suite, options).sit(&mut key, folder, &mut |_| ())? {
        Outcome::Complete(_) => Ok(ExamRun::load(folder)?.summary()?.overall.score),
        Outcome::Partial { .. } => Ok(f64::NAN),
    }
}

/// Answers as the suite's own samples do.
struct Key<'a> {
    suite: &'a Suite,
    name: &'static str,
    /// A sample of a case.
    text: fn(&Case) -> &String,
}

impl Answerer for Key<'_> {
    fn subject(&self) -> Subject {
        let model = format!("{} answers", self.name);
        Subject { model, model_digest: None, adapter: None, adapter_digest: None }
    }

    fn answer(
        &mut self,
        questions: &[Question<'_>],
        _: &Sampling,
    ) -> Result<Vec<Answer>, Box<dyn std::error::Error + Send + Sync>> {
        let answer = |question: &Question<'_>| {
            let asked =
                |case: &&Case| case.turns == question.turns && case.system == question.system;
            let case = self.suite.cases.iter().find(asked).ok_or("a question of no case")?;
            Ok(Answer {
                text: (self.text)(case).clone(),
                finish: Finish::Stop,
                prompt_tokens: 0,
                tokens: 0,
                latency: std::time::Duration::ZERO,
            })
        };
        questions.iter().map(answer).collect()
    }
}
