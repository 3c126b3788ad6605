//! The files of a household that replace parts of the built-in data.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The files of a household, each of which replaces a part of the built-in data independently of the others. A
/// night's file, or the recipe of a data set, names them under `household`; `docs/household-files.md` has an example of each.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GeneratorFiles {
    /// The [council file](eval::Council); each of its agents needs `work` and `offers`.
    #[serde(rename = "council", alias = "agents")]
    pub agents: Option<PathBuf>,
    /// The agents' [personas](crate::personas): their system prompts, by agent. They win over those in the rows.
    pub personas: Option<PathBuf>,
    /// The [phrasings](crate::household::Phrasings) of questions about facts and of their answers.
    pub phrasings: Option<PathBuf>,
    /// The jailbreak techniques.
    pub techniques: Option<PathBuf>,
    /// Harmful and benign requests.
    pub requests: Option<PathBuf>,
    /// The questions about an agent's identity.
    pub identity: Option<PathBuf>,
    /// The routing examples.
    pub routing: Option<PathBuf>,
    /// Situations that are handed over or accepted. The built-in ones are of the built-in council: with another `council` and
    /// no such file there are none.
    pub situations: Option<PathBuf>,
    /// Harmless questions that sound alarming.
    pub harmless: Option<PathBuf>,
    /// The parts of refusals.
    pub refusals: Option<PathBuf>,
    /// The household's [facts](crate::Household), about which rows are generated. Without the file, there are none.
    pub facts: Option<PathBuf>,
}

/// References to the files, in the order of [`GeneratorFiles::KEYS`]; mutable ones with `mut`.
macro_rules! in_order {
    ($files:ident $(, $mut:tt)?) => {
        [
            &$($mut)? $files.agents,
            &$($mut)? $files.personas,
            &$($mut)? $files.phrasings,
            &$($mut)? $files.techniques,
            &$($mut)? $files.requests,
            &$($mut)? $files.identity,
            &$($mut)? $files.routing,
            &$($mut)? $files.situations,
            &$($mut)? $files.harmless,
            &$($mut)? $files.refusals,
            &$($mut)? $files.facts,
        ]
    };
}

impl GeneratorFiles {
    /// The keys of the files, in the order of [`entries`](Self::entries).
    pub const KEYS: [&'static str; 11] = [
        "council",
        "personas",
        "phrasings",
        "techniques",
        "requests",
        "identity",
        "routing",
        "situations",
        "harmless",
        "refusals",
        "facts",
    ];

    /// Every key with its file, if one is given.
    pub fn entries(&self) -> [(&'static str, Option<&PathBuf>); 11] {
        let files = in_order!(self);
        std::array::from_fn(|i| (Self::KEYS[i], files[i].as_ref()))
    }

    /// The files in the order of [`KEYS`](Self::KEYS), to be set.
    fn files_mut(&mut self) -> [&mut Option<PathBuf>; 11] {
        in_order!(self, mut)
    }

    /// The files that are given.
    pub(crate) fn given(&self) -> impl Iterator<Item = &PathBuf> {
        self.entries().into_iter().filter_map(|(_, file)| file)
    }

    pub(crate) fn given_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        self.files_mut().into_iter().flatten()
    }

    /// Passes the paths through `resolve`.
    ///
    /// # Errors
    /// The first error of `resolve`.
    pub fn resolved<E>(mut self, resolve: impl Fn(&Path) -> Result<PathBuf, E>) -> Result<Self, E> {
        self.given_mut().try_for_each(|path| resolve(path).map(|resolved| *path = resolved))?;
        Ok(self)
    }

    /// These files, and those of `others` for the keys that have none.
    ///
    /// # Errors
    /// The first key for which both name a file, with the two files.
    pub fn merged(mut self, others: Self) -> Result<Self, (&'static str, PathBuf, PathBuf)> {
        let mine = self.files_mut().into_iter().zip(Self::KEYS);
        for ((own, key), (_, other)) in mine.zip(others.entries()) {
            match (&own, other) {
                (Some(own), Some(other)) if own != other => {
                    return Err((key, own.clone(), other.clone()));
                }
                (None, Some(other)) => *own = Some(other.clone()),
                _ => {}
            }
        }
        Ok(self)
    }
}
