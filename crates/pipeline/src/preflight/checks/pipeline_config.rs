//! Pipeline Config: the night's configuration.

use std::path::{Path, PathBuf};

use eval::{
    Answer, Answerer, Case, Exam, ExamOptions, ExamRun, Finish, Outcome, Question, Sampling,
};
use eval::{Subject, Suite};

use crate::config::{DataSource, Enrichment, ModelChoice, ModelSource, NightConfig, NightFile};
use crate::preference::Recipes;
use crate::preflight::finding::Finding;
use crate::preflight::rehearsal::Rehearsal;

/// The default model can be trained: its files exist and its recipe loads.
pub(super) fn default_model(rehearsal: &Rehearsal<'_>) -> Finding {
    let file = rehearsal.file;
    if file.names().next().is_none() {
        return Finding::not_needed("the file has one model");
    }
    let default = file.default_model();
    let problems = problems(file, &ModelChoice::Default);
    match rehearsal.choice {
        ModelChoice::Named { name, by } if *name != default => match problems.first() {
            None => Finding::passed(format!("{default}; tonight {name} by {by}")),
            Some(problem) => Finding::warning(format!("{problem}; tonight {name} by {by}")),
        },
        _ => Finding::of(&problems, format!("{default}, tonight too")),
    }
}

/// All files of tonight's configuration exist.
pub(super) fn paths(rehearsal: &Rehearsal<'_>) -> Finding {
    Finding::of(&missing(&rehearsal.config), "model, recipe, data, suite and policy exist")
}

/// What keeps a night with this choice of model from starting.
fn problems(file: &NightFile, choice: &ModelChoice) -> Vec<String> {
    let config = match file.choose(choice) {
        Ok(config) => config,
        Err(error) => return vec![error.to_string()],
    };
    let missing = missing(&config);
    match Recipes::load(&config) {
        Err(error) if missing.is_empty() => vec![error.to_string()],
        _ => missing,
    }
}

/// The files of a configuration that do not exist.
fn missing(config: &NightConfig) -> Vec<String> {
    let model = match &config.setup.model {
        ModelSource::Path(path) => Some(path.as_path()),
        // Fetched when needed.
        ModelSource::Demo => None,
    };
    let data: Vec<&Path> = match &config.setup.data {
        DataSource::Raw(paths) | DataSource::RawAndChats { raw: paths, .. } => {
            paths.iter().collect()
        }
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

/// The models that tonight's can be replaced by: the others of the file, but for the demo.
pub(super) fn fallbacks(file: &NightFile) -> Vec<String> {
    let default = file.default_model();
    let is_demo = |name: &str| {
        let config = file.choose(&named(name));
        config.is_ok_and(|config| config.setup.model == ModelSource::Demo)
    };
    let others = file.names().filter(|name| *name != default && !is_demo(name));
    others.map(str::to_owned).collect()
}

/// The other models of the file can be trained, by the variable that names them; an unknown name is refused.
pub(super) fn fallback(rehearsal: &Rehearsal<'_>) -> Finding {
    let file = rehearsal.file;
    let names = fallbacks(file);
    if names.is_empty() {
        return Finding::not_needed("the file has no other model");
    }
    if file.choose(&named("no such model")).is_ok() {
        return Finding::failed("an unknown model name was accepted");
    }
    let unfit = |name: &String| {
        let problems = problems(file, &named(name));
        problems.first().map(|problem| format!("{name}: {problem}"))
    };
    let unfit: Vec<_> = names.iter().filter_map(unfit).collect();
    match unfit.is_empty() {
        true => Finding::passed(format!("{}=NAME: {}", ModelChoice::VARIABLE, names.join(", "))),
        false => Finding::warning(unfit.join("; ")),
    }
}

fn named(name: &str) -> ModelChoice {
    ModelChoice::Named { name: name.to_owned(), by: ModelChoice::VARIABLE }
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
