//! Answers to the standing exam, kept from night to night.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chat_format::ChatTokenizer;
use durable::Digest;
use eval::{Answer, Answerer, Finish, Question, Sampling, Subject};
use serde::{Deserialize, Serialize};

use crate::base_model::rendering;
use crate::error::{Result, io_error};
use crate::files;
use crate::files::private_dir;
use crate::home::Home;

/// The answers of a base model with and without adapters, one file each: named by the digest of base model, adapter, how the
/// model is computed, and version of this crate. Each base model has a folder, so that nights on one model keep the answers of
/// another.
///
/// An answer is found by the digest of the case's prompt and of the sampling options. Sampled answers (temperature above 0)
/// are not kept, as they depend on the other cases of their batch.
pub(crate) struct AnswerCache {
    root: PathBuf,
    /// The files used since the cache was opened.
    used: Vec<PathBuf>,
}

/// A line of a file.
#[derive(Serialize, Deserialize)]
struct Kept {
    key: Digest,
    text: String,
    finish: Finish,
    prompt_tokens: usize,
    tokens: usize,
}

/// Answers from the cache; asks the model for the others and keeps them.
pub(crate) struct CachedAnswerer<'a> {
    model: &'a mut dyn Answerer,
    path: PathBuf,
    kept: HashMap<Digest, Kept>,
    /// What a prompt is rendered with, besides the question: another template or date makes another prompt.
    rendering: Digest,
}

impl AnswerCache {
    /// Opens the answers of the base model with this digest.
    pub fn open(home: &Home, base: Digest) -> Result<Self> {
        let root = home.answers().join(base.to_string());
        private_dir(&root)?;
        Ok(Self { root, used: vec![] })
    }

    /// The answers of a model, and the model for those that are missing. `arithmetic` is how it is computed.
    pub fn answerer<'a>(
        &mut self,
        model: &'a mut dyn Answerer,
        arithmetic: &str,
        tokenizer: &ChatTokenizer,
    ) -> Result<CachedAnswerer<'a>> {
        let path = self.root.join(format!("{}.jsonl", name(&model.subject(), arithmetic)));
        let kept = read(&path)?;
        self.used.push(path.clone());
        let rendering = rendering(tokenizer);
        Ok(CachedAnswerer { model, path, kept, rendering })
    }

    /// Deletes the answers under adapters that have not been asked since the cache was opened.
    pub fn forget_others(&self) -> Result<()> {
        for path in files::list(&self.root)? {
            if !self.used.contains(&path) {
                fs::remove_file(&path).map_err(io_error(&path, "delete"))?;
            }
        }
        Ok(())
    }
}

fn name(subject: &Subject, arithmetic: &str) -> Digest {
    let Subject { model_digest, adapter_digest, .. } = subject;
    let version = env!("CARGO_PKG_VERSION");
    durable::digest(format!("{version} {model_digest:?} {adapter_digest:?} {arithmetic}"))
}

/// The lines that can be read. One that cannot is asked again: a killed process leaves at most a torn one.
fn read(path: &Path) -> Result<HashMap<Digest, Kept>> {
    let bytes = files::read_if_there(path)?.unwrap_or_default();
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let kept = lines.filter_map(|line| match serde_json::from_slice::<Kept>(line) {
        Ok(kept) => Some((kept.key, kept)),
        Err(error) => {
            tracing::warn!(
                "{}: an answer cannot be read and is asked again: {error}",
                path.display()
            );
            None
        }
    });
    Ok(kept.collect())
}

impl CachedAnswerer<'_> {
    fn key(&self, question: &Question<'_>, sampling: &Sampling) -> Digest {
        let Sampling { max_tokens, temperature, top_p, .. } = sampling;
        let Question { system, tools, turns } = question;
        let rendering = &self.rendering;
        durable::digest(format!(
            "{max_tokens} {temperature} {top_p} {rendering} {system:?} {tools:?} {turns:?}"
        ))
    }
}

impl Answerer for CachedAnswerer<'_> {
    fn subject(&self) -> Subject {
        self.model.subject()
    }

    fn answer(
        &mut self,
        questions: &[Question<'_>],
        sampling: &Sampling,
    ) -> std::result::Result<Vec<Answer>, Box<dyn std::error::Error + Send + Sync>> {
        if sampling.temperature > 0.0 {
            return self.model.answer(questions, sampling);
        }
        let keys: Vec<Digest> = questions.iter().map(|q| self.key(q, sampling)).collect();
        let unknown = |(key, _): &(&Digest, &Question<'_>)| !self.kept.contains_key(*key);
        let (missing, asked): (Vec<Digest>, Vec<Question<'_>>) =
            keys.iter().zip(questions).filter(unknown).unzip();
        if !asked.is_empty() {
            let answers = self.model.answer(&asked, sampling)?;
            for (key, answer) in missing.into_iter().zip(answers) {
                let Answer { text, finish, prompt_tokens, tokens, .. } = answer;
                let kept = Kept { key, text, finish, prompt_tokens, tokens };
                durable::append_line(&self.path, &serde_json::to_string(&kept)?)?;
                self.kept.insert(key, kept);
            }
        }
        let answer = |kept: &Kept| Answer {
            text: kept.text.clone(),
            finish: kept.finish,
            prompt_tokens: kept.prompt_tokens,
            tokens: kept.tokens,
            latency: Duration::ZERO,
        };
        Ok(keys.iter().filter_map(|key| self.kept.get(key)).map(answer).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eval::suite::{Speaker, Turn};

    /// Answers with the number of its calls.
    struct Counting {
        adapter: &'static str,
        asked: usize,
    }

    impl Answerer for Counting {
        fn subject(&self) -> Subject {
            Subject {
                model: "m".into(),
                model_digest: None,
                adapter: None,
                adapter_digest: Some(durable::digest(self.adapter)),
            }
        }

        fn answer(
            &mut self,
            questions: &[Question<'_>],
            _: &Sampling,
        ) -> std::result::Result<Vec<Answer>, Box<dyn std::error::Error + Send + Sync>> {
            self.asked += questions.len();
            let answer = |question: &Question<'_>| Answer {
                text: question.turns[0].content.clone(),
                finish: Finish::Stop,
                prompt_tokens: 1,
                tokens: 1,
                latency: Duration::from_secs(1),
            };
            Ok(questions.iter().map(answer).collect())
        }
    }

    struct Exam {
        home: Home,
        _dir: tempfile::TempDir,
    }

    impl Exam {
        /// The number of questions that the model was asked.
        fn sit(&self, adapter: &'static str, words: &[&str], sampling: &Sampling) -> usize {
            self.sit_on("base", adapter, words, sampling)
        }

        fn sit_on(
            &self,
            base: &str,
            adapter: &'static str,
            words: &[&str],
            sampling: &Sampling,
        ) -> usize {
            let mut cache = AnswerCache::open(&self.home, durable::digest(base)).unwrap();
            let mut model = Counting { adapter, asked: 0 };
            let path = cache.root.join(format!("{}.jsonl", name(&model.subject(), "")));
            let kept = read(&path).unwrap();
            cache.used.push(path.clone());
            let rendering = durable::digest("");
            let mut answerer = CachedAnswerer { model: &mut model, path, kept, rendering };
            let turn = |word: &&str| [Turn { role: Speaker::User, content: (*word).into() }];
            let turns: Vec<_> = words.iter().map(turn).collect();
            let questions: Vec<_> =
                turns.iter().map(|turns| Question { system: "s", turns, tools: &[] }).collect();
            let answers = answerer.answer(&questions, sampling).unwrap();
            let texts: Vec<_> = answers.iter().map(|answer| answer.text.as_str()).collect();
            assert_eq!(texts, words);
            cache.forget_others().unwrap();
            model.asked
        }
    }

    #[test]
    fn only_what_has_changed_is_asked() {
        let dir = tempfile::tempdir().unwrap();
        let exam = Exam { home: Home::open(dir.path()).unwrap(), _dir: dir };
        let greedy = Sampling::default();
        let longer = Sampling { max_tokens: 7, ..greedy };
        let warm = Sampling { temperature: 0.5, ..greedy };
        for (adapter, words, sampling, asked) in [
            ("a", ["1", "2"].as_slice(), greedy, 2),
            ("a", &["2", "1"], greedy, 0),
            ("a", &["1", "3", "2"], greedy, 1),
            ("a", &["1"], longer, 1),
            ("a", &["1"], warm, 1),
            ("a", &["1"], warm, 1),
            ("a", &["1", "2", "3"], greedy, 0),
            // Another adapter; the answers of the first are then forgotten.
            ("b", &["1", "2"], greedy, 2),
            ("a", &["1"], greedy, 1),
        ] {
            assert_eq!(exam.sit(adapter, words, &sampling), asked, "{adapter} {words:?}");
        }
    }

    #[test]
    fn nights_on_one_base_model_keep_the_answers_of_another() {
        let dir = tempfile::tempdir().unwrap();
        let exam = Exam { home: Home::open(dir.path()).unwrap(), _dir: dir };
        let greedy = Sampling::default();
        for (base, asked) in [("gemma", 1), ("qwen", 1), ("gemma", 0), ("qwen", 0)] {
            assert_eq!(exam.sit_on(base, "a", &["1"], &greedy), asked, "{base}");
        }
    }

    #[test]
    fn a_torn_line_is_asked_again() {
        let dir = tempfile::tempdir().unwrap();
        let exam = Exam { home: Home::open(dir.path()).unwrap(), _dir: dir };
        assert_eq!(exam.sit("a", &["1", "2"], &Sampling::default()), 2);
        let folder = exam.home.answers().join(durable::digest("base").to_string());
        let file = files::list(&folder).unwrap().remove(0);
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, &text[..text.len() - 9]).unwrap();
        assert_eq!(exam.sit("a", &["1", "2"], &Sampling::default()), 1);
        assert_eq!(exam.sit("a", &["1", "2"], &Sampling::default()), 0);
    }
}
