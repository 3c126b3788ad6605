use super::config::{Config, EMBEDDING, FINAL_NORM, OUTPUT};
use super::names::{INPUT_NORM, K, O, POST_ATTENTION_NORM, Q, V};
use crate::nn::{DOWN, GATE, UP};

/// GGUF's names of modules outside the layers, and those of safetensors files.
const OUTER: [(&str, &str); 3] =
    [("token_embd", EMBEDDING), ("output_norm", FINAL_NORM), ("output", OUTPUT)];

/// The same for modules of a layer, below `blk.N` and `model.layers.N`.
const IN_LAYER: [(&str, &str); 9] = [
    ("attn_q", Q),
    ("attn_k", K),
    ("attn_v", V),
    ("attn_output", O),
    ("ffn_gate", GATE),
    ("ffn_up", UP),
    ("ffn_down", DOWN),
    ("attn_norm", INPUT_NORM),
    ("ffn_norm", POST_ATTENTION_NORM),
];

/// How GGUF files of a family name and order tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GgufLayout {
    /// `general.architecture` in the metadata.
    pub architecture: &'static str,
    /// Whether the rows of query and key projections alternate between the two halves of each head.
    pub interleaved: bool,
    /// Modules of a layer that have other names than in most families, or that only this one has.
    pub names: &'static [(&'static str, &'static str)],
}

impl GgufLayout {
    /// The name in safetensors files of a tensor: `blk.3.attn_q.weight` is
    /// `model.layers.3.self_attn.q_proj.weight`. Unknown names are kept, and are reported as
    /// unexpected.
    pub fn safetensors_name(self, name: &str) -> String {
        let Some((stem, part)) = name.rsplit_once('.') else { return name.to_owned() };
        let find = |names: &[(&str, &'static str)], stem: &str| {
            names.iter().find(|(gguf, _)| *gguf == stem).map(|&(_, module)| module)
        };
        let in_layer = || {
            let (layer, stem) = stem.strip_prefix("blk.")?.split_once('.')?;
            let module = find(self.names, stem).or_else(|| find(&IN_LAYER, stem))?;
            Some(format!("model.layers.{layer}.{module}"))
        };
        let module = find(&OUTER, stem).map(str::to_owned).or_else(in_layer);
        format!("{}.{part}", module.as_deref().unwrap_or(stem))
    }

    /// GGUF's name of the module at `path`, below its layer or, without one, whole.
    pub fn stem(self, layer: Option<usize>, path: &str) -> Option<String> {
        let find = |names: &[(&'static str, &str)]| {
            names.iter().find(|(_, module)| *module == path).map(|&(gguf, _)| gguf)
        };
        let Some(layer) = layer else { return find(&OUTER).map(str::to_owned) };
        let stem = find(self.names).or_else(|| find(&IN_LAYER))?;
        Some(format!("blk.{layer}.{stem}"))
    }

    /// The number of heads of the module at `path`, if its rows are interleaved.
    pub fn interleaved_heads(self, config: &Config, path: &str) -> Option<usize> {
        match path {
            Q if self.interleaved => Some(config.num_heads),
            K if self.interleaved => Some(config.num_kv_heads),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_original_checkpoint() {
        let layout = GgufLayout { architecture: "llama", interleaved: true, names: &[] };
        for (gguf, module) in [
            ("token_embd.scales", "model.embed_tokens.scales"),
            ("output_norm.weight", "model.norm.weight"),
            ("blk.12.ffn_norm.weight", "model.layers.12.post_attention_layernorm.weight"),
            ("blk.0.attn_k.biases", "model.layers.0.self_attn.k_proj.biases"),
            ("blk.0.attn_sinks.weight", "blk.0.attn_sinks.weight"),
            ("nameless", "nameless"),
        ] {
            assert_eq!(layout.safetensors_name(gguf), module);
        }
        assert_eq!(layout.stem(Some(12), "self_attn.q_proj").as_deref(), Some("blk.12.attn_q"));
        assert_eq!(layout.stem(None, "lm_head").as_deref(), Some("output"));
        assert_eq!(layout.stem(Some(0), "lm_head"), None);
    }
}
