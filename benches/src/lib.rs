//! Models of random weights and training runs, shared by the benches in this package's folder.

use std::path::Path;

use lora_train::{Data, Dataset, Example, NumLayers, TrainConfig};
use models::{Model, Storage, WeightResidency, synthesize};
use serde_json::{Value, json};

/// `Result` with any error.
pub type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// The size of the models' vocabulary.
pub const VOCABULARY: u32 = 32_768;

/// A model of about 114 million weights of each family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Full attention and a gated MLP.
    Llama,
    /// The architecture of the 31B at an eighth of its width.
    Gemma4,
    /// The architecture of the 27B at an eighth of its width, with an MLP that gives it as many
    /// weights as [`Gemma4`](Self::Gemma4).
    Qwen35,
}

impl Family {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Llama, Self::Gemma4, Self::Qwen35];

    /// The display name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "Llama",
            Self::Gemma4 => "Gemma 4",
            Self::Qwen35 => "Qwen3.5",
        }
    }

    /// The contents of its `config.json`.
    pub fn shape(self) -> Value {
        match self {
            Self::Llama => json!({
                "model_type": "llama", "vocab_size": VOCABULARY, "tie_word_embeddings": true,
                "hidden_size": 640, "num_hidden_layers": 16, "intermediate_size": 2560,
                "num_attention_heads": 10, "num_key_value_heads": 2, "rms_norm_eps": 1e-5,
            }),
            Self::Gemma4 => json!({
                "model_type": "gemma4_text", "vocab_size": VOCABULARY,
                "hidden_size": 672, "num_hidden_layers": 12, "intermediate_size": 2688,
                "num_attention_heads": 4, "num_key_value_heads": 2,
                "num_global_key_value_heads": 1, "head_dim": 256, "global_head_dim": 512,
                "sliding_window": 1024, "sliding_window_pattern": 6, "attention_k_eq_v": true,
                "num_kv_shared_layers": 0, "hidden_size_per_layer_input": 0,
            }),
            Self::Qwen35 => json!({
                "model_type": "qwen3_5_text", "vocab_size": VOCABULARY,
                "tie_word_embeddings": true, "hidden_size": 640, "num_hidden_layers": 16,
                "intermediate_size": 2087, "num_attention_heads": 3, "num_key_value_heads": 1,
                "head_dim": 256, "linear_num_key_heads": 2, "linear_num_value_heads": 6,
                "linear_key_head_dim": 128, "linear_value_head_dim": 128,
            }),
        }
    }
}

/// Writes a model of random weights to `folder` and opens it.
pub fn random_model(
    folder: &Path,
    shape: &Value,
    storage: Storage,
    residency: WeightResidency,
) -> Result<Model> {
    let config = folder.join("shape.json");
    std::fs::write(&config, shape.to_string())?;
    synthesize(&config, folder, storage, 0, &mut |_, _| ())?;
    Ok(Model::open_with(folder, residency)?)
}

/// A run with rank 8 on all layers of `model`. Each update has all of the `rows` rows of `length`
/// tokens, of which the second half is trained.
pub fn run(
    model: &Model,
    folder: &Path,
    rows: usize,
    length: usize,
) -> Result<(TrainConfig, Data)> {
    let mut config = TrainConfig::default();
    config.num_layers = Some(NumLayers::All);
    config.batch_size = rows;
    config.max_seq_length = length + 1;
    config.adapter_path = folder.join("run");
    let vocabulary = model.config().vocab_size as u32;
    let row = |number: usize| {
        Example::new(
            (0..=length as u32)
                .map(|i| (i.wrapping_mul(i).wrapping_mul(61) + number as u32) % vocabulary)
                .collect(),
            vec![length / 2..length + 1],
        )
    };
    let train = Dataset::new("train", (0..rows).map(row), config.max_seq_length)?;
    Ok((config, Data { train, valid: None, retention: None }))
}
