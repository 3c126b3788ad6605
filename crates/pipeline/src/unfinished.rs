//! The unfinished night of a home, and giving it up.

use crate::error::Result;
use crate::home::Home;
use crate::journal::{Entry, NightState};
use crate::lock::Lock;
use crate::{nights, report};

/// A night that the next start would resume.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnfinishedNight {
    /// Its number and start date.
    pub id: String,
    /// The stage in which it stopped, and why; `None` if it runs, or stopped between two stages.
    pub stopped_by: Option<String>,
}

impl UnfinishedNight {
    /// The unfinished night of a home, if there is one.
    ///
    /// # Errors
    /// A journal that cannot be read.
    pub fn of(home: &Home) -> Result<Option<Self>> {
        let Some((night, NightState::Unfinished)) = nights::last(home)? else { return Ok(None) };
        let stopped_by = nights::stopped_by(&night.journal(home)?);
        Ok(Some(Self { id: night.id, stopped_by }))
    }

    /// Gives up the unfinished night of a home, so that the next start begins a new one. Its journal records the reason, and
    /// its files stay where they are. `None` if there is no such night.
    ///
    /// # Errors
    /// [`Error::Busy`](crate::Error::Busy) if it runs; a journal that cannot be read or written.
    pub fn abandon(home: &Home, reason: &str) -> Result<Option<Self>> {
        let _lock = Lock::acquire(&home.lock_file())?;
        let Some(night) = Self::of(home)? else { return Ok(None) };
        if let Some((last, _)) = nights::last(home)? {
            last.journal(home)?.append(Entry::NightAbandoned { reason: reason.to_owned() })?;
        }
        if let Err(error) = report::write_index(home) {
            tracing::warn!("cannot write the index: {error}");
        }
        Ok(Some(night))
    }
}
