//! Gemma 4 and Qwen3.5: tiny checkpoints of random weights with the published chat templates.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::Checkpoint;

/// A family's name, its tiny shape, and what its vocabulary and template need.
pub struct Family {
    pub name: &'static str,
    config: Value,
    controls: &'static [&'static str],
    template: &'static str,
}

/// Sliding and full attention, a shared projection of keys and values, experts.
pub fn gemma4() -> Family {
    let config = json!({
        "model_type": "gemma4", "text_config": {
            "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3,
            "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
            "global_head_dim": 32, "num_global_key_value_heads": 1, "attention_k_eq_v": true,
            "sliding_window": 16, "sliding_window_pattern": 3, "num_kv_shared_layers": 0,
            "hidden_size_per_layer_input": 0, "max_position_embeddings": 2048,
            "enable_moe_block": true, "num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 32,
        },
    });
    let controls = &[
        "<bos>",
        "<turn|>",
        "<|turn>",
        "<|channel>",
        "<channel|>",
        "<|think|>",
        "<|tool>",
        "<tool|>",
        "<|tool_call>",
        "<tool_call|>",
        "<|tool_response>",
        "<tool_response|>",
        "<|\"|>",
    ];
    Family { name: "gemma4", config, controls, template: "google-gemma-4-31B-it.jinja" }
}

/// Three layers of linear attention and one of full attention.
pub fn qwen35() -> Family {
    let config = json!({
        "model_type": "qwen3_5", "text_config": {
            "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4,
            "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
            "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8,
            "linear_value_head_dim": 8, "tie_word_embeddings": true,
        },
    });
    let controls = &[
        "<|im_start|>",
        "<|im_end|>",
        "<|endoftext|>",
        "<think>",
        "</think>",
        "<tool_call>",
        "</tool_call>",
    ];
    Family { name: "qwen35", config, controls, template: "Qwen3.5-4B.jinja" }
}

impl Family {
    pub fn checkpoint(&self, templates: &Path) -> Checkpoint {
        let template = std::fs::read_to_string(templates.join(self.template)).unwrap();
        Checkpoint::of_family(self.config.clone(), self.controls, &template)
    }
}

/// The folder of the published chat templates; `None`, after a line on stderr, where they cannot be fetched.
pub fn templates() -> Option<PathBuf> {
    fetch::if_reachable(fetch::vocabularies(&mut |_| {})).unwrap()
}
