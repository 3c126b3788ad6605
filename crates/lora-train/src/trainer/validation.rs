//! Validation loss, distance from the base model, best adapter and early stopping.

use std::ops::ControlFlow;
use std::time::Instant;

use super::reference::summary;
use super::{Trainer, and};
use crate::best::Measured;
use crate::config::Batches;
use crate::metrics::{BaseDivergence, Event, Record};
use crate::retention::from_base;
use crate::{Observer, Result};

impl Trainer {
    /// Measures the validation loss and the distance from the base model, as far as there are rows for them.
    pub(super) fn validate(&mut self, observer: &mut dyn Observer) -> Result<ControlFlow<()>> {
        let mut control = ControlFlow::Continue(());
        let mut measured = Measured { step: self.state.step, ..Measured::default() };
        if let Some((loss, event)) = self.validation()? {
            measured.loss = Some(loss);
            control = and(control, self.record(Record::Event(event), observer)?);
        }
        if let Some((kl, event)) = self.retention()? {
            measured.kl = Some(kl);
            control = and(control, self.record(Record::Event(event), observer)?);
        }
        if measured.loss.is_some() || measured.kl.is_some() {
            self.track_best(measured)?;
        }
        Ok(control)
    }

    /// The loss on the validation rows or pairs, with the same arithmetic as in training.
    fn validation(&self) -> Result<Option<(f64, Event)>> {
        let Some(valid) = &self.data.valid else { return Ok(None) };
        let count = match self.config.val_batches {
            Batches::All => valid.examples(),
            Batches::AtMost(batches) => valid.examples().min(batches * self.config.batch_size),
        };
        if count == 0 {
            return Ok(None);
        }
        let begun = Instant::now();
        let examples: Vec<usize> = (0..count).collect();
        let sums = self.engine.loss(&self.factors, self.engine.pack(valid, &examples)?)?;
        let split = self.preference.as_ref().and_then(|terms| terms.valid.as_ref());
        let terms = split.map(|split| split.of(&self.engine, &self.factors, &examples));
        let (loss, preference) =
            summary(terms.transpose()?.map(|(terms, _)| terms).as_ref(), &sums);
        let event = Event::Validation {
            step: self.state.step,
            loss,
            tokens: sums.trained,
            seconds: begun.elapsed().as_secs_f64(),
            preference,
        };
        Ok(Some((loss, event)))
    }

    /// The mean divergence from the base model on the rows for `nightshift.retention`.
    fn retention(&self) -> Result<Option<(f64, Event)>> {
        let rows =
            self.data.retention.as_ref().filter(|_| self.config.nightshift.retention.is_some());
        let Some(rows) = rows else { return Ok(None) };
        let begun = Instant::now();
        let kl = from_base(&self.model, &self.layout.adapter(&self.factors)?, rows)?;
        // Decisions depend on it: all ranks take rank 0's, to the last bit.
        let [[mean, tokens], ..] = self.engine.group().gather([kl.mean.to_bits(), kl.tokens])?[..]
        else {
            return Ok(None);
        };
        let kl = BaseDivergence { mean: f64::from_bits(mean), tokens };
        let (step, seconds) = (self.state.step, begun.elapsed().as_secs_f64());
        Ok(Some((kl.mean, Event::Retention { step, kl, seconds })))
    }

    /// Saves the adapter if it is the best, and counts the validations since then.
    fn track_best(&mut self, measured: Measured) -> Result<()> {
        if measured.improves_on(self.state.best.as_ref(), &self.config.nightshift) {
            (self.state.best, self.state.stale) = (Some(measured), 0);
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
