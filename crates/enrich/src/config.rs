//! The configuration of a data set.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::duplicates::Duplicates;
use crate::leaks::Leaks;
use crate::sources::PromptSource;
use crate::split::Shares;
use crate::{Control, Error, GeneratorFiles, Result, yaml};

/// How a data set is built; a YAML file has these fields, each with a default.
///
/// ```
/// let config: enrich::EnrichConfig = "inputs: [clean.jsonl]\nrecipe: seed".parse()?;
/// assert_eq!((config.seed, config.leaks.likeness), (7, 0.3));
/// # Ok::<(), enrich::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrichConfig {
    /// Files of clean conversations (JSON Lines). A program may set them after reading the file.
    #[serde(default)]
    pub inputs: Vec<PathBuf>,
    /// Which rows are generated. Default `balanced`.
    #[serde(default)]
    pub recipe: Recipe,
    /// How many refusals the balanced recipe adds.
    #[serde(default)]
    pub refusals: RefusalQuota,
    /// The random seed. Default 7.
    #[serde(default = "seven")]
    pub seed: u64,
    /// Files that replace parts of the built-in data.
    #[serde(default)]
    pub council: GeneratorFiles,
    /// Files of harmful prompts, whose requests are added to the built-in ones.
    #[serde(default)]
    pub sources: Vec<PromptSource>,
    /// A collection of vendors' system prompts; only [statistics](crate::sources::LeakedPrompt) of it enter the report.
    #[serde(default)]
    pub system_prompts: Option<PathBuf>,
    /// Suites whose questions must not be in the rows.
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
    /// Corrupts the training rows on purpose, as a negative control; absent for a normal set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<Control>,
}

fn seven() -> u64 {
    7
}

/// Which rows are generated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recipe {
    /// One refusal for every technique and agent, identity, routing.
    Seed,
    /// A few percent of refusals, as many benign twins, some partial refusals, identity, routing.
    #[default]
    Balanced,
}

/// The number of refusals in the balanced recipe: a share of the rows read, with a minimum.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RefusalQuota {
    /// The share of the rows read. Default 0.04.
    pub share: f64,
    /// The minimum, for sets so small that the share would be a handful. Default 56: every technique twice.
    pub at_least: usize,
}

impl Default for RefusalQuota {
    fn default() -> Self {
        RefusalQuota { share: 0.04, at_least: 56 }
    }
}

impl RefusalQuota {
    /// The number of refusals for `rows` rows read, at most `max`.
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
            refusals: RefusalQuota::default(),
            seed: seven(),
            council: GeneratorFiles::default(),
            sources: Vec::new(),
            system_prompts: None,
            suites: Vec::new(),
            duplicates: Duplicates::default(),
            leaks: Leaks::default(),
            split: Shares::default(),
            control: None,
        }
    }

    /// Makes the paths of data files and prompt sources relative to `folder`; those of inputs and suites stay.
    pub fn relative_to(mut self, folder: &Path) -> Self {
        let sources = self.sources.iter_mut().map(|source| &mut source.path);
        for path in self.council.given_mut().chain(sources).chain(&mut self.system_prompts) {
            *path = folder.join(&path);
        }
        self
    }

    /// The data files and prompt sources, which the generated rows depend on.
    pub fn files(&self) -> impl Iterator<Item = PathBuf> {
        self.council.given().cloned().chain(self.sources.iter().map(PromptSource::file))
    }

    /// Reads a YAML file. Paths in it are relative to the working directory.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let config: EnrichConfig = yaml::load(path)?;
        config.check(path)?;
        Ok(config)
    }

    /// Refuses values out of their range; `path` is the file that errors name.
    fn check(&self, path: &Path) -> Result<()> {
        let unit = 0.0..=1.0;
        let shares = self.split.valid + self.split.test;
        for (field, value, fine, expected) in [
            ("refusals.share", self.refusals.share, unit.contains(&self.refusals.share), "0 to 1"),
            ("leaks.likeness", self.leaks.likeness, self.leaks.likeness > 0.0, "more than 0"),
            ("leaks.build", self.leaks.build, self.leaks.build > 0.0, "more than 0"),
            (
                "leaks.containment",
                self.leaks.containment,
                self.leaks.containment > 0.0,
                "more than 0",
            ),
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
