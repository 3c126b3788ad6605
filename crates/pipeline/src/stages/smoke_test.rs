//! The smoke test after a promotion: repeats some exam questions with the registered adapter.

use durable::Digest;
use eval::suite::Speaker;
use eval::{ExamOptions, ExamRun, ModelAnswerer, Outcome, Record, Subject, Suite, Tier};
use models::{Adapter, Model};
use serde_json::{Value, json};

use crate::base_model::BaseModel;
use crate::error::Result;
use crate::registry::Registry;
use crate::stage::StageContext;

/// Number of questions asked again.
const QUESTIONS: usize = 8;
/// The required score, as a fraction of the adapter's exam score on the same questions.
const REQUIRED: f64 = 0.75;

pub(crate) struct SmokeTest<'a> {
    pub model: &'a BaseModel,
    pub suite: &'a Suite,
    pub options: &'a ExamOptions,
    /// The candidate's exam run.
    pub candidate: &'a ExamRun,
}

impl SmokeTest<'_> {
    /// Loads the adapter from the registry and asks the questions with its best exam scores. Returns
    /// why it must not stay champion: a changed file, an empty answer, or scores below those of the
    /// exam; `None` if it passes.
    pub fn problem(
        &self,
        ctx: &mut StageContext<'_>,
        registry: &Registry,
        adapter: Digest,
    ) -> Result<Option<String>> {
        ctx.progress(0, 0, "smoke-testing the new champion");
        let asked = best(&self.candidate.records);
        let mut suite = self.suite.clone();
        suite.cases.retain(|case| asked.iter().any(|record| record.case == case.id));
        let answers = match self.answers(ctx, &suite, registry, adapter) {
            Ok(answers) => answers,
            // An adapter that cannot be loaded or run fails the test, not the stage.
            Err(error) => return Ok(Some(error.to_string())),
        };
        if let Some(empty) = answers.iter().find(|record| record.answer.trim().is_empty()) {
            return Ok(Some(format!("{}: expected an answer, found an empty one", empty.category)));
        }
        let (found, expected) = (mean(answers.iter()), mean(asked.iter().copied()));
        let problem = format!(
            "{} questions of the exam asked again: expected a score of at least {:.2}, found {found:.2}",
            suite.cases.len(),
            REQUIRED * expected,
        );
        Ok((found < REQUIRED * expected).then_some(problem))
    }

    /// A question that the candidate answered well, as the messages of a chat. Never a held-out one: a
    /// server may record what it is asked, and what is recorded may be trained.
    pub fn question(&self) -> Value {
        let shown = self.candidate.records.iter().filter(|record| record.tier != Tier::HeldOut);
        let best = shown.max_by(|a, b| a.score.value.total_cmp(&b.score.value));
        let case = best.and_then(|best| self.suite.cases.iter().find(|case| case.id == best.case));
        let Some(case) = case else {
            return json!([{ "role": "user", "content": "Are you there?" }]);
        };
        let system =
            (!case.system.is_empty()).then(|| json!({ "role": "system", "content": case.system }));
        let turns = case.turns.iter().map(|turn| {
            let role = match turn.role {
                Speaker::User => "user",
                Speaker::Assistant => "assistant",
            };
            json!({ "role": role, "content": turn.content })
        });
        system.into_iter().chain(turns).collect()
    }

    fn answers(
        &self,
        ctx: &StageContext<'_>,
        suite: &Suite,
        registry: &Registry,
        digest: Digest,
    ) -> Result<Vec<Record>> {
        let folder = registry.verified(digest)?;
        let model = Model::open(&self.model.path)?;
        let tokenizer = ctx.tokenizer(&self.model.path)?;
        let adapter = Adapter::load(folder, &model)?;
        let subject = Subject {
            model: self.model.name(),
            model_digest: Some(self.model.sha256),
            adapter: Some("champion".to_owned()),
            adapter_digest: Some(digest),
        };
        let mut answerer = ModelAnswerer::new(&model, &adapter, &tokenizer, subject)?;
        let exam = eval::Exam::new(suite, self.options.clone());
        let (Outcome::Complete(run) | Outcome::Partial { run, .. }) =
            exam.sit(&mut answerer, ctx.dir.join("smoke"), &mut |_| ())?;
        Ok(run.records)
    }
}

/// The records with the highest scores, in exam order among equals.
fn best(records: &[Record]) -> Vec<&Record> {
    let mut records: Vec<_> = records.iter().collect();
    records.sort_by(|a, b| b.score.value.total_cmp(&a.score.value));
    records.truncate(QUESTIONS);
    records
}

fn mean<'a>(records: impl ExactSizeIterator<Item = &'a Record>) -> f64 {
    let count = records.len().max(1);
    records.map(|record| record.score.value).sum::<f64>() / count as f64
}
