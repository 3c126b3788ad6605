//! Clean conversations to a training set.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use chat_format::jsonl;
use durable::Digest;
use enrich::leaks::ExamQuestions;
use enrich::{Dataset, EnrichConfig, Manifest};
use serde::{Deserialize, Serialize};

use super::convert::Clean;
use crate::error::{Error, Result};
use crate::report::words;
use crate::stage::{Artefact, Desk, Stage, StageName};

/// How rows are enriched; its `inputs` and `suites` are the night's.
#[derive(Debug, Serialize)]
pub(crate) struct Recipe {
    config: EnrichConfig,
    /// Digests of the files that it reads.
    files: Vec<Digest>,
}

impl Recipe {
    /// Reads a recipe; without a file, the crate's own.
    pub fn load(path: Option<&Path>) -> Result<Self> {
        let config = match path {
            // As everywhere in a night's configuration, relative to the file that names them.
            Some(path) => {
                EnrichConfig::load(path)?.relative_to(path.parent().unwrap_or(Path::new("")))
            }
            None => EnrichConfig::new(Vec::new()),
        };
        let config = EnrichConfig { inputs: Vec::new(), suites: Vec::new(), ..config };
        let files = config.files().map(durable::sha256_file).collect::<durable::Result<_>>()?;
        Ok(Self { config, files })
    }
}

/// What becomes of which rows.
#[derive(Serialize)]
pub(crate) struct Enrich<'a> {
    /// The rows.
    pub clean: &'a Clean,
    /// How.
    pub recipe: &'a Recipe,
    /// Digest of the exam, which must not leak into the rows.
    pub suite_digest: Digest,
    /// The exam.
    #[serde(skip)]
    pub suite: &'a Path,
}

/// The training set on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Splits {
    /// Rows that are trained on.
    pub train: Artefact,
    /// Rows whose loss is measured.
    pub valid: Artefact,
    /// How many rows are trained on.
    pub train_rows: usize,
    /// How many rows are only measured.
    pub valid_rows: usize,
    /// Rows made by the recipe.
    pub made: usize,
    /// Rows left out because they repeat others or come near to the exam.
    pub left_out: usize,
    /// Rows by kind, most frequent first.
    pub mix: Vec<(String, usize)>,
    /// Rows by the family whose markup they came in, most frequent first.
    #[serde(default)]
    pub families: Vec<(String, usize)>,
    /// What about the mix should worry somebody.
    pub warnings: Vec<String>,
    /// Cases of the exam that the training rows come near to.
    pub contaminated: Vec<String>,
}

impl Stage for Enrich<'_> {
    const NAME: StageName = StageName::Enrich;
    type Output = Splits;

    fn run(&self, desk: &mut Desk<'_>) -> Result<Splits> {
        let config = EnrichConfig {
            inputs: vec![self.clean.file.verified(desk.night())?],
            suites: vec![self.suite.to_path_buf()],
            ..self.recipe.config.clone()
        };
        let dataset = Dataset::build(&config)?;
        let manifest = dataset.write(desk.dir(), &config)?;
        let report = &dataset.report;
        let (train, train_rows) = output(desk, &manifest, "train.jsonl")?;
        let (valid, valid_rows) = output(desk, &manifest, "valid.jsonl")?;
        Ok(Splits {
            contaminated: self.contaminated(&desk.night().join(&train.path), &config)?,
            train,
            valid,
            train_rows,
            valid_rows,
            made: report.made,
            left_out: report.duplicates.len() + report.leaks.len(),
            mix: by_frequency(&report.mix.by_kind),
            families: by_frequency(&report.mix.by_family),
            warnings: report.mix.warnings.iter().map(ToString::to_string).collect(),
        })
    }

    fn artefacts(output: &Splits) -> Vec<&Artefact> {
        vec![&output.train, &output.valid]
    }

    fn figures(output: &Splits) -> String {
        let Splits { train_rows, valid_rows, made, left_out, .. } = output;
        let train = words::count(*train_rows as u64);
        format!("{train} rows to train, {valid_rows} to validate; {made} made, {left_out} left out")
    }
}

impl Enrich<'_> {
    /// Looks at the finished training file, whatever the recipe claims to have left out.
    fn contaminated(&self, train: &Path, config: &EnrichConfig) -> Result<Vec<String>> {
        let mut questions = ExamQuestions::default();
        questions.read(self.suite)?;
        let rows =
            jsonl::Reader::open(train)?.conversations().collect::<chat_format::Result<Vec<_>>>()?;
        let leaks = questions.leaks(&rows, &config.leaks)?;
        Ok(leaks.into_iter().map(|leak| leak.case).collect())
    }
}

/// A split's file as the dataset's own manifest has it.
fn output(desk: &Desk<'_>, manifest: &Manifest, name: &str) -> Result<(Artefact, usize)> {
    let path: PathBuf = desk.dir().join(name);
    let source = manifest.outputs.iter().find(|source| source.file == Path::new(name));
    let Some(source) = source else {
        let (expected, found) = ("a split of the dataset", "none".to_owned());
        return Err(Error::Record { path, line: None, expected, found });
    };
    Ok((desk.artefact(&path)?, source.entries))
}

fn by_frequency(counts: &BTreeMap<String, usize>) -> Vec<(String, usize)> {
    let mut counts: Vec<_> = counts.iter().map(|(name, rows)| (name.clone(), *rows)).collect();
    counts.sort_by_key(|(_, rows)| std::cmp::Reverse(*rows));
    counts
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_recipe_is_its_files_too_and_they_lie_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("enrich.yaml");
        fs::write(&path, "sources: [{ form: strong_reject, path: asks.csv }]").unwrap();
        let source = dir.path().join("asks.csv");
        let mut keys = Vec::new();
        for text in ["category,source,forbidden_prompt\n", "other"] {
            fs::write(&source, text).unwrap();
            let recipe = Recipe::load(Some(&path)).unwrap();
            assert_eq!(recipe.config.sources[0].path, source);
            keys.push(serde_json::to_value(&recipe).unwrap());
        }
        assert_ne!(keys[0], keys[1]);
        fs::remove_file(&source).unwrap();
        assert!(Recipe::load(Some(&path)).unwrap_err().to_string().contains("asks.csv"));
    }
}
