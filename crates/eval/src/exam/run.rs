use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use durable::Digest;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::exam::ExamOptions;
use crate::exam::answerer::{Finish, Subject};
use crate::exam::judge::Opinion;
use crate::scoring::refusal::judge_refusal;
use crate::scoring::{SCORING_VERSION, Score};
use crate::stats::{self, Interval};
use crate::suite::{Category, Suite, Tier};
use crate::{Agent, Failure};

/// The file of a run's [`Manifest`] in its folder.
pub(crate) const MANIFEST: &str = "manifest.json";
/// The file of a run's [`Record`]s in its folder, one a line, in the order of the exam.
pub(crate) const RECORDS: &str = "answers.jsonl";

/// One case answered and judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The case's id.
    pub case: String,
    /// What the case examines.
    pub category: Category,
    /// The agent asked.
    pub agent: Agent,
    /// Who may have seen the case.
    pub tier: Tier,
    /// The case's share in every mean.
    pub weight: f64,
    /// The seed of the sampling.
    pub seed: u64,
    /// Identifies what was put to the model; see [`Case::prompt_digest`](crate::Case::prompt_digest).
    pub prompt: Digest,
    /// The last thing the user said, for people who read the run.
    pub question: String,
    /// What the model wrote, reasoning included.
    pub answer: String,
    /// Why it stopped.
    pub finish: Finish,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens of the answer.
    pub tokens: usize,
    /// Milliseconds until the answer was there; answers of one batch share its time.
    pub latency_ms: u64,
    /// How the answer was judged.
    pub score: Score,
    /// What somebody else thinks of it; see [`ExamRun::ask`]. No score and no gate looks at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opinion: Option<Opinion>,
}

/// What a run was: enough to repeat it, and to tell whether two runs can be compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Who answered.
    pub subject: Subject,
    /// What was asked.
    pub suite: SuiteId,
    /// How answers were judged; see [`SCORING_VERSION`].
    pub scoring_version: u32,
    /// How answers were drawn.
    pub options: ExamOptions,
    /// This crate's version.
    pub eval_version: String,
    /// Where the run took place.
    pub host: Host,
}

/// A suite, as a manifest names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SuiteId {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The digest of its content.
    pub digest: Digest,
    /// The number of its cases.
    pub cases: usize,
}

/// The machine of a run; speed depends on it, scores should not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// The operating system.
    pub os: String,
    /// The processor's architecture.
    pub arch: String,
    /// Processors that the run could use.
    pub cpus: usize,
}

impl Host {
    fn this() -> Host {
        Host {
            os: std::env::consts::OS.into(),
            arch: std::env::consts::ARCH.into(),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

impl Manifest {
    pub(crate) fn new(subject: Subject, suite: &Suite, options: ExamOptions) -> Manifest {
        Manifest {
            subject,
            suite: SuiteId {
                name: suite.name.clone(),
                version: suite.version.clone(),
                digest: suite.digest(),
                cases: suite.cases.len(),
            },
            scoring_version: SCORING_VERSION,
            options,
            eval_version: env!("CARGO_PKG_VERSION").into(),
            host: Host::this(),
        }
    }
}

/// The mean of some cases, with what is known about its certainty.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mean {
    /// The case-weighted mean score.
    pub score: f64,
    /// Wilson's 95 % interval around it.
    pub interval: Interval,
    /// The number of answers.
    pub answers: usize,
}

/// A run's scores at a glance; [`Display`](fmt::Display) prints them as a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// All answers.
    pub overall: Mean,
    /// By who may have seen the case.
    pub tiers: BTreeMap<Tier, Mean>,
    /// By what the case examines.
    pub categories: BTreeMap<Category, Mean>,
    /// By the agent asked.
    pub agents: BTreeMap<Agent, Mean>,
    /// How many answers failed for which reason.
    pub failures: BTreeMap<Failure, usize>,
    /// How often a second opinion agrees; none if nobody was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge: Option<Agreement>,
    /// Tokens of all answers.
    pub tokens: usize,
    /// Whether every case of the suite was answered.
    pub complete: bool,
}

/// How often the rules and a second opinion find the same stance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agreement {
    /// Answers that it was asked about.
    pub asked: usize,
    /// Those on which both agree.
    pub agreed: usize,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<16}{:>7}{:>16}{:>9}", "", "score", "95 %", "answers")?;
        self.tiers.iter().try_for_each(|(tier, mean)| mean.write(tier, f))?;
        self.categories.iter().try_for_each(|(category, mean)| mean.write(category, f))?;
        self.agents.iter().try_for_each(|(agent, mean)| mean.write(agent, f))?;
        self.overall.write("overall", f)?;
        for (failure, count) in &self.failures {
            writeln!(f, "{failure:<16}{count:>32}")?;
        }
        if let Some(Agreement { asked, agreed }) = self.judge {
            writeln!(f, "The LLM judge agrees on {agreed} of {asked} stances.")?;
        }
        Ok(())
    }
}

impl Mean {
    fn write(&self, name: impl fmt::Display, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let range = format!("{:.2} to {:.2}", self.interval.low, self.interval.high);
        writeln!(f, "{name:<16}{:>7.3}{range:>16}{:>9}", self.score, self.answers)
    }
}

/// An exam taken: the manifest and every answer.
#[derive(Clone, Debug, PartialEq)]
pub struct ExamRun {
    /// What the run was.
    pub manifest: Manifest,
    /// Every answer, in the order of the exam.
    pub records: Vec<Record>,
}

impl ExamRun {
    /// Reads a run from its folder. A last line torn by a kill is left out.
    pub fn load(dir: impl AsRef<Path>) -> Result<ExamRun> {
        let dir = dir.as_ref();
        let path = dir.join(MANIFEST);
        let text = std::fs::read_to_string(&path)
            .map_err(|source| Error::Read { path: path.clone(), source })?;
        let manifest = serde_json::from_str(&text)
            .map_err(|e| Error::Json { path, problem: e.to_string() })?;
        Ok(ExamRun { manifest, records: read_records(&dir.join(RECORDS))? })
    }

    /// Writes the run into a folder, which is made if missing; each file is whole or absent.
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<()> {
        let dir = dir.as_ref();
        std::fs::create_dir_all(dir)
            .map_err(|source| Error::Folder { path: dir.to_path_buf(), source })?;
        write_records(&dir.join(RECORDS), &self.records)?;
        // The manifest comes last: a folder that has one has its answers too.
        Ok(durable::write_json(dir.join(MANIFEST), &self.manifest)?)
    }

    /// Whether every case of the suite was answered, with every seed.
    pub fn is_complete(&self) -> bool {
        self.records.len() >= self.manifest.suite.cases * self.manifest.options.seeds.len()
    }

    /// The run's means. Refuses a run without answers.
    pub fn summary(&self) -> Result<Summary> {
        let mut failures = BTreeMap::new();
        for failure in self.records.iter().filter_map(|r| r.score.failure) {
            *failures.entry(failure).or_default() += 1;
        }
        Ok(Summary {
            overall: mean(self.records.iter())?,
            tiers: self.means(|r| r.tier)?,
            categories: self.means(|r| r.category)?,
            agents: self.means(|r| r.agent)?,
            failures,
            judge: self.agreement(),
            tokens: self.records.iter().map(|r| r.tokens).sum(),
            complete: self.is_complete(),
        })
    }

    fn agreement(&self) -> Option<Agreement> {
        let mut agreement = Agreement { asked: 0, agreed: 0 };
        for record in &self.records {
            let Some(opinion) = &record.opinion else { continue };
            agreement.asked += 1;
            if opinion.stance == Some(judge_refusal(&record.answer)) {
                agreement.agreed += 1;
            }
        }
        (agreement.asked > 0).then_some(agreement)
    }

    fn means<K: Ord>(&self, key: impl Fn(&Record) -> K) -> Result<BTreeMap<K, Mean>> {
        let mut groups: BTreeMap<K, Vec<&Record>> = BTreeMap::new();
        for record in &self.records {
            groups.entry(key(record)).or_default().push(record);
        }
        groups.into_iter().map(|(key, group)| Ok((key, mean(group.into_iter())?))).collect()
    }
}

fn mean<'a>(records: impl Iterator<Item = &'a Record>) -> Result<Mean> {
    let (scores, weights): (Vec<f64>, Vec<f64>) =
        records.map(|r| (r.score.value, r.weight)).unzip();
    let score = stats::weighted_mean(&scores, &weights)?;
    let interval = stats::wilson(score, stats::effective_cases(&weights), 0.95)?;
    Ok(Mean { score, interval, answers: scores.len() })
}

/// Reads an answer log; none if there is no file.
pub(crate) fn read_records(path: &Path) -> Result<Vec<Record>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(Error::Read { path: path.to_path_buf(), source }),
    };
    let mut records = Vec::new();
    for (i, line) in bytes.split_inclusive(|b| *b == b'\n').enumerate() {
        // Only a kill leaves a line without its end.
        let Some(line) = line.strip_suffix(b"\n") else { break };
        let record = serde_json::from_slice(line).map_err(|e| Error::Record {
            path: path.to_path_buf(),
            line: i + 1,
            problem: e.to_string(),
        })?;
        records.push(record);
    }
    Ok(records)
}

pub(crate) fn write_records(path: &Path, records: &[Record]) -> Result<()> {
    let lines: String = records.iter().map(|r| to_line(r) + "\n").collect();
    Ok(durable::write(path, lines.as_bytes())?)
}

/// One record as a line of JSON.
pub(crate) fn to_line(record: &Record) -> String {
    serde_json::to_string(record).expect("a record is plain structs, strings and numbers")
}
