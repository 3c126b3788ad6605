//! Validation loss, best adapter and early stopping.

use std::ops::ControlFlow;
use std::time::Instant;

use super::Trainer;
use super::reference::summary;
use crate::config::Batches;
use crate::metrics::{Event, Record};
use crate::{Observer, Result};

impl Trainer {
    /// Measures the loss on the validation rows or pairs, with the same arithmetic as in training.
    pub(super) fn validate(&mut self, observer: &mut dyn Observer) -> Result<ControlFlow<()>> {
        let Some(valid) = &self.data.valid else { return Ok(ControlFlow::Continue(())) };
        let count = match self.config.val_batches {
            Batches::All => valid.examples(),
            Batches::AtMost(batches) => valid.examples().min(batches * self.config.batch_size),
        };
        if count == 0 {
            return Ok(ControlFlow::Continue(()));
        }
        let begun = Instant::now();
        let examples: Vec<usize> = (0..count).collect();
        let sums = self.engine.loss(&self.factors, self.pack(valid, &examples)?)?;
        let split = self.preference.as_ref().and_then(|terms| terms.valid.as_ref());
        let terms = split.map(|split| split.of(&self.engine, &self.factors, &examples));
        let (loss, preference) =
            summary(terms.transpose()?.map(|(terms, _)| terms).as_ref(), &sums);
        let step = self.state.step;
        let event = Event::Validation {
            step,
            loss,
            tokens: sums.trained,
            seconds: begun.elapsed().as_secs_f64(),
            preference,
        };
        let control = self.record(Record::Event(event), observer)?;
        self.track_best(step, loss)?;
        Ok(control)
    }

    /// Saves the adapter if it is the best, and counts the validations since then.
    fn track_best(&mut self, step: u64, loss: f64) -> Result<()> {
        let needed = self.config.nightshift.early_stop.map_or(0.0, |stop| stop.min_delta);
        if self.state.best.is_none_or(|(_, best)| loss < best - needed) {
            (self.state.best, self.state.stale) = (Some((step, loss)), 0);
            if self.config.nightshift.eval_best {
                self.save_adapter(&self.layout.adapter(&self.factors)?, &self.folder.best()?)?;
            }
        } else {
            self.state.stale += 1;
        }
        Ok(())
    }

    /// Whether early stopping ends the run.
    pub(super) fn stops_early(&self) -> bool {
        let stop = self.config.nightshift.early_stop;
        stop.is_some_and(|stop| self.state.stale > 0 && self.state.stale >= stop.patience)
    }
}
