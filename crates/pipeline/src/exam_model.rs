//! Opens the model of an exam within the memory limit of the night.

use std::fs;
use std::path::Path;

use lora_train::Bytes;
use lora_train::memory::MemoryLimit;
use models::train_support::{BatchSize, divergence_bytes};
use models::{Adapter, GenerateOptions, Model, WeightResidency, generation_lanes};

use crate::error::{Error, Result};

/// Prompt tokens of a micro-batch, most first: fewer need less memory for activations.
const PROMPT_TOKENS: [usize; 3] = [512, 128, 32];
/// A prompt and an answer of this many tokens have to fit into the cache.
const LEAST_CACHE: usize = 1024;
const F32: u64 = size_of::<f32>() as u64;

/// What a model is opened for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ExamWork {
    /// Questions that are answered at once, at most.
    pub rows: usize,
    /// Tokens of the longest row on which adapters are compared with the base; 0 if none are.
    pub compared: usize,
}

impl ExamWork {
    /// Answering so many questions at once.
    pub fn answers(rows: usize) -> Self {
        Self { rows, compared: 0 }
    }
}

/// A model that answers within a memory limit.
#[derive(Debug)]
pub(crate) struct ExamModel {
    pub model: Model,
    /// How much of an exam it answers at once.
    pub options: GenerateOptions,
    /// Tokens that are compared with the base at once; a longer row alone.
    pub compared_at_once: usize,
    _limit: MemoryLimit,
}

impl ExamModel {
    /// Whether the model, opened streamed, can do `work` within `limit`.
    ///
    /// # Errors
    /// A limit below the smallest plan, with that.
    pub fn check(model: &Model, work: ExamWork, limit: u64) -> Result<()> {
        Needs { model, work, adapter: 0 }.plan(limit).map(drop)
    }

    /// Opens the model at `path` for `work`, with weights in memory as far as `limit` allows beside the largest of
    /// `adapters`, activations and caches.
    ///
    /// # Errors
    /// A model that cannot be opened; a limit below the smallest plan, with that.
    pub fn open(path: &Path, adapters: &[&Path], work: ExamWork, limit: u64) -> Result<Self> {
        let sizes = adapters.iter().map(|folder| fs::metadata(Adapter::weights_file(folder)));
        let adapter = sizes.filter_map(|file| Some(file.ok()?.len())).max().unwrap_or_default();
        let model = Model::open_with(path, WeightResidency::Streamed)?;
        let needs = Needs { model: &model, work, adapter };
        let plan = needs.plan(limit)?;
        let cache_bytes = (limit - needs.resident(&plan) - needs.answering(&plan))
            .min(GenerateOptions::default().cache_bytes as u64);
        tracing::info!(
            streamed = plan.layers.iter().filter(|it| **it == WeightResidency::Streamed).count(),
            layers = plan.layers.len(),
            prompt_tokens = plan.prompt_tokens,
            cache_bytes,
            limit,
            "the plan of an exam"
        );
        let _limit = MemoryLimit::new(limit)?;
        let options = GenerateOptions {
            cache_bytes: usize::try_from(cache_bytes).unwrap_or(usize::MAX),
            prompt_tokens_per_step: plan.prompt_tokens,
            ..GenerateOptions::default()
        };
        let model = model.with_weights(plan.embeddings, &plan.layers)?;
        Ok(Self { model, options, compared_at_once: plan.prompt_tokens, _limit })
    }
}

/// Where weights are kept, and how much is computed at once.
#[derive(Debug, Clone)]
struct Plan {
    embeddings: WeightResidency,
    layers: Vec<WeightResidency>,
    prompt_tokens: usize,
}

/// What the memory of an exam depends on beside the plan.
struct Needs<'a> {
    model: &'a Model,
    work: ExamWork,
    /// Bytes of an adapter.
    adapter: u64,
}

impl Needs<'_> {
    /// The fastest plan within `limit`.
    fn plan(&self, limit: u64) -> Result<Plan> {
        use WeightResidency::{Packed, PackedAndDequantized, Streamed};
        let layers = self.model.layers().len();
        let plans = || {
            let residencies = match self.model.auto_residency() {
                PackedAndDequantized => &[PackedAndDequantized, Packed, Streamed][..],
                _ => &[Packed, Streamed],
            };
            residencies.iter().flat_map(move |&weights| {
                PROMPT_TOKENS.map(|prompt_tokens| Plan {
                    embeddings: weights,
                    layers: vec![weights; layers],
                    prompt_tokens,
                })
            })
        };
        let fits = |plan: &Plan| self.of(plan) <= limit;
        let Some(mut plan) = plans().find(fits) else {
            let least = plans().map(|plan| self.of(&plan)).min().unwrap_or_default();
            return Err(Error::Train(lora_train::Error::Setting {
                location: Default::default(),
                key: "nightshift.memory_limit".to_owned(),
                expected: format!("at least {}MB for the exam", least.div_ceil(1_000_000)),
                found: Bytes(limit).to_string(),
            }));
        };
        // As many of the streamed layers as there is room for.
        for layer in 0..layers {
            if plan.layers[layer] == Streamed {
                let mut better = plan.clone();
                better.layers[layer] = Packed;
                plan = if fits(&better) { better } else { plan };
            }
        }
        Ok(plan)
    }

    /// The most memory that MLX will hold with `plan` and the smallest cache, in bytes.
    fn of(&self, plan: &Plan) -> u64 {
        let answering = self.answering(plan) + self.least_cache();
        self.resident(plan) + answering.max(self.comparing(plan))
    }

    /// The weights in memory, and an adapter.
    fn resident(&self, plan: &Plan) -> u64 {
        let layers = self.model.layers().iter().zip(&plan.layers);
        let weights: u64 = layers.map(|(layer, &residency)| layer.weight_bytes(residency)).sum();
        self.model.embedding_bytes(plan.embeddings) + weights + self.adapter
    }

    /// What answering takes beside them and the caches.
    fn answering(&self, plan: &Plan) -> u64 {
        // The logits of every row with their softmax.
        let logits = (3 * self.work.rows * self.model.config().vocab_size) as u64 * F32;
        self.lanes() * self.layer(plan, plan.prompt_tokens).max(self.head(plan) + logits)
    }

    /// What a comparison with the base takes beside them. The shortest micro-batch is the longest row.
    fn comparing(&self, plan: &Plan) -> u64 {
        if self.work.compared == 0 {
            return 0;
        }
        let tokens = self.work.compared.max(plan.prompt_tokens);
        self.layer(plan, tokens).max(self.head(plan)) + divergence_bytes(self.model, tokens)
    }

    /// What the layer that takes most needs to compute `tokens` tokens.
    fn layer(&self, plan: &Plan, tokens: usize) -> u64 {
        let size = BatchSize { tokens, row_tokens: tokens, longest: tokens };
        let layers = self.model.layers().iter().zip(&plan.layers);
        let needs = layers.map(|(layer, &residency)| {
            let footprint = layer.footprint(size);
            layer.transient_weight_bytes(residency) + footprint.kept + footprint.tile
        });
        needs.max().unwrap_or_default()
    }

    /// The output matrix as it is multiplied.
    fn head(&self, plan: &Plan) -> u64 {
        let config = self.model.config();
        let unpacked = match plan.embeddings {
            WeightResidency::Dequantized | WeightResidency::PackedAndDequantized => 0,
            _ if self.model.computes_packed() => 0,
            _ => config.vocab_size * config.hidden_size,
        };
        let read = match plan.embeddings {
            WeightResidency::Streamed => self.model.embedding_bytes(WeightResidency::Packed),
            _ => 0,
        };
        read + unpacked as u64 * F32
    }

    fn lanes(&self) -> u64 {
        generation_lanes(self.model, self.work.rows) as u64
    }

    /// The caches of one row in each lane.
    fn least_cache(&self) -> u64 {
        self.lanes() * self.model.cache_bytes(LEAST_CACHE) as u64
    }
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::process::Command;

    use mlx_rs::memory::{peak_memory, reset_peak_memory};
    use models::{ScoreRow, Storage, divergence, synthesize};

    use super::*;

    /// Set in a process of its own: MLX counts the memory of a whole process.
    const CHILD: &str = "NIGHTSHIFT_TEST_COMPARING";

    #[test]
    fn comparing_with_the_base_stays_within_the_least_limit_that_has_a_plan() {
        const TEST: &str = "exam_model::tests::comparing_with_the_base_stays_within_the_least_limit_that_has_a_plan";
        if env::var_os(CHILD).is_none() {
            let mut child = Command::new(env::current_exe().unwrap());
            child.args(["--exact", TEST, "--nocapture"]).env(CHILD, "1");
            let output = child.output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let (shape, path) = (folder.path().join("shape.json"), folder.path().join("model"));
        let config = serde_json::json!({
            "model_type": "llama", "hidden_size": 256, "intermediate_size": 768,
            "num_hidden_layers": 6, "num_attention_heads": 4, "num_key_value_heads": 2,
            "vocab_size": 2048, "rms_norm_eps": 1e-5, "tie_word_embeddings": true,
        });
        fs::write(&shape, config.to_string()).unwrap();
        synthesize(&shape, &path, Storage::Bf16, 7, &mut |_, _| ()).unwrap();

        const LONGEST: usize = 300;
        let work = ExamWork { rows: 1, compared: LONGEST };
        let streamed = Model::open_with(&path, WeightResidency::Streamed).unwrap();
        let megabytes = |work| {
            let fits = |mb: &u64| ExamModel::check(&streamed, work, mb * 1_000_000).is_ok();
            (1..1000).find(fits).unwrap()
        };
        let (least, answers_only) = (megabytes(work), megabytes(ExamWork::answers(1)));
        assert!(least > answers_only, "{least} MB with comparisons, {answers_only} MB without");
        drop(streamed);

        let opened = ExamModel::open(&path, &[], work, least * 1_000_000).unwrap();
        let tokens: Vec<u32> = (0..LONGEST as u32).map(|token| token * 7 % 2048).collect();
        let scored = [LONGEST - 128..LONGEST];
        let none = Adapter::none(&opened.model);
        let peak = |rows: usize| {
            reset_peak_memory().unwrap();
            let row = ScoreRow { tokens: &tokens, scored: &scored };
            divergence(&opened.model, &none, &none, &vec![row; rows]).unwrap();
            peak_memory().unwrap() as u64
        };
        let (one, three) = (peak(1), peak(3));
        eprintln!("{one} and {three} bytes of {least} MB, {answers_only} MB without comparisons");
        assert!(one <= least * 1_000_000, "{one} of {least} MB");
        // A plan that forgets the comparison would not have kept to its limit.
        assert!(three > answers_only * 1_000_000, "{three} of {answers_only} MB");
    }
}
