use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::duplicates::Duplicates;
use crate::leaks::Leaks;
use crate::sources::PromptSource;
use crate::split::Shares;
use crate::{Control, CouncilFiles, Error, Result, yaml};

/// How a data set is made; a YAML file has these fields, each with a default.
///
/// ```
/// let config: enrich::EnrichConfig = "inputs: [clean.jsonl]\nrecipe: seed".parse()?;
/// assert_eq!((config.seed, config.leaks.likeness), (7, 0.3));
/// # Ok::<(), enrich::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrichConfig {
    /// Files of clean conversations, JSON lines; whoever runs the recipe may set them later.
    #[serde(default)]
    pub inputs: Vec<PathBuf>,
    /// What is added. Default `balanced`.
    #[serde(default)]
    pub recipe: Recipe,
    /// How many refusals the balanced recipe adds.
    #[serde(default)]
    pub refusals: Refusal,
    /// Chance that can be repeated. Default 7.
    #[serde(default = "seven")]
    pub seed: u64,
    /// Files that replace the built-in council.
    #[serde(default)]
    pub council: CouncilFiles,
    /// Files of harmful prompts whose requests join the built-in ones.
    #[serde(default)]
    pub sources: Vec<PromptSource>,
    /// A collection of vendors' system prompts; only [statistics](crate::sources::LeakedPrompt) of it enter the report.
    #[serde(default)]
    pub system_prompts: Option<PathBuf>,
    /// Exams that must not leak into the rows.
    #[serde(default)]
    pub suites: Vec<PathBuf>,
    /// When rows count as duplicates.
    #[serde(default)]
    pub duplicates: Duplicates,
    /// When exam questions count as leaked.
    #[serde(default)]
    pub leaks: Leaks,
    /// The shares of validation and test.
    #[serde(default)]
    pub split: Shares,
    /// Spoils the training rows on purpose; absent for a set that should teach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<Control>,
}

fn seven() -> u64 {
    7
}

/// What is added to the rows that come in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recipe {
    /// The seed's: every technique refused by every agent, identity, routing; nothing else.
    Seed,
    /// Ours: a few percent of refusals, as many benign twins, some requests half refused, identity, routing.
    #[default]
    Balanced,
}

/// The number of refusals in the balanced recipe: a share of the rows that come in, within bounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Refusal {
    /// Default 0.04.
    pub share: f64,
    /// At least so many, for sets so small that a share would be a handful. Default 56: every technique twice.
    pub at_least: usize,
}

impl Default for Refusal {
    fn default() -> Self {
        Refusal { share: 0.04, at_least: 56 }
    }
}

impl Refusal {
    /// How many refusals go with so many rows, if there can be `max`.
    pub fn count(&self, rows: usize, max: usize) -> usize {
        ((self.share * rows as f64).round() as usize).max(self.at_least).min(max)
    }
}

impl EnrichConfig {
    /// The defaults for these inputs.
    pub fn new(inputs: Vec<PathBuf>) -> Self {
        EnrichConfig {
            inputs,
            recipe: Recipe::default(),
            refusals: Refusal::default(),
            seed: seven(),
            council: CouncilFiles::default(),
            sources: Vec::new(),
            system_prompts: None,
            suites: Vec::new(),
            duplicates: Duplicates::default(),
            leaks: Leaks::default(),
            split: Shares::default(),
            control: None,
        }
    }

    /// Takes the recipe's own paths, not those of inputs and suites, as relative to `folder`.
    pub fn relative_to(mut self, folder: &Path) -> Self {
        let sources = self.sources.iter_mut().map(|source| &mut source.path);
        for path in self.council.given_mut().chain(sources).chain(&mut self.system_prompts) {
            *path = folder.join(&path);
        }
        self
    }

    /// The recipe's own files, on which the rows depend that it makes.
    pub fn files(&self) -> impl Iterator<Item = PathBuf> {
        self.council.given().cloned().chain(self.sources.iter().map(PromptSource::file))
    }

    /// Reads a YAML file. Paths in it are taken as they stand: relative to where the program runs.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let config: EnrichConfig = yaml::load(path)?;
        config.check(path)?;
        Ok(config)
    }

    /// Refuses values that no data set can be made with; `path` is what the error names.
    fn check(&self, path: &Path) -> Result<()> {
        let unit = 0.0..=1.0;
        let shares = self.split.valid + self.split.test;
        for (field, value, fine, expected) in [
            ("refusals.share", self.refusals.share, unit.contains(&self.refusals.share), "0 to 1"),
            ("leaks.likeness", self.leaks.likeness, self.leaks.likeness > 0.0, "more than 0"),
            ("leaks.build", self.leaks.build, self.leaks.build > 0.0, "more than 0"),
            (
                "duplicates.likeness",
                self.duplicates.likeness,
                self.duplicates.likeness > 0.0,
                "more than 0",
            ),
            ("split.valid", self.split.valid, unit.contains(&self.split.valid), "0 to 1"),
            ("split.test", self.split.test, unit.contains(&self.split.test), "0 to 1"),
            ("split.valid + split.test", shares, shares < 1.0, "less than 1"),
        ] {
            if !fine {
                return Err(Error::Entry {
                    path: path.to_path_buf(),
                    entry: field.to_owned(),
                    expected: expected.to_owned(),
                    found: value.to_string(),
                });
            }
        }
        Ok(())
    }
}

impl std::str::FromStr for EnrichConfig {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let path = Path::new("config");
        let config: EnrichConfig = yaml::parse(path, text)?;
        config.check(path)?;
        Ok(config)
    }
}
