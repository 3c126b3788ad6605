//! Second opinions on what answers do with requests.

use std::error::Error as StdError;

use super::record::{Opinion, Record};
use super::run::ExamRun;
use crate::error::{Error, Result};
use crate::scoring::refusal::Stance;
use crate::scoring::text::Text;

/// Gives a second opinion on whether an answer refuses, beside the pattern-based
/// [classifier](crate::classify_refusal). People can compare the two; neither scores nor the gate use it.
pub trait StanceJudge {
    /// The judge's name, such as that of its model.
    fn name(&self) -> String;

    /// What the answer does with the request; none if the judge's reply names no stance or several.
    fn stance(
        &mut self,
        request: &str,
        answer: &str,
    ) -> std::result::Result<Option<Stance>, Box<dyn StdError + Send + Sync>>;
}

impl ExamRun {
    /// Asks a judge about the answers in categories that are about [refusing](crate::Category::refusal), except those
    /// that it was asked about before. Opinions found before a failure are kept, and a further call continues after them;
    /// the caller [saves](ExamRun::save) the run.
    ///
    /// # Errors
    /// If the judge fails; the error names the case.
    pub fn ask(
        &mut self,
        judge: &mut dyn StanceJudge,
        on_opinion: &mut dyn FnMut(&Record),
    ) -> Result<()> {
        let by = judge.name();
        for record in &mut self.records {
            let category = self.manifest.council.category(record.category.as_str());
            let about_refusing = category.is_some_and(|category| category.refusal.is_some());
            if !about_refusing || record.opinion.as_ref().is_some_and(|known| known.by == by) {
                continue;
            }
            let answer = Text::of_answer(&record.answer);
            let stance = judge
                .stance(&record.question, answer.shown())
                .map_err(|source| Error::Judge { case: record.case.clone(), source })?;
            record.opinion = Some(Opinion { by: by.clone(), stance });
            on_opinion(record);
        }
        Ok(())
    }
}
