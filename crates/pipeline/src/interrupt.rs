//! A request to stop a night.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use eval::{Answer, Answerer, Question, Sampling, Subject};

use crate::error::{Error, Result};

/// Asks a running night to stop in good order: after the current update of a training, the current batch of an exam, or
/// the current stage. The next start resumes it. Clones share one request.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicUsize>);

impl Interrupt {
    /// The request that a signal handler makes by storing the signal's number, which is 0 before.
    pub fn by_signal(number: Arc<AtomicUsize>) -> Self {
        Self(number)
    }

    /// The number of the signal, if there was one.
    pub fn signal(&self) -> Option<u8> {
        u8::try_from(self.0.load(Ordering::Relaxed)).ok().filter(|number| *number > 0)
    }

    /// Fails if the night should stop.
    pub(crate) fn check(&self) -> Result<()> {
        self.signal().map_or(Ok(()), |signal| Err(Error::Interrupted { signal }))
    }
}

/// Answers an exam until the night should stop.
pub(crate) struct UntilInterrupted<'a> {
    pub answerer: &'a mut dyn Answerer,
    pub interrupt: &'a Interrupt,
}

impl Answerer for UntilInterrupted<'_> {
    fn subject(&self) -> Subject {
        self.answerer.subject()
    }

    fn answer(
        &mut self,
        questions: &[Question<'_>],
        sampling: &Sampling,
    ) -> std::result::Result<Vec<Answer>, Box<dyn std::error::Error + Send + Sync>> {
        self.interrupt.check()?;
        self.answerer.answer(questions, sampling)
    }
}
