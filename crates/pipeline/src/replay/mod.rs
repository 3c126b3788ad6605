//! Replay: rows that the base model answered itself.

mod answers;

use std::ops::ControlFlow;
use std::path::PathBuf;

use chat_format::{ChatTokenizer, Conversation, clean, jsonl, reasoning};
use durable::Digest;
use enrich::neutral::{NeutralPrompt, NeutralPrompts};
use enrich::{EnrichConfig, GeneratorData};
use eval::{Finish, answer_text};
use serde::{Deserialize, Serialize};

use answers::BATCH;
pub(crate) use answers::{Asked, BaseAnswer, BaseAnswers};

use crate::base_model::BaseModel;
use crate::budget_monitor::StopReason;
use crate::config::ReplayConfig;
use crate::error::Result;
use crate::exam_model::{ExamModel, ExamWork};
use crate::home::Home;
use crate::stage::StageContext;

/// The prompts of a night's replay, and how they are answered.
#[derive(Debug, Serialize)]
pub(crate) struct ReplayPlan {
    config: ReplayConfig,
    /// Digest of all prompts in their order.
    sha256: Digest,
    #[serde(skip)]
    prompts: NeutralPrompts,
}

impl ReplayPlan {
    /// Reads the prompts, but for those that are `measured`; `None` if replay is off.
    pub fn load(config: Option<&ReplayConfig>, measured: &[NeutralPrompt]) -> Result<Option<Self>> {
        let Some(config) = config.filter(|config| config.share > 0.0) else { return Ok(None) };
        let mut prompts = NeutralPrompts::embedded()?;
        if let Some(path) = &config.prompts {
            let repeated;
            (prompts, repeated) = prompts.and(NeutralPrompts::load(path)?);
            if repeated > 0 {
                tracing::warn!(repeated, path = %path.display(), "prompts repeat others and are left out");
            }
        }
        let prompts = prompts.without(measured);
        let texts = prompts.iter().map(|prompt| format!("{}\0{}\0", prompt.kind, prompt.text));
        let sha256 = durable::digest(texts.collect::<String>());
        // The path is not what the answers depend on.
        let config = ReplayConfig { prompts: None, ..config.clone() };
        Ok(Some(Self { config, sha256, prompts }))
    }
}

/// A plan with the model that answers.
#[derive(Serialize)]
pub(crate) struct Replay<'a> {
    pub plan: &'a ReplayPlan,
    pub model: &'a BaseModel,
    /// The home, which keeps the answers.
    #[serde(skip)]
    pub home: &'a Home,
}

/// The rows that the base model answered.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Replayed {
    /// Rows that give the configured share.
    pub wanted: usize,
    /// Rows made.
    pub rows: usize,
    /// Prompts asked, those with a cached answer included.
    pub asked: usize,
    /// Answers left out because the token limit cut them off.
    pub cut: usize,
    /// Answers left out because they are blank or contain control tokens.
    pub unusable: usize,
}

impl Replayed {
    /// A warning if there are fewer rows than wanted.
    pub fn warning(&self) -> Option<String> {
        let Self { wanted, rows, asked, cut, unusable } = self;
        (rows < wanted).then(|| {
            format!(
                "replay has {rows} rows of {wanted}: of {asked} prompts asked, {cut} answers were cut off and {unusable} \
                 not usable; raise replay.limit or replay.sampling.max_tokens, or add prompts"
            )
        })
    }
}

impl Replay<'_> {
    /// Writes the rows into the stage's folder and returns their file.
    ///
    /// They are as many as give, with `others` more rows, the configured share of all rows, and in an order that repeats every
    /// night, so that the answers of earlier nights are used again.
    pub fn rows(
        &self,
        ctx: &mut StageContext<'_>,
        enrichment: &EnrichConfig,
        others: usize,
    ) -> Result<(PathBuf, Replayed)> {
        let ReplayPlan { config, prompts, .. } = self.plan;
        let council = GeneratorData::load(&enrichment.council)?.council;
        let wanted = (config.share / (1.0 - config.share) * others as f64).round() as usize;
        let prompts = prompts.in_order(config.seed);
        let asked = prompts.iter().take(config.limit);
        let asked =
            asked.map(|prompt| Asked { prompt, agent: prompt.agent(config.persona, &council) });
        let asked: Vec<_> = asked.collect();

        ctx.progress(0, wanted as u64, "opening the model");
        let work = ExamWork::answers(BATCH);
        let opened = ExamModel::open(&self.model.path, &[], work, ctx.memory_limit)?;
        let tokenizer = ctx.tokenizer(&self.model.path)?;
        let sampling = eval::Sampling { seed: config.seed, ..config.sampling };
        let mut answers =
            BaseAnswers::open(self.home, self.model.sha256, &opened, &tokenizer, sampling)?;

        let mut replayed = Replayed { wanted, ..Replayed::default() };
        let mut rows = Vec::new();
        let mut stop = None;
        answers.ask(&asked, &mut |batch| {
            for (asked, answer) in batch {
                replayed.asked += 1;
                if rows.len() < wanted {
                    rows.extend(row(asked, answer, &tokenizer, &mut replayed)?);
                }
            }
            ctx.progress(rows.len() as u64, wanted as u64, "the base model answers");
            stop = ctx.budgets.stop(0);
            Ok(match rows.len() >= wanted || stop.is_some() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            })
        })?;
        match stop {
            // Without all rows: the data set would depend on the time.
            Some(StopReason::Deadline) => return Err(ctx.out_of_time()),
            Some(StopReason::Exhausted(error)) => return Err(error),
            None => {}
        }
        replayed.rows = rows.len();
        let path = ctx.dir.join("replay.jsonl");
        let mut writer = jsonl::Writer::create(&path)?;
        rows.iter().try_for_each(|row| writer.write(row))?;
        writer.commit()?;
        Ok((path, replayed))
    }
}

/// The row of an answer; `None`, counted, if the answer is not to be trained.
fn row(
    asked: &Asked<'_>,
    answer: &BaseAnswer,
    tokenizer: &ChatTokenizer,
    counts: &mut Replayed,
) -> Result<Option<Conversation>> {
    if answer.finish == Finish::Length {
        counts.cut += 1;
        return Ok(None);
    }
    let text = answer_text(tokenizer, &answer.tokens)?;
    let text = reasoning::split(&text).answer.trim();
    if text.is_empty() || clean::markup(text).is_some() {
        counts.unusable += 1;
        return Ok(None);
    }
    Ok(Some(asked.prompt.answered(asked.agent, text)))
}
