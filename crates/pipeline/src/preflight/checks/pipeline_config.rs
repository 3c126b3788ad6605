//! Pipeline Config: the night's configuration.

use std::path::{Path, PathBuf};

use eval::{
    Answer, Answerer, Case, Exam, ExamOptions, ExamRun, Finish, Outcome, Question, Sampling,
};
use eval::{Subject, Suite};

use crate::config::{DataSource, Enrichment, ModelChoice, ModelSource, NightConfig};
use crate::preflight::finding::Finding;
use crate::preflight::rehearsal::Rehearsal;

/// A model name of the seed's pipeline, with the paths that it stands for.
struct ExpectedPaths {
    name: &'static str,
    model: &'static str,
    train: &'static str,
    data: &'static str,
}

const GEMMA: ExpectedPaths = ExpectedPaths {
    name: "gemma4",
    model: "models/gemma-4-31B-it-4bit",
    train: "configs/lora-gemma4-31b.yaml",
    data: "data/splits-gemma4",
};

const QWEN: ExpectedPaths = ExpectedPaths {
    name: "qwen",
    model: "models/Qwen3.5-27B-Claude-Opus-Distilled-v2-4bit",
    train: "configs/lora-carmack-overnight.yaml",
    data: "data/splits-carmack",
};

impl ExpectedPaths {
    /// The paths of a configuration that differ from the expected ones.
    fn differences(&self, config: &NightConfig) -> Vec<String> {
        let model = PathBuf::from(config.setup.model.clone());
        let data = match &config.setup.data {
            DataSource::Raw(paths) => {
                paths.iter().next().map(Path::to_path_buf).unwrap_or_default()
            }
            DataSource::Household { facts, .. } => facts.clone(),
            DataSource::Chats(days) => PathBuf::from(format!("chats: {days}")),
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

fn named(name: &str) -> ModelChoice {
    ModelChoice::Named { name: name.to_owned(), by: ModelChoice::VARIABLE }
}

/// The default model is Gemma 4.
pub(super) fn default_gemma4(rehearsal: &Rehearsal<'_>) -> Finding {
    if !rehearsal.file.names().any(|name| name == GEMMA.name) {
        return Finding::skipped("the file has no gemma4 among its `models`");
    }
    match rehearsal.file.default_model() {
        default if default == GEMMA.name => match rehearsal.choice {
            ModelChoice::Default => Finding::passed("gemma4, tonight too"),
            ModelChoice::Named { name, by } => {
                Finding::passed(format!("gemma4; tonight {name} by {by}"))
            }
        },
        other => Finding::failed(format!("model: expected gemma4, found {other}")),
    }
}

/// All files of tonight's configuration exist, and gemma4 has its expected paths.
pub(super) fn paths(rehearsal: &Rehearsal<'_>) -> Finding {
    let mut problems = missing(&rehearsal.config);
    if rehearsal.file.names().any(|name| name == GEMMA.name) {
        match rehearsal.file.choose(&named(GEMMA.name)) {
            Ok(config) => problems.extend(GEMMA.differences(&config)),
            Err(error) => problems.push(error.to_string()),
        }
    }
    Finding::of(&problems, "model, recipe, data, suite and policy exist")
}

/// The files of a configuration that do not exist.
fn missing(config: &NightConfig) -> Vec<String> {
    let model = match &config.setup.model {
        ModelSource::Path(path) => Some(path.as_path()),
        // Fetched when needed.
        ModelSource::Demo => None,
    };
    let data: Vec<&Path> = match &config.setup.data {
        DataSource::Raw(paths) => paths.iter().collect(),
        DataSource::Household { facts, .. } => vec![facts],
        // Looked for when the rows are read.
        DataSource::Chats(_) => Vec::new(),
    };
    let enrich = match &config.enrich {
        Some(Enrichment::File(path)) => Some(path.as_path()),
        _ => None,
    };
    let prompts = config.replay.as_ref().and_then(|replay| replay.prompts.as_deref());
    let named: [(&str, Option<&Path>); 7] = [
        ("model", model),
        ("train", Some(&config.setup.train)),
        ("preference", config.setup.preference.as_deref()),
        ("enrich", enrich),
        ("replay.prompts", prompts),
        ("exam.suite", Some(&config.exam.suite)),
        ("gate", config.gate.as_deref()),
    ];
    let household = config.household.entries();
    let household = household.iter().map(|(key, path)| (*key, path.map(PathBuf::as_path)));
    let named = named.into_iter().chain(data.into_iter().map(|path| ("data", Some(path))));
    let gone = named.chain(household).filter_map(|(key, path)| Some((key, path?)));
    let gone = gone.filter(|(_, path)| !path.exists());
    gone.map(|(key, path)| format!("{key}: no such file or folder: {}", path.display())).collect()
}

/// `SANCTUM_TRAIN_MODEL=qwen` chooses the expected paths, and an unknown name is an error.
pub(super) fn qwen_fallback(rehearsal: &Rehearsal<'_>) -> Finding {
    let names: Vec<_> = rehearsal.file.names().collect();
    if names.is_empty() {
        return Finding::skipped("the file has one model and no `models` to choose from");
    }
    let config = match rehearsal.file.choose(&named(QWEN.name)) {
        Ok(config) => config,
        Err(error) => return Finding::failed(error),
    };
    let mut problems = QWEN.differences(&config);
    if rehearsal.file.choose(&named("no such model")).is_ok() {
        problems.push("an unknown model name was accepted".to_owned());
    }
    let here = match missing(&config).len() {
        0 => "",
        _ => " (not on this machine)",
    };
    Finding::of(&problems, format!("{}{here}", QWEN.model))
}

/// Scores survive writing and reading: right answers are read back as 1, wrong ones as 0. (A truncated
/// pipe once made every candidate's score 0 for four nights.)
pub(super) fn score_fix(rehearsal: &Rehearsal<'_>) -> Finding {
    rehearsal.suite.needed("the suite", |suite| {
        let mut suite = suite.clone();
        suite.cases.truncate(ANSWERS);
        let suite = &suite;
        let right = ScriptedAnswers { suite, name: "right", text: |case| &case.pass };
        let wrong = ScriptedAnswers { suite, name: "wrong", text: |case| &case.fail };
        let problems: Vec<_> = [(right, 1.0), (wrong, 0.0)]
            .into_iter()
            .filter_map(|(answers, expected)| {
                let name = answers.name;
                match score(answers, suite, &rehearsal.night.join("score-fix").join(name)) {
                    Ok(found) if found == expected => None,
                    Ok(found) => Some(format!(
                        "the {name} answers: expected a score of {expected}, read back {found}"
                    )),
                    Err(error) => Some(error.to_string()),
                }
            })
            .collect();
        Finding::of(&problems, "right answers are read back as 1, wrong ones as 0")
    })
}

/// Number of answers; each is written and synced as in an exam.
const ANSWERS: usize = 24;

/// Runs an exam and reads the score back from its files.
fn score(mut answers: ScriptedAnswers<'_>, suite: &Suite, folder: &Path) -> eval::Result<f64> {
    let options = ExamOptions::default();
    match Exam::new(suite, options).sit(&mut answers, folder, &mut |_| ())? {
        Outcome::Complete(_) => Ok(ExamRun::load(folder)?.summary()?.overall.score),
        Outcome::Partial { .. } => Ok(f64::NAN),
    }
}

/// Answers with the suite's sample answers.
struct ScriptedAnswers<'a> {
    suite: &'a Suite,
    name: &'static str,
    /// Selects the sample answer of a case.
    text: fn(&Case) -> &String,
}

impl Answerer for ScriptedAnswers<'_> {
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
            let case =
                self.suite.cases.iter().find(asked).ok_or("a question that is not in the suite")?;
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
