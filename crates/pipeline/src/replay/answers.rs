//! The base model's answers to neutral prompts, kept in the home.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::PathBuf;

use chat_format::{ChatTokenizer, Message, RenderOptions};
use durable::Digest;
use enrich::neutral::NeutralPrompt;
use eval::{Agent, Finish, Sampling};
use models::{Adapter, FinishReason, GenerateOptions, Generator};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::exam_model::ExamModel;
use crate::files::private_dir;
use crate::files::read_if_there;
use crate::home::Home;

/// Prompts that are answered together. A line of the log has the answers of one batch, so that a killed run repeats whole
/// batches and gives the same answers.
pub(crate) const BATCH: usize = 32;

/// A prompt and the agent that is asked, if any.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub prompt: &'a NeutralPrompt,
    pub agent: Option<&'a Agent>,
}

impl Asked<'_> {
    /// The tokens of the prompt.
    pub fn tokens(&self, tokenizer: &ChatTokenizer) -> Result<Vec<u32>> {
        let system = self.agent.map(|agent| Message::system(agent.system_prompt()));
        let user = Message::user(&self.prompt.text);
        let messages: Vec<Message> = system.into_iter().chain([user]).collect();
        Ok(tokenizer.prompt_tokens(&messages, &RenderOptions::default())?)
    }
}

/// An answer of the base model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct BaseAnswer {
    /// Digest of the prompt's tokens.
    prompt: Digest,
    /// The new tokens, without the one that ended the answer.
    pub tokens: Vec<u32>,
    pub finish: Finish,
}

/// A prompt and its answer.
pub(crate) type Answered<'a> = (Asked<'a>, BaseAnswer);

/// Asks the base model, or finds its answers of earlier nights.
///
/// The answers of one model and sampling are in one file, found by the digest of both; an answer is found by the tokens of
/// its prompt, which include the system prompt and the template.
pub(crate) struct BaseAnswers<'a> {
    opened: &'a ExamModel,
    tokenizer: &'a ChatTokenizer,
    sampling: Sampling,
    log: PathBuf,
    known: HashMap<Digest, BaseAnswer>,
}

impl<'a> BaseAnswers<'a> {
    /// Opens the answers of a model, which has the digest `sha256`, with this sampling.
    pub fn open(
        home: &Home,
        sha256: Digest,
        opened: &'a ExamModel,
        tokenizer: &'a ChatTokenizer,
        sampling: Sampling,
    ) -> Result<Self> {
        let Sampling { max_tokens, temperature, top_p, seed } = sampling;
        // Greedy answers do not depend on the seed.
        let random = (temperature > 0.0).then_some((temperature, top_p, seed));
        let arithmetic = opened.model.arithmetic();
        let key = durable::digest(format!("{sha256} {arithmetic} {max_tokens} {random:?}"));
        private_dir(&home.replay())?;
        let log = home.replay().join(format!("{key}.jsonl"));
        let text = read_if_there(&log)?.unwrap_or_default();
        // A line that a kill has torn does not parse; its batch is answered again.
        let batches = text.split(|byte| *byte == b'\n');
        let batches =
            batches.filter_map(|line| serde_json::from_slice::<Vec<BaseAnswer>>(line).ok());
        let known = batches.flatten().map(|answer| (answer.prompt, answer)).collect();
        Ok(Self { opened, tokenizer, sampling, log, known })
    }

    /// Calls `on_batch` with the answers of each batch of prompts, in order, until it breaks.
    pub fn ask<'p>(
        &mut self,
        asked: &[Asked<'p>],
        on_batch: &mut dyn FnMut(&[Answered<'p>]) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        for batch in asked.chunks(BATCH) {
            let prompts = batch
                .iter()
                .map(|asked| asked.tokens(self.tokenizer))
                .collect::<Result<Vec<_>>>()?;
            self.answer(&prompts)?;
            let found = batch.iter().zip(&prompts).filter_map(|(asked, prompt)| {
                Some((*asked, self.known.get(&digest(prompt))?.clone()))
            });
            if on_batch(&found.collect::<Vec<_>>())?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Answers the prompts that have no answer yet.
    fn answer(&mut self, prompts: &[Vec<u32>]) -> Result<()> {
        let unknown = |prompt: &&Vec<u32>| !self.known.contains_key(&digest(prompt));
        let prompts: Vec<&Vec<u32>> = prompts.iter().filter(unknown).collect();
        if prompts.is_empty() {
            return Ok(());
        }
        let Sampling { max_tokens, temperature, top_p, seed } = self.sampling;
        let options = GenerateOptions {
            max_tokens,
            temperature,
            top_p,
            seed,
            stop_ids: self.tokenizer.stop_ids().to_vec(),
            ..self.opened.options.clone()
        };
        let model = &self.opened.model;
        let adapter = Adapter::none(model);
        let completions = Generator::new(model, &adapter)?.generate(&prompts, &options)?;
        let answers: Vec<BaseAnswer> = prompts
            .iter()
            .zip(completions)
            .map(|(prompt, completion)| BaseAnswer {
                prompt: digest(prompt),
                tokens: completion.tokens,
                finish: match completion.finish {
                    FinishReason::Stop => Finish::Stop,
                    FinishReason::Length => Finish::Length,
                },
            })
            .collect();
        let line = serde_json::to_string(&answers).map_err(|e| Error::Record {
            path: self.log.clone(),
            line: None,
            expected: "answers that serialize to JSON",
            found: e.to_string(),
        })?;
        durable::append_line(&self.log, &line)?;
        self.known.extend(answers.into_iter().map(|answer| (answer.prompt, answer)));
        Ok(())
    }
}

fn digest(prompt: &[u32]) -> Digest {
    durable::digest(prompt.iter().flat_map(|token| token.to_le_bytes()).collect::<Vec<u8>>())
}
