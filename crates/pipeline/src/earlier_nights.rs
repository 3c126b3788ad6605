//! What earlier nights of a home have done, for stages whose results another night takes over.

use std::path::{Path, PathBuf};

use durable::Digest;
use serde_json::Value;

use crate::error::Result;
use crate::home::Home;
use crate::journal::Journal;
use crate::nights;
use crate::stages::StageName;

/// The nights of a home before one of them, newest first.
#[derive(Default)]
pub(crate) struct EarlierNights(Vec<Earlier>);

struct Earlier {
    dir: PathBuf,
    journal: Journal,
}

/// A run of a stage in an earlier night.
pub(crate) struct EarlierRun<'a> {
    /// The night's folder.
    pub night: &'a Path,
    /// Seconds and output, if it came to its end.
    pub finished: Option<(f64, &'a Value)>,
}

impl EarlierNights {
    /// Those before the night with the id `id`. One whose journal cannot be read is left out, with a warning.
    pub fn before(home: &Home, id: &str) -> Result<Self> {
        let mut nights: Vec<_> =
            nights::list(home)?.into_iter().take_while(|night| night.id != id).collect();
        nights.reverse();
        let open = |night: nights::NightId| match night.journal(home) {
            Ok(journal) => Some(Earlier { dir: night.dir(home), journal }),
            Err(error) => {
                tracing::warn!("nothing is taken over from night {}: {error}", night.id);
                None
            }
        };
        Ok(Self(nights.into_iter().filter_map(open).collect()))
    }

    /// The folders of those that are finished, newest first.
    pub fn finished(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().filter(|night| night.journal.is_finished()).map(|night| night.dir.as_path())
    }

    /// The runs of `stage` on the input with this digest, newest first.
    pub fn runs(&self, stage: StageName, key: Digest) -> impl Iterator<Item = EarlierRun<'_>> {
        self.0.iter().filter_map(move |Earlier { dir, journal }| {
            let finished = journal.finished(stage, key);
            let there = finished.is_some() || journal.last_begun(stage) == Some(key);
            there.then_some(EarlierRun { night: dir, finished })
        })
    }
}
