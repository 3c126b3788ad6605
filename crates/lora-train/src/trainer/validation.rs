//! The loss on rows that are not trained on, and what follows from it.

use std::ops::ControlFlow;
use std::time::Instant;

use super::Trainer;
use crate::config::Batches;
use crate::metrics::{Event, Record};
use crate::{Observer, Result};

impl Trainer {
    /// Measures the loss on the validation rows, by the arithmetic of training.
    pub(super) fn validate(&mut self, observer: &mut dyn Observer) -> Result<ControlFlow<()>> {
        let Some(valid) = &self.data.valid else { return Ok(ControlFlow::Continue(())) };
        let count = match self.config.val_batches {
            Batches::All => valid.rows().len(),
            Batches::AtMost(batches) => valid.rows().len().min(batches * self.config.batch_size),
        };
        if count == 0 {
            return Ok(ControlFlow::Continue(()));
        }
        let begun = Instant::now();
        let rows: Vec<usize> = (0..count).collect();
        let sums = self.engine.loss(&self.factors, self.pack(valid, &rows)?)?;
        let (step, loss) = (self.position.step, sums.mean());
        let event = Event::Validation {
            step,
            loss,
            tokens: sums.trained,
            seconds: begun.elapsed().as_secs_f64(),
        };
        let control = self.record(Record::Event(event), observer)?;
        self.judge(step, loss)?;
        Ok(control)
    }

    /// Remembers the best adapter, and how long ago it was.
    fn judge(&mut self, step: u64, loss: f64) -> Result<()> {
        let needed = self.config.nightshift.early_stop.map_or(0.0, |stop| stop.min_delta);
        if self.position.best.is_none_or(|(_, best)| loss < best - needed) {
            (self.position.best, self.position.stale) = (Some((step, loss)), 0);
            if self.config.nightshift.eval_best {
                let adapter = self.layout.adapter(&self.factors)?;
                self.folder.save_best(&adapter, &self.model, &self.notes()?)?;
            }
        } else {
            self.position.stale += 1;
        }
        Ok(())
    }

    /// Whether the loss has not fallen for too long.
    pub(super) fn gave_up(&self) -> bool {
        let stop = self.config.nightshift.early_stop;
        stop.is_some_and(|stop| self.position.stale > 0 && self.position.stale >= stop.patience)
    }
}
