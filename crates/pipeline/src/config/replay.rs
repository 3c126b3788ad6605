//! Replay: the base model's own answers among the training rows.

use std::path::PathBuf;

use enrich::neutral::Personas;
use eval::Sampling;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many of the training rows are neutral prompts that the base model answered itself, so that training on a household's
/// rows overwrites less of what the model knew.
///
/// ```yaml
/// replay: { share: 0.25, persona: mixed, prompts: own-prompts.yaml }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ReplayConfig {
    /// The share of all rows that the base model answered, from 0 to less than 1. Default 0.25; 0 turns replay off.
    pub share: f64,
    /// Under which system prompts it answers: `none`, `mixed` (half of the prompts under an agent's) or `all`. Default `mixed`.
    pub persona: Personas,
    /// A file of prompts that are added to the built-in ones: a YAML mapping from kinds to lists of prompts.
    pub prompts: Option<PathBuf>,
    /// The maximum number of prompts that the base model answers. Default 400, about two minutes for a model of 135M weights
    /// on two CPU cores. Answers are kept in the home and given once per base model.
    pub limit: usize,
    /// How answers are sampled. Default: greedily, at most 128 tokens. Answers that the limit cuts off are not used.
    pub sampling: Sampling,
    /// The seed of the order of prompts, and of the sampling if it is not greedy. Default 0.
    pub seed: u64,
}

impl Default for ReplayConfig {
    fn default() -> Self {
        Self {
            share: 0.25,
            persona: Personas::default(),
            prompts: None,
            limit: 400,
            sampling: Sampling::default(),
            seed: 0,
        }
    }
}

impl ReplayConfig {
    /// What is wrong with a value, if anything: the key, and what was expected and found.
    pub(super) fn problem(&self) -> Option<String> {
        let Self { share, limit, sampling, .. } = self;
        if !(0.0..1.0).contains(share) {
            Some(format!("replay.share: expected a share from 0 to less than 1, found {share}"))
        } else if *limit == 0 {
            Some("replay.limit: expected at least 1, found 0".to_owned())
        } else if sampling.max_tokens == 0 {
            Some("replay.sampling.max_tokens: expected at least 1, found 0".to_owned())
        } else {
            None
        }
    }
}
