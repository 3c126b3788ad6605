//! Exams that are answered by the weights of the running server.

use std::path::Path;
use std::time::{Duration, Instant};

use chat_format::ChatTokenizer;
use durable::Digest;
use eval::{Answer, Answerer, Finish, Question, Sampling, Subject, question_tokens};
use serde_json::{Value, json};

use crate::base_model::BaseModel;
use crate::config::ServingConfig;
use crate::error::{Error, Result};
use crate::registry::BaseRegistry;
use crate::serving;

/// How long one answer may take: a server answers others too.
const ANSWER: Duration = Duration::from_secs(600);

/// An exam at a server, which serves the candidate meanwhile. Dropped, it does so no longer.
pub(crate) struct ServedExam<'a> {
    endpoint: &'a str,
    /// The time for the server to serve what is asked for.
    limit: Duration,
    model: &'a BaseModel,
    registry: &'a BaseRegistry,
}

impl<'a> ServedExam<'a> {
    /// Tells the server of the candidate: its digest and folder.
    ///
    /// # Errors
    /// If `serving/BASE.json` cannot be written.
    pub fn begin(
        config: &'a ServingConfig,
        model: &'a BaseModel,
        registry: &'a BaseRegistry,
        candidate: (Digest, &Path),
    ) -> Result<Self> {
        let home = registry.all().home();
        serving::publish_candidate(home, model, &registry.state()?, candidate)?;
        let endpoint = config.endpoint.as_deref().unwrap_or_default();
        Ok(Self { endpoint, limit: config.time_limit.0, model, registry })
    }

    /// Whether the server answers as the base model: asked before the training, not after it.
    ///
    /// # Errors
    /// [`Error::Server`] if it does not, or if it has another base model.
    pub fn check(config: &ServingConfig, model: &BaseModel) -> Result<()> {
        let endpoint = config.endpoint.as_deref().unwrap_or_default();
        let body = json!({ "model": "base", "prompt": "?", "max_tokens": 1 });
        let answered = patiently(endpoint, config.time_limit.0, "base", || {
            let reply = serving::post(endpoint, "completions", &body, ANSWER)?;
            check_fingerprint(&reply, &fingerprint(model, None))
        });
        answered.map_err(Error::Server)
    }

    /// Who answers as the model that the server has under the name of the subject's adapter, or as the base model.
    pub fn answerer<'e>(
        &'e self,
        tokenizer: &'e ChatTokenizer,
        subject: Subject,
    ) -> ServedAnswerer<'e> {
        let fingerprint = fingerprint(self.model, subject.adapter_digest);
        ServedAnswerer { exam: self, tokenizer, subject, fingerprint }
    }
}

impl Drop for ServedExam<'_> {
    fn drop(&mut self) {
        let home = self.registry.all().home();
        let state = self.registry.state();
        if let Err(error) = state.and_then(|state| serving::publish(home, self.model, &state)) {
            tracing::error!("the server still serves the candidate by that name: {error}");
        }
    }
}

/// How the fingerprints begin of answers under an adapter, or of the base model's.
fn fingerprint(base: &BaseModel, adapter: Option<Digest>) -> String {
    let adapter = adapter.map_or_else(|| "base".to_owned(), |adapter| adapter.short());
    format!("fp_{}_{adapter}_", base.sha256.short())
}

fn check_fingerprint(reply: &Value, begins: &str) -> std::result::Result<(), String> {
    let found = reply["system_fingerprint"].as_str().unwrap_or_default();
    match found.starts_with(begins) {
        true => Ok(()),
        false => Err(format!("the fingerprint {found:?} instead of {begins:?}")),
    }
}

/// Asks until there is an answer or the time is over: a server may be busy, or still load what is asked for.
fn patiently<T>(
    endpoint: &str,
    limit: Duration,
    model: &str,
    mut ask: impl FnMut() -> std::result::Result<T, String>,
) -> std::result::Result<T, String> {
    let begun = Instant::now();
    loop {
        match ask() {
            Ok(answer) => return Ok(answer),
            Err(found) if begun.elapsed() + serving::PAUSE >= limit => {
                return Err(format!(
                    "serving.endpoint: {endpoint}: expected an answer of {model}, found {found}"
                ));
            }
            Err(_) => std::thread::sleep(serving::PAUSE),
        }
    }
}

/// Answers through `/v1/completions`, which no server records as chats.
pub(crate) struct ServedAnswerer<'e> {
    exam: &'e ServedExam<'e>,
    tokenizer: &'e ChatTokenizer,
    subject: Subject,
    /// How the fingerprint of every answer begins: base model and adapter.
    fingerprint: String,
}

impl ServedAnswerer<'_> {
    /// The answer to a prompt. What is not served yet, and a server that is busy, are waited for.
    fn one(&self, prompt: &[u32], sampling: &Sampling) -> std::result::Result<Answer, String> {
        let model = self.subject.adapter.as_deref().unwrap_or("base");
        let Sampling { max_tokens, temperature, top_p, seed } = *sampling;
        let body = json!({
            "model": model, "prompt": prompt, "max_tokens": max_tokens, "temperature": temperature,
            "top_p": top_p, "seed": seed,
        });
        let ServedExam { endpoint, limit, .. } = *self.exam;
        patiently(endpoint, limit, model, || {
            let asked = Instant::now();
            let reply = serving::post(endpoint, "completions", &body, ANSWER)?;
            check_fingerprint(&reply, &self.fingerprint)?;
            self.read(&reply, prompt, asked)
        })
    }

    fn read(
        &self,
        reply: &Value,
        prompt: &[u32],
        asked: Instant,
    ) -> std::result::Result<Answer, String> {
        let choice = &reply["choices"][0];
        let count =
            |key: &str| reply["usage"][key].as_u64().and_then(|it| usize::try_from(it).ok());
        let finish = match choice["finish_reason"].as_str() {
            Some("stop") => Some(Finish::Stop),
            Some("length") => Some(Finish::Length),
            _ => None,
        };
        let (prompt_tokens, tokens) = (count("prompt_tokens"), count("completion_tokens"));
        match (choice["text"].as_str(), finish, prompt_tokens, tokens) {
            (Some(text), Some(finish), Some(prompt_tokens), Some(tokens))
                if prompt_tokens == prompt.len() =>
            {
                let (text, latency) = (text.to_owned(), asked.elapsed());
                Ok(Answer { text, finish, prompt_tokens, tokens, latency })
            }
            _ => Err(format!("{reply:.200}")),
        }
    }
}

impl Answerer for ServedAnswerer<'_> {
    fn subject(&self) -> Subject {
        self.subject.clone()
    }

    fn answer(
        &mut self,
        questions: &[Question<'_>],
        sampling: &Sampling,
    ) -> std::result::Result<Vec<Answer>, Box<dyn std::error::Error + Send + Sync>> {
        let prompts = questions.iter().map(|question| question_tokens(self.tokenizer, question));
        let prompts = prompts.collect::<chat_format::Result<Vec<_>>>()?;
        let this = &*self;
        // All at once: the server answers them as a batch.
        std::thread::scope(|scope| {
            let asked: Vec<_> =
                prompts.iter().map(|it| scope.spawn(move || this.one(it, sampling))).collect();
            let joined = asked.into_iter().map(|one| {
                let panicked = |_| Err("a request to the server panicked".to_owned());
                Ok(one.join().unwrap_or_else(panicked)?)
            });
            joined.collect()
        })
    }
}
