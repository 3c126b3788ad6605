//! After a promotion: what serves now is asked some of what it was promoted for.

use std::path::Path;

use chat_format::ChatTokenizer;
use durable::Digest;
use eval::{Exam as Paper, ExamOptions, ModelAnswerer, Outcome, Record, Subject, Suite};
use models::{Adapter, Model};

use super::exam::Exams;
use crate::error::Result;
use crate::model::BaseModel;
use crate::registry::Registry;
use crate::stage::Desk;

/// How many questions are asked again.
const QUESTIONS: usize = 8;
/// The share of its exam's score on them that an adapter has to reach.
const SHARE: f64 = 0.75;

/// The questions, and who answered them in the exam.
pub(crate) struct Smoke<'a> {
    /// The base model.
    pub model: &'a BaseModel,
    /// The exam's suite.
    pub suite: &'a Suite,
    /// How it was put.
    pub options: &'a ExamOptions,
    /// How the candidate did.
    pub exams: &'a Exams,
}

impl Smoke<'_> {
    /// Opens the adapter as whoever serves it would, from the registry, and puts the questions that
    /// it did best on. `Some` says why it must not serve: a file that changed, an answer with
    /// nothing in it, answers that are not those of the exam.
    pub fn problem(
        &self,
        desk: &mut Desk<'_>,
        registry: &Registry,
        adapter: Digest,
    ) -> Result<Option<String>> {
        desk.progress(0, 0, "asking the new champion");
        let exam = self.exams.candidate.load(desk.night())?;
        let asked = best(&exam.records);
        let mut suite = self.suite.clone();
        suite.cases.retain(|case| asked.iter().any(|record| record.case == case.id));
        let answers = match self.answers(&suite, &desk.dir().join("smoke"), registry, adapter) {
            Ok(answers) => answers,
            // The fault is the adapter's, which is what this is here to find out.
            Err(error) => return Ok(Some(error.to_string())),
        };
        if let Some(empty) = answers.iter().find(|record| record.answer.trim().is_empty()) {
            return Ok(Some(format!("{}: expected an answer, found nothing", empty.case)));
        }
        let (found, expected) = (mean(answers.iter()), mean(asked.iter().copied()));
        let problem = format!(
            "{} questions of the exam asked again: expected a score of {:.2}, found {found:.2}",
            suite.cases.len(),
            SHARE * expected,
        );
        Ok((found < SHARE * expected).then_some(problem))
    }

    fn answers(
        &self,
        suite: &Suite,
        dir: &Path,
        registry: &Registry,
        digest: Digest,
    ) -> Result<Vec<Record>> {
        let folder = registry.verified(digest)?;
        let model = Model::open(&self.model.path)?;
        let tokenizer = ChatTokenizer::open(&self.model.path)?;
        let adapter = Adapter::load(folder, &model)?;
        let subject = Subject {
            model: self.model.name(),
            model_digest: Some(self.model.sha256),
            adapter: Some("champion".to_owned()),
            adapter_digest: Some(digest),
        };
        let mut answerer = ModelAnswerer::new(&model, &adapter, &tokenizer, subject)?;
        let paper = Paper::new(suite, self.options.clone());
        let (Outcome::Complete(run) | Outcome::Partial { run, .. }) =
            paper.sit(&mut answerer, dir, &mut |_| ())?;
        Ok(run.records)
    }
}

/// The records with the highest scores, the earlier first.
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
