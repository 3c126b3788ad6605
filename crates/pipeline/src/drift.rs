//! How far candidate and champion have moved from the base model, on the base's own answers to neutral prompts.

use std::ops::ControlFlow;
use std::ops::Range;

use chat_format::ChatTokenizer;
use durable::Digest;
use enrich::neutral::{NeutralPrompt, NeutralPrompts, Personas};
use eval::{Council, Drift, Sampling};
use models::{Adapter, Divergence, ScoreRow, divergence};
use serde::Serialize;

use crate::config::ForgettingConfig;
use crate::error::Result;
use crate::exam_model::ExamModel;
use crate::home::Home;
use crate::replay::{Asked, BaseAnswers};
use crate::stage::StageContext;

/// The seed of the order from which prompts are taken: the same ones on every night.
const SEED: u64 = 0;

/// The prompts on which models are compared.
#[derive(Debug, Serialize)]
pub(crate) struct DriftPlan {
    max_tokens: usize,
    sha256: Digest,
    #[serde(skip)]
    prompts: Vec<NeutralPrompt>,
}

impl DriftPlan {
    /// Chooses the prompts; `None` if the drift is not measured.
    pub fn load(config: Option<&ForgettingConfig>) -> Result<Option<Self>> {
        let Some(config) = config.filter(|config| config.prompts > 0) else { return Ok(None) };
        let mut prompts = NeutralPrompts::embedded()?.in_order(SEED);
        prompts.truncate(config.prompts);
        let texts: String = prompts.iter().map(|prompt| format!("{}\0", prompt.text)).collect();
        let sha256 = durable::digest(texts);
        Ok(Some(Self { max_tokens: config.max_tokens, sha256, prompts }))
    }

    /// The prompts, which must not be trained.
    pub fn prompts(&self) -> &[NeutralPrompt] {
        &self.prompts
    }
}

/// The base's answers: prompt and answer in one sequence, and the range of the answer.
pub(crate) struct BaseSequences(Vec<(Vec<u32>, [Range<usize>; 1])>);

impl DriftPlan {
    /// The prompts, half of them under the personas of the council.
    fn asked<'a>(&'a self, council: &'a Council) -> impl Iterator<Item = Asked<'a>> {
        let prompts = self.prompts.iter();
        prompts.map(|prompt| Asked { prompt, agent: prompt.agent(Personas::Mixed, council) })
    }

    /// Tokens of the longest prompt with an answer of full length.
    pub fn longest(&self, tokenizer: &ChatTokenizer, council: &Council) -> Result<usize> {
        let tokens = self.asked(council).map(|asked| Ok(asked.tokens(tokenizer)?.len()));
        let longest = tokens.collect::<Result<Vec<_>>>()?.into_iter().max();
        Ok(longest.unwrap_or_default() + self.max_tokens)
    }

    /// The base's own greedy answers, under the personas of the council for half of the prompts. Answers that the token
    /// limit cuts off count as far as they go.
    pub fn sequences(
        &self,
        ctx: &mut StageContext<'_>,
        (model, sha256): (&ExamModel, Digest),
        tokenizer: &ChatTokenizer,
        council: &Council,
        home: &Home,
    ) -> Result<BaseSequences> {
        let sampling = Sampling { max_tokens: self.max_tokens, ..Sampling::default() };
        let mut answers = BaseAnswers::open(home, sha256, model, tokenizer, sampling)?;
        let asked: Vec<_> = self.asked(council).collect();
        let (mut found, total) = (Vec::new(), asked.len() as u64);
        answers.ask(&asked, &mut |batch| {
            found.extend(batch.iter().map(|(asked, answer)| (*asked, answer.tokens.clone())));
            ctx.progress(found.len() as u64, total, "the base answers neutral prompts");
            ctx.budgets.interrupt().check()?;
            Ok(ControlFlow::Continue(()))
        })?;
        let mut sequences = Vec::with_capacity(found.len());
        for (asked, answer) in found.into_iter().filter(|(_, answer)| !answer.is_empty()) {
            let mut tokens = asked.tokens(tokenizer)?;
            let start = tokens.len();
            tokens.extend(answer);
            let end = tokens.len();
            sequences.push((tokens, [start..end]));
        }
        Ok(BaseSequences(sequences))
    }
}

impl BaseSequences {
    /// The drift of a model under an adapter; `name` is for messages.
    pub fn drift(
        &self,
        ctx: &mut StageContext<'_>,
        opened: &ExamModel,
        adapter: &Adapter,
        name: &str,
    ) -> Result<Drift> {
        let model = &opened.model;
        let none = Adapter::none(model);
        let rows: Vec<ScoreRow> =
            self.0.iter().map(|(tokens, scored)| ScoreRow { tokens, scored }).collect();
        let mut sum = Divergence::default();
        let mut rest = rows.as_slice();
        while !rest.is_empty() {
            let (part, later) = rest.split_at(within(rest, opened.compared_at_once));
            rest = later;
            let parts = divergence(model, &none, adapter, part)?;
            sum = parts.into_iter().chain([sum]).sum();
            ctx.budgets.interrupt().check()?;
            let (done, total) = ((rows.len() - rest.len()) as u64, rows.len() as u64);
            ctx.progress(done, total, &format!("comparing the {name} with the base"));
        }
        let (answers, tokens) = (rows.len(), sum.tokens);
        let (kl, perplexity_ratio) = match tokens {
            0 => (0.0, 1.0),
            _ => (sum.mean_kl(), sum.perplexity_ratio()),
        };
        Ok(Drift { answers, tokens, kl, perplexity_ratio })
    }
}

/// The number of rows at the beginning that have at most `tokens` tokens together, and at least 1.
fn within(rows: &[ScoreRow<'_>], tokens: usize) -> usize {
    let mut sum = 0;
    let fit = rows.iter().take_while(|row| {
        sum += row.tokens.len();
        sum <= tokens
    });
    fit.count().max(1)
}
