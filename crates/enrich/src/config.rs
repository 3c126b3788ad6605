//! The configuration of a data set.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duplicates::Duplicates;
use crate::household::Phrasings;
use crate::leaks::Leaks;
use crate::sources::PromptSource;
use crate::split::Shares;
use crate::{Control, Error, GeneratorData, GeneratorFiles, Household, Result, yaml};

/// How a data set is built; a YAML file has these fields, each with a default.
///
/// ```
/// let config: enrich::EnrichConfig = "inputs: [clean.jsonl]\nrecipe: seed".parse()?;
/// assert_eq!((config.seed, config.leaks.likeness), (7, 0.3));
/// # Ok::<(), enrich::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// Files that replace parts of the built-in data: the household's own council, personas, phrasings and so on.
    #[serde(default, rename = "household", alias = "council")]
    pub council: GeneratorFiles,
    /// How many rows about the household's facts are generated, if `household.facts` names some. Default: two for every
    /// entry. If fewer distinct rows can be phrased, all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fact_rows: Option<usize>,
    /// Files of harmful prompts, whose requests are added to the built-in ones.
    #[serde(default)]
    pub sources: Vec<PromptSource>,
    /// A collection of vendors' system prompts; only [statistics](crate::sources::LeakedPrompt) of it enter the report.
    #[serde(default)]
    pub system_prompts: Option<PathBuf>,
    /// Suites whose questions must not be in the rows.
    #[serde(default)]
    pub suites: Vec<PathBuf>,
    /// A file of rows that the base model answered itself ([`neutral`](crate::neutral)), which are added to the others. A night
    /// sets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<PathBuf>,
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Recipe {
    /// One refusal for every technique and agent, identity, routing.
    Seed,
    /// A few percent of refusals, as many benign twins, some partial refusals, identity, routing.
    #[default]
    Balanced,
    /// None.
    None,
}

/// The number of refusals in the balanced recipe: a share of the rows read, with a minimum.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// The recipe of the seed, as it was: its refusals, identity and routing rows are added to all rows that are read, so that
    /// 1,710 rows become 2,008. Rows that repeat others are kept, unlike rows too similar to an exam question.
    pub fn seed(inputs: Vec<PathBuf>) -> Self {
        let duplicates = Duplicates { likeness: Duplicates::NEVER };
        EnrichConfig { recipe: Recipe::Seed, duplicates, ..EnrichConfig::new(inputs) }
    }

    /// The defaults for these inputs.
    pub fn new(inputs: Vec<PathBuf>) -> Self {
        EnrichConfig {
            inputs,
            recipe: Recipe::default(),
            refusals: RefusalQuota::default(),
            seed: seven(),
            council: GeneratorFiles::default(),
            fact_rows: None,
            sources: Vec::new(),
            system_prompts: None,
            suites: Vec::new(),
            replay: None,
            duplicates: Duplicates::default(),
            leaks: Leaks::default(),
            split: Shares::default(),
            control: None,
        }
    }

    /// The JSON schema of the YAML file, for editors and the reference.
    pub fn json_schema() -> serde_json::Value {
        schemars::schema_for!(Self).to_value()
    }

    /// Passes the paths of data files and prompt sources through `resolve`; those of inputs and suites stay.
    ///
    /// # Errors
    /// The first error of `resolve`.
    pub fn resolved<E>(mut self, resolve: impl Fn(&Path) -> Result<PathBuf, E>) -> Result<Self, E> {
        let sources = self.sources.iter_mut().map(|source| &mut source.path);
        let allowlist = &mut self.leaks.allowlist;
        let others = sources.chain(&mut self.system_prompts).chain(allowlist);
        for path in self.council.given_mut().chain(others) {
            *path = resolve(path)?;
        }
        Ok(self)
    }

    /// The data files, prompt sources and list of exceptions, which the data set depends on.
    pub fn files(&self) -> impl Iterator<Item = PathBuf> {
        let sources = self.sources.iter().map(PromptSource::file);
        self.council.given().cloned().chain(sources).chain(self.leaks.allowlist.clone())
    }

    /// Checks the files of the household: that each of them can be read and is of the expected form, and that `fact_rows`
    /// comes with facts.
    ///
    /// # Errors
    /// The first file that is invalid, or `fact_rows` without facts.
    pub fn check_household(&self) -> Result<()> {
        let data = GeneratorData::load(&self.council)?;
        let phrasings = Phrasings::of(&self.council)?;
        match (&self.council.facts, self.fact_rows) {
            (Some(facts), _) => Household::load(facts)?.check_against(&data, &phrasings, facts),
            (None, Some(rows)) => Err(Error::Entry {
                path: "configuration".into(),
                entry: "fact_rows".into(),
                expected: "`household.facts`, which they are about".into(),
                found: rows.to_string(),
            }),
            (None, None) => Ok(()),
        }
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
