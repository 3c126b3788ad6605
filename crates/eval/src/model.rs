//! A model as an answerer.

use std::path::Path;
use std::time::{Duration, Instant};

use chat_format::{ChatTokenizer, Message, RenderOptions};
use models::{Adapter, FinishReason, GenerateOptions, Generator, Model};

use crate::error::Result;
use crate::exam::{Answer, Answerer, Finish, Question, Sampling, Subject};
use crate::suite::Speaker;

/// Answers with a model, with or without an adapter. It borrows the model and the tokenizer, so that base, champion and
/// candidate share one copy of the weights.
///
/// ```no_run
/// use eval::{Exam, ExamOptions, ModelAnswerer, Subject, Suite};
///
/// let suite = Suite::load("fixtures/suites/household.json")?;
/// let model = models::Model::open("model.gguf")?;
/// let tokenizer = chat_format::ChatTokenizer::open("model.gguf")?;
/// let adapter = models::Adapter::none(&model);
/// let subject = Subject::of_files("model.gguf", None)?;
/// let mut base = ModelAnswerer::new(&model, &adapter, &tokenizer, subject)?;
/// Exam::new(&suite, ExamOptions::default()).sit(&mut base, "runs/base", &mut |_| {})?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ModelAnswerer<'a> {
    generator: Generator<'a>,
    tokenizer: &'a ChatTokenizer,
    subject: Subject,
    options: GenerateOptions,
}

impl<'a> ModelAnswerer<'a> {
    /// The model with the adapter applied ([`Adapter::none`] for the base model).
    pub fn new(
        model: &'a Model,
        adapter: &'a Adapter,
        tokenizer: &'a ChatTokenizer,
        subject: Subject,
    ) -> models::Result<Self> {
        let (generator, options) = (Generator::new(model, adapter)?, GenerateOptions::default());
        Ok(ModelAnswerer { generator, tokenizer, subject, options })
    }

    /// Generates with these options, of which the exam sets those about sampling and the length of an answer: what is left
    /// is how much memory answers may take.
    pub fn with_options(self, options: GenerateOptions) -> Self {
        ModelAnswerer { options, ..self }
    }
}

/// The tokens of a question as the model is asked it, by its chat template.
///
/// # Errors
/// If the template fails.
pub fn question_tokens(
    tokenizer: &ChatTokenizer,
    question: &Question<'_>,
) -> chat_format::Result<Vec<u32>> {
    let system = (!question.system.is_empty()).then(|| Message::system(question.system));
    let turns = question.turns.iter().map(|turn| match turn.role {
        Speaker::User => Message::user(turn.content.as_str()),
        Speaker::Assistant => Message::assistant(turn.content.as_str()),
    });
    let messages: Vec<Message> = system.into_iter().chain(turns).collect();
    let options = RenderOptions::default().tools(question.tools.to_vec());
    tokenizer.prompt_tokens(&messages, &options)
}

/// The text of an answer with the names of its control tokens, because many models mark reasoning and tool calls by
/// nothing else.
///
/// # Errors
/// If the tokens cannot be decoded.
pub fn answer_text(tokenizer: &ChatTokenizer, tokens: &[u32]) -> chat_format::Result<String> {
    let mut text = String::new();
    for run in tokens.chunk_by(|a, b| tokenizer.is_control(*a) == tokenizer.is_control(*b)) {
        if run.first().is_some_and(|id| tokenizer.is_control(*id)) {
            run.iter().for_each(|id| text += &tokenizer.token(*id));
        } else {
            text += &tokenizer.decode(run)?;
        }
    }
    Ok(text)
}

impl Answerer for ModelAnswerer<'_> {
    fn subject(&self) -> Subject {
        self.subject.clone()
    }

    fn answer(
        &mut self,
        questions: &[Question<'_>],
        sampling: &Sampling,
    ) -> std::result::Result<Vec<Answer>, Box<dyn std::error::Error + Send + Sync>> {
        let start = Instant::now();
        let prompts = questions.iter().map(|question| question_tokens(self.tokenizer, question));
        let prompts = prompts.collect::<chat_format::Result<Vec<_>>>()?;
        let options = GenerateOptions {
            max_tokens: sampling.max_tokens,
            temperature: sampling.temperature,
            top_p: sampling.top_p,
            seed: sampling.seed,
            stop_ids: self.tokenizer.stop_ids().to_vec(),
            ..self.options.clone()
        };
        let completions = self.generator.generate(&prompts, &options)?;
        let latency: Duration = start.elapsed();
        let answers = prompts.iter().zip(completions).map(|(prompt, completion)| {
            Ok(Answer {
                text: answer_text(self.tokenizer, &completion.tokens)?,
                finish: match completion.finish {
                    FinishReason::Stop => Finish::Stop,
                    FinishReason::Length => Finish::Length,
                },
                prompt_tokens: prompt.len(),
                tokens: completion.tokens.len(),
                latency,
            })
        });
        answers.collect()
    }
}

impl Subject {
    /// A model file or folder and, if given, an adapter's folder, with their digests.
    ///
    /// The digest is [`models::model_digest`], by which nights name their models too. It reads all weights once.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn of_files(model: impl AsRef<Path>, adapter: Option<&Path>) -> Result<Subject> {
        let model = model.as_ref();
        let weights = adapter.map(|dir| durable::sha256_file(Adapter::weights_file(dir)));
        Ok(Subject {
            model: model.display().to_string(),
            model_digest: Some(models::model_digest(model)?),
            adapter: adapter.map(|dir| dir.display().to_string()),
            adapter_digest: weights.transpose()?,
        })
    }
}
