//! What a run consists of: one record per answer, and a manifest.

use durable::Digest;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answerer::{Answer, Finish, Sampling, Subject};
use crate::council::{AgentId, CategoryId, Council};
use crate::scoring::Stance;
use crate::scoring::{SCORING_VERSION, Score};
use crate::suite::{Case, Suite, Tier};

/// How an exam is taken. Two runs are compared only if all of it is equal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ExamOptions {
    /// How answers are sampled; its seed is taken from `seeds`.
    pub sampling: Sampling,
    /// Cases answered in one batch.
    pub batch: usize,
    /// Every case is asked once per seed. One seed is enough at temperature 0.
    pub seeds: Vec<u64>,
}

impl Default for ExamOptions {
    fn default() -> Self {
        ExamOptions { sampling: Sampling::default(), batch: 32, seeds: vec![0] }
    }
}

/// One case, answered and scored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Record {
    /// The case's id.
    pub case: String,
    /// What the case examines.
    pub category: CategoryId,
    /// The agent asked.
    pub agent: AgentId,
    /// Who may have seen the case.
    pub tier: Tier,
    /// The case's weight in every mean.
    pub weight: f64,
    /// The case's [cluster](Case::cluster).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// The seed of the sampling.
    pub seed: u64,
    /// Identifies the question; see [`Case::prompt_digest`].
    pub prompt: Digest,
    /// The last user turn, for people who read the run.
    pub question: String,
    /// What the model wrote, reasoning included.
    pub answer: String,
    /// Why it stopped.
    pub finish: Finish,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens of the answer.
    pub tokens: usize,
    /// Milliseconds until the answer was complete; all answers of a batch have the batch's time.
    pub latency_ms: u64,
    /// How the answer was scored.
    pub score: Score,
    /// A second opinion; see [`ExamRun::ask`](crate::ExamRun::ask). Neither scores nor the gate use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opinion: Option<Opinion>,
}

/// A second opinion on an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Opinion {
    /// The judge.
    pub by: String,
    /// What it found; none if its reply could not be read as one stance.
    pub stance: Option<Stance>,
}

impl Record {
    /// The record of an answer to a case.
    pub fn new(case: &Case, seed: u64, answer: Answer, score: Score) -> Record {
        Record {
            case: case.id.clone(),
            category: case.category.clone(),
            agent: case.agent.clone(),
            tier: case.tier,
            weight: case.weight,
            cluster: case.cluster.clone(),
            seed,
            prompt: case.prompt_digest(),
            question: case.turns.last().map_or_else(String::new, |turn| turn.content.clone()),
            score,
            opinion: None,
            answer: answer.text,
            finish: answer.finish,
            prompt_tokens: answer.prompt_tokens,
            tokens: answer.tokens,
            latency_ms: u64::try_from(answer.latency.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// How a run was made: enough to repeat it, and to tell whether two runs can be compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Manifest {
    /// Who answered.
    pub subject: Subject,
    /// What was asked.
    pub suite: SuiteId,
    /// The agents and categories of the suite; left out of the file if they are the built-in ones.
    #[serde(default = "built_in", skip_serializing_if = "Council::is_built_in")]
    pub council: Council,
    /// The version of the scoring; see [`SCORING_VERSION`].
    pub scoring_version: u32,
    /// How answers were sampled.
    pub options: ExamOptions,
    /// This crate's version.
    pub eval_version: String,
    /// Where the run took place.
    pub host: Host,
}

fn built_in() -> Council {
    Council::built_in().clone()
}

/// A suite, as a manifest names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
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

/// The machine of a run; latencies depend on it, scores should not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
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
    /// The manifest of a run on this machine.
    pub fn new(subject: Subject, suite: &Suite, options: ExamOptions) -> Manifest {
        Manifest {
            subject,
            suite: SuiteId {
                name: suite.name.clone(),
                version: suite.version.clone(),
                digest: suite.digest(),
                cases: suite.cases.len(),
            },
            council: suite.council().clone(),
            scoring_version: SCORING_VERSION,
            options,
            eval_version: env!("CARGO_PKG_VERSION").into(),
            host: Host::this(),
        }
    }
}
