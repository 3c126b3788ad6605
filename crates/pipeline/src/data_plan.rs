//! What is done to the rows: whether they are used as they are, or a data set is made from them.

use std::fmt;
use std::path::Path;

use enrich::given::{GivenSplits, SplitState};
use serde::Serialize;

use crate::config::{Enrichment, NightConfig};
use crate::error::{Error, Result};

/// What is done to the rows, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Treatment {
    /// Whether the rows are used as they are: nothing is added, left out or moved.
    pub as_they_are: bool,
    /// What was decided, and by what.
    pub why: String,
}

impl fmt::Display for Treatment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.as_they_are { "used as they are" } else { "enriched and split" };
        write!(f, "{what}: {}", self.why)
    }
}

impl Treatment {
    /// Decides by the configuration, or else by the splits that the data gives.
    ///
    /// Splits that are enriched are never enriched again: a choice of a recipe is for raw rows, so that one file serves both.
    ///
    /// # Errors
    /// Splits of which the content does not say whether they are enriched, without a choice.
    pub fn of(config: &NightConfig, given: Option<&GivenSplits>) -> Result<Self> {
        let (as_they_are, why) = match (&config.enrich, given) {
            (Some(Enrichment::None), _) => (true, "`enrich: none`".to_owned()),
            (Some(choice), Some(given)) if given.state == SplitState::Enriched => {
                let evidence = &given.evidence;
                (
                    true,
                    format!(
                        "the splits are enriched: {evidence}; `enrich: {choice}` is for raw rows"
                    ),
                )
            }
            (Some(choice), _) => (false, format!("`enrich: {choice}`")),
            (None, None) => (false, "the default for raw rows".to_owned()),
            (None, Some(given)) => match given.state {
                SplitState::Enriched => {
                    (true, format!("the splits are enriched: {}", given.evidence))
                }
                SplitState::Raw => (false, format!("the splits are raw rows: {}", given.evidence)),
                _ => return Err(unclear(given)),
            },
        };
        Ok(Self { as_they_are, why })
    }
}

/// The splits that the data gives: those of its only folder.
///
/// # Errors
/// Enriched splits among other files.
pub(crate) fn given_splits(config: &NightConfig) -> Result<Option<GivenSplits>> {
    let Some(paths) = config.setup.data.raw() else { return Ok(None) };
    let folders = paths.iter().filter(|path| path.is_dir());
    let chats = usize::from(config.setup.data.chats().is_some());
    let count = paths.iter().count() + chats;
    for folder in folders {
        match GivenSplits::find(folder)? {
            Some(given) if count == 1 => return Ok(Some(given)),
            Some(given) if given.state == SplitState::Enriched => {
                let found = match chats {
                    0 => format!("it among {count} paths"),
                    _ => "it beside chats".to_owned(),
                };
                let expected = format!("an enriched data set alone ({})", given.evidence);
                return Err(refused(folder, "data.raw", &expected, &found));
            }
            _ => {}
        }
    }
    Ok(None)
}

fn unclear(given: &GivenSplits) -> Error {
    let expected = "`none` (use the splits as they are), or `balanced`, `seed` or a recipe (make a new data set from them)";
    let found = format!(
        "no choice, and splits that do not say whether they are enriched: {}",
        given.evidence
    );
    refused(folder(given), "enrich", expected, &found)
}

fn refused(path: &Path, key: &str, expected: &str, found: &str) -> Error {
    let reason = format!("{key}: expected {expected}; found {found}");
    Error::Config { path: path.to_path_buf(), reason }
}

/// The folder of splits.
fn folder(given: &GivenSplits) -> &Path {
    let first = given.parts.first().and_then(|(_, path)| path.parent());
    first.unwrap_or(Path::new(""))
}
