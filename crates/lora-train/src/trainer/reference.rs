//! The reference model's log-probabilities of the answers that a run takes, computed once and kept on disk.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use models::Model;

use super::initial::initial_factors;
use crate::batch::{Cursor, Sampler};
use crate::config::{Reference, TrainConfig};
use crate::engine::{Engine, Layout, PairTerms, RowLoss, Sums};
use crate::metrics::Event;
use crate::preference::{Objective, PreferenceMetrics};
use crate::{Data, Dataset, Error, Result, Tensors};

/// The preference loss of a run's splits.
pub(super) struct PreferenceTerms {
    pub(super) train: SplitTerms,
    pub(super) valid: Option<SplitTerms>,
    /// How the reference was made; absent if the loss needs none.
    pub(super) event: Option<Event>,
}

/// The preference loss of a split.
pub(super) struct SplitTerms {
    terms: PairTerms,
    /// For an objective with a baseline.
    mismatched: Option<Mismatched>,
}

/// Prompts with the answers to other ones, from which KTO estimates the divergence from the reference
/// model. TRL pairs them within a batch; here they are those of the data set, so that the reference's
/// log-probabilities can be kept.
pub(super) struct Mismatched {
    data: Dataset,
    /// The reference's log-probabilities, by row; NaN of pairs that the run does not take.
    references: Vec<f64>,
}

impl SplitTerms {
    /// The terms of these examples under these factors, and how many tokens were computed for their
    /// baseline.
    pub(super) fn of(
        &self,
        engine: &Engine,
        factors: &Tensors,
        examples: &[usize],
    ) -> Result<(PairTerms, u64)> {
        let Some(Mismatched { data, references }) = &self.mismatched else {
            return Ok((self.terms.clone(), 0));
        };
        let sums = engine.loss(factors, engine.pack(data, examples)?)?;
        let ratios = sums.rows.iter().map(|row| -row.loss - references[row.row]);
        let baseline = ratios.sum::<f64>() / sums.rows.len().max(1) as f64;
        let objective = Objective::clone(&self.terms.objective).with_baseline(baseline);
        Ok((PairTerms { objective: objective.into(), ..self.terms.clone() }, sums.computed))
    }
}

/// The loss, and with pairs what else is known of them.
pub(super) fn summary(terms: Option<&PairTerms>, sums: &Sums) -> (f64, Option<PreferenceMetrics>) {
    match terms {
        None => (sums.mean(), None),
        Some(terms) => {
            let (loss, metrics) = terms.objective.summary(&terms.pairs(&sums.rows));
            (loss, Some(metrics))
        }
    }
}

impl Mismatched {
    /// The rows of all splits; none unless the objective has a baseline.
    ///
    /// # Errors
    /// [`Error::Setting`] if all pairs of a split have the same prompt.
    pub(super) fn datasets(config: &TrainConfig, data: &Data) -> Result<Vec<Dataset>> {
        if config.objective().and_then(|objective| objective.baseline()).is_none() {
            return Ok(Vec::new());
        }
        let splits = [Some(&data.train), data.valid.as_ref()].into_iter().flatten();
        splits.map(|split| Self::rows(config, split)).collect()
    }

    fn rows(config: &TrainConfig, split: &Dataset) -> Result<Dataset> {
        split.mismatched(config.max_seq_length).ok_or_else(|| {
            let expected = "another loss for pairs that all have the same prompt";
            config.invalid("train_mode", expected, config.mode())
        })
    }
}

/// Computes the reference's log-probabilities on an engine, or reads them.
pub(super) struct ReferenceModel<'a> {
    pub(super) engine: &'a Engine,
    pub(super) config: &'a TrainConfig,
    pub(super) layout: &'a Layout,
    pub(super) model: &'a Model,
}

impl ReferenceModel<'_> {
    /// The terms of `objective` for both splits.
    ///
    /// # Errors
    /// [`Error::NotFinite`] if the reference gives an answer no finite log-probability; if the model, the
    /// adapter to start from or the cache cannot be read, or the cache not be written.
    pub(super) fn terms(&self, objective: Objective, data: &Data) -> Result<PreferenceTerms> {
        let begun = Instant::now();
        let objective = Arc::new(objective);
        let needed = objective.needs_reference();
        let (mut answers, mut computed) = (0, 0);
        let origin = if needed { self.origin()? } else { None };
        let mut sums = |split: &Dataset, taken: &[usize]| -> Result<Vec<f64>> {
            let part = split.only(taken);
            let (found, tokens) = self.sums(&part, origin.as_deref())?;
            computed += tokens;
            let mut all = vec![f64::NAN; split.rows().len()];
            let rows = taken.iter().flat_map(|&example| split.rows_of(example));
            rows.zip(found).for_each(|(row, sum)| all[row] = sum);
            Ok(all)
        };
        let mut of = |split: &Dataset, taken: Vec<usize>| -> Result<SplitTerms> {
            let references = if needed { sums(split, &taken)? } else { Vec::new() };
            answers +=
                taken.iter().map(|&example| split.rows_of(example).len() as u64).sum::<u64>();
            let mismatched = match objective.baseline() {
                None => None,
                Some(_) => {
                    let data = Mismatched::rows(self.config, split)?;
                    Some(Mismatched { references: sums(&data, &taken)?, data })
                }
            };
            let objective = Arc::clone(&objective);
            let terms = PairTerms { objective, references: references.into() };
            Ok(SplitTerms { terms, mismatched })
        };
        let train = of(&data.train, self.taken(&data.train))?;
        let all = |split: &Dataset| (0..split.examples()).collect();
        let valid = data.valid.as_ref().map(|split| of(split, all(split))).transpose()?;
        let event = needed.then(|| Event::Reference {
            answers,
            adapter: self.has_adapter(),
            computed_tokens: computed,
            seconds: begun.elapsed().as_secs_f64(),
        });
        Ok(PreferenceTerms { train, valid, event })
    }

    /// The examples of the training split that the run takes, in their order in the split.
    fn taken(&self, train: &Dataset) -> Vec<usize> {
        let rows = train.examples();
        let count = self.config.examples(rows).min(rows as u64) as usize;
        let mut taken = Sampler::new(rows, self.config.seed, Cursor::default()).take(count);
        taken.sort_unstable();
        taken
    }

    /// Whether the reference has an adapter. That of a new run does not change the model.
    fn has_adapter(&self) -> bool {
        self.config.reference() == Reference::Start && self.config.resume_adapter_file.is_some()
    }

    /// The sum of each row's log-probabilities, and how many tokens were computed for that. They are kept
    /// on disk if there is an [`origin`](Self::origin).
    fn sums(&self, data: &Dataset, origin: Option<&str>) -> Result<(Vec<f64>, u64)> {
        let cache = origin.map(|origin| self.cache(origin, data));
        let known = cache.as_ref().and_then(|cache| cache.read(data.rows().len()));
        // Ranks compute them together, hence all or none.
        let missing = self.engine.group().any(known.is_none())?;
        if let Some(sums) = known.filter(|_| !missing) {
            return Ok((sums, 0));
        }
        let examples: Vec<usize> = (0..data.examples()).collect();
        let batches = self.engine.pack(data, &examples)?;
        let sums = match self.has_adapter() {
            true => {
                let factors = initial_factors(self.config, self.layout, self.model)?;
                self.engine.loss(&factors, batches)?
            }
            false => self.engine.base_loss(batches)?,
        };
        let mut references = vec![f64::NAN; data.rows().len()];
        for RowLoss { row, loss, .. } in sums.rows {
            references[row] = -loss;
        }
        let bad = |index: &usize| !references[*index].is_finite();
        let bad: Vec<usize> = (0..references.len()).filter(bad).collect();
        if let Some(first) = bad.first() {
            return Err(Error::NotFinite {
                step: 0,
                what: "reference's log-probability",
                value: references[*first],
                rows: bad.iter().map(|&row| data.rows()[row].number()).collect(),
            });
        }
        if let Some(cache) = cache {
            cache.write(&references)?;
        }
        Ok((references, sums.computed))
    }

    /// What the log-probabilities depend on besides the rows; `None` for a model that was not opened from
    /// `config.model`, which has no digest.
    fn origin(&self) -> Result<Option<String>> {
        let Some(model) = &self.config.model else { return Ok(None) };
        let adapter = match &self.config.resume_adapter_file {
            Some(path) if self.has_adapter() => {
                format!("{} scale {}", durable::sha256_file(path)?, self.config.scale())
            }
            _ => "none".to_owned(),
        };
        let base = models::model_digest(model)?;
        let parts = [format!("base {base}"), format!("adapter {adapter}"), self.model.arithmetic()];
        Ok(Some(parts.join("\n")))
    }

    /// Where the sums of these rows are kept.
    fn cache(&self, origin: &str, data: &Dataset) -> Cache {
        let digest = durable::digest(format!("{origin}\nrows {}", data.digest())).to_string();
        let folder = self.config.nightshift.reference_cache.clone();
        let folder = folder.unwrap_or_else(|| self.config.adapter_path.join("reference"));
        Cache { path: folder.join(format!("{}.txt", &digest[..16])), digest }
    }
}

/// A file of one number a line, after a line with the digest of what they depend on.
struct Cache {
    path: PathBuf,
    digest: String,
}

impl Cache {
    fn read(&self, rows: usize) -> Option<Vec<f64>> {
        let text = std::fs::read_to_string(&self.path).ok()?;
        let mut lines = text.lines();
        let sound = lines.next() == Some(self.digest.as_str());
        let sums: Vec<f64> = lines.map_while(|line| line.parse().ok()).collect();
        let whole = sound && sums.len() == rows && sums.iter().all(|sum| sum.is_finite());
        if !whole {
            tracing::warn!(path = %self.path.display(), "damaged reference log-probabilities are computed again");
        }
        whole.then_some(sums)
    }

    fn write(&self, sums: &[f64]) -> Result<()> {
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder)
                .map_err(|source| Error::Folder { path: folder.to_owned(), source })?;
        }
        // The shortest decimal that is read back as the same number.
        let lines = sums.iter().map(|sum| format!("{sum:?}\n"));
        let text: String = std::iter::once(format!("{}\n", self.digest)).chain(lines).collect();
        Ok(durable::write(&self.path, text)?)
    }
}
