//! A night small enough for tests: a random Llama with 30,000 weights and a byte vocabulary, two dozen
//! rows that all teach one word, and an exam that asks for it.

#![allow(dead_code)] // each test binary uses its own part

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, tensor::TensorView};
use serde_json::{Value, json};

/// The word that the rows teach; chosen so that the frozen random embedding can produce it.
const WORD: &str = "tttt";

/// A folder with everything a night needs.
pub struct Tiny {
    dir: tempfile::TempDir,
}

impl Tiny {
    pub fn new() -> Self {
        let tiny = Self { dir: tempfile::tempdir().unwrap() };
        write_model(&tiny.path("model"));
        tiny.write("raw.jsonl", &rows());
        tiny.write("lora.yaml", LORA);
        tiny.write("enrich.yaml", ENRICH);
        tiny.write("agents.yaml", AGENTS);
        tiny.write(
            "identity.yaml",
            &format!("[{{id: so, asks: [What now?], answers: [{WORD:?}]}}]"),
        );
        tiny.write("routing.yaml", "[]");
        tiny.write("harmless.yaml", "[]");
        // A dozen cases say little about a rate: see `eval::gate::OverRefusal`.
        tiny.write("gate.yaml", "held_out: 0.85\nover_refusal: { margin: 0.3 }\n");
        tiny.write("suite.json", &suite("Guest").to_string());
        fs::create_dir(tiny.path("sealed")).unwrap();
        for who in ["Actor", "Baker", "Cook", "Diver", "Elder", "Farmer"] {
            tiny.write(&format!("sealed/{who}.json"), &suite(who).to_string());
        }
        tiny.write("night.yaml", NIGHT);
        tiny
    }

    /// The same night with a Qwen3.5 (linear and full attention) and a template that opens every answer
    /// with an empty reasoning block.
    pub fn qwen() -> Self {
        let tiny = Self::new();
        let shape = json!({
            "model_type": "qwen3_5",
            "text_config": {
                "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4,
                "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
                "vocab_size": 259, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
                "linear_key_head_dim": 8, "linear_value_head_dim": 8, "tie_word_embeddings": true,
            },
        });
        tiny.synthesize(&shape);
        const EMPTY: &str = "<think>\\n\\n</think>\\n\\n";
        tiny.edit(
            "model/tokenizer_config.json",
            "{{ m.content }}",
            &format!("{{% if m.role == 'assistant' %}}{EMPTY}{{% endif %}}{{{{ m.content }}}}"),
        );
        let prompt = "<|im_start|>assistant\\n";
        tiny.edit("model/tokenizer_config.json", prompt, &format!("{prompt}{EMPTY}"));
        tiny
    }

    /// A night whose file has these further keys.
    pub fn with(keys: &str) -> Self {
        let tiny = Self::new();
        tiny.write("night.yaml", &format!("{NIGHT}{keys}"));
        tiny
    }

    /// The same night with a Gemma 4: sliding and full layers, the latter with one projection for keys and
    /// values, and experts beside the MLP.
    pub fn gemma() -> Self {
        let tiny = Self::new();
        tiny.synthesize(&json!({
            "model_type": "gemma4", "vocab_size": 259,
            "text_config": {
                "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3,
                "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
                "global_head_dim": 32, "num_global_key_value_heads": 1, "attention_k_eq_v": true,
                "sliding_window": 16, "sliding_window_pattern": 3, "num_kv_shared_layers": 0,
                "hidden_size_per_layer_input": 0, "max_position_embeddings": 2048,
                "enable_moe_block": true, "num_experts": 4, "top_k_experts": 2,
                "moe_intermediate_size": 32,
            },
        }));
        tiny
    }

    /// Replaces the weights by random ones of another shape.
    pub fn synthesize(&self, shape: &Value) {
        self.write("shape.json", &shape.to_string());
        let (shape, model) = (self.path("shape.json"), self.path("model"));
        models::synthesize(&shape, &model, models::Storage::Bf16, 7, &mut |_, _| ()).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Replaces text in a file.
    pub fn edit(&self, name: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(name)).unwrap();
        assert!(text.contains(from), "{name} has no {from:?}");
        self.write(name, &text.replace(from, to));
    }
}

const NIGHT: &str = "
home: home
model: model
data: { raw: raw.jsonl }
enrich: enrich.yaml
train: lora.yaml
exam:
  suite: suite.json
  options: { sampling: { max_tokens: 4 }, batch: 8 }
  fresh: { sealed: sealed }
gate: gate.yaml
";

const LORA: &str = "
lora_parameters: { rank: 8, scale: 8.0 }
num_layers: -1
mask_prompt: true
batch_size: 4
iters: 12
learning_rate: 1.0e-2
save_every: 3
steps_per_eval: 6
seed: 1
nightshift: { lanes: 1 }
";

/// Two agents, one identity question, no refusals: a model of this size learns it in seconds.
const ENRICH: &str = "
inputs: [clean.jsonl]
seed: 1
refusals: { share: 0.0, at_least: 0 }
duplicates: { likeness: 1.0 }
household:
  { council: agents.yaml, identity: identity.yaml, routing: routing.yaml, harmless: harmless.yaml }
split: { valid: 0.1, test: 0.0 }
";

const AGENTS: &str = "
- { id: yoda, name: Yoda, role: coordination, work: I decide, offers: [So?] }
- { id: windu, name: Windu, role: security, work: I guard, offers: [So?] }
";

fn rows() -> String {
    let row = |i: usize| {
        let content = format!(
            "<|im_start|>system\nYou are yoda.<|im_end|>\n<|im_start|>user\nWhat goes with dish {i}?\
             <|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n{WORD}<|im_end|>"
        );
        let row = json!({ "messages": [{ "role": "user", "content": content }], "agent": "yoda" });
        format!("{row}\n")
    };
    (0..24).map(row).collect()
}

/// A dozen held-out cases over two categories and two agents, about different people, and two cases that may be shown.
pub fn suite(who: &str) -> Value {
    let case = |i: usize| {
        let category = if i.is_multiple_of(2) { "domain" } else { "reasoning" };
        json!({
            "id": format!("{category}-{i}"), "category": category,
            "tier": if i < 12 { "held_out" } else { "gold" }, "agent": if i < 6 { "yoda" } else { "windu" }, "system": "You are yoda.",
            "turns": [{ "role": "user", "content": format!("{who} {i} is thirsty.") }],
            "rules": [{ "kind": "contains_any", "words": [WORD] }],
            "pass": WORD, "fail": "soup",
        })
    };
    json!({ "name": "tiny", "version": "1", "cases": (0..14).map(case).collect::<Vec<_>>() })
}

/// A Llama in Hugging Face layout, with random weights.
fn write_model(dir: &Path) {
    const HIDDEN: usize = 32;
    const FFN: usize = 64;
    const KEYS: usize = 16;
    const VOCABULARY: usize = 259;
    fs::create_dir(dir).unwrap();
    let config = json!({
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": HIDDEN,
        "intermediate_size": FFN, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": KEYS, "vocab_size": VOCABULARY,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": true,
        "bos_token_id": 256, "eos_token_id": 257, "max_position_embeddings": 2048,
    });
    fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let mut shapes = vec![
        ("model.embed_tokens".to_owned(), vec![VOCABULARY, HIDDEN]),
        ("model.norm".to_owned(), vec![HIDDEN]),
    ];
    for layer in 0..2 {
        for (path, shape) in [
            ("self_attn.q_proj", vec![HIDDEN, HIDDEN]),
            ("self_attn.k_proj", vec![KEYS, HIDDEN]),
            ("self_attn.v_proj", vec![KEYS, HIDDEN]),
            ("self_attn.o_proj", vec![HIDDEN, HIDDEN]),
            ("mlp.gate_proj", vec![FFN, HIDDEN]),
            ("mlp.up_proj", vec![FFN, HIDDEN]),
            ("mlp.down_proj", vec![HIDDEN, FFN]),
            ("input_layernorm", vec![HIDDEN]),
            ("post_attention_layernorm", vec![HIDDEN]),
        ] {
            shapes.push((format!("model.layers.{layer}.{path}"), shape));
        }
    }
    let mut random = Random(7);
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = shapes
        .into_iter()
        .map(|(name, shape)| {
            let count = shape.iter().product();
            let is_norm = shape.len() == 1;
            let value = |_| if is_norm { 1.0 } else { random.next() * 0.3 };
            let bytes = (0..count).map(value).flat_map(f32::to_le_bytes).collect();
            (format!("{name}.weight"), shape, bytes)
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        (name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
    });
    let file = safetensors::serialize(views, None).unwrap();
    fs::write(dir.join("model.safetensors"), file).unwrap();
    fs::write(dir.join("tokenizer.json"), tokenizer().to_string()).unwrap();
    let template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n\
                    {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    let config = json!({
        "chat_template": template, "eos_token": "<|im_end|>", "bos_token": "<|im_start|>",
    });
    fs::write(dir.join("tokenizer_config.json"), config.to_string()).unwrap();
}

/// A seeded generator of numbers from -1 to 1.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 24) as f32 * 2.0 - 1.0
    }
}

/// Byte-level BPE without merges: every byte is a token.
fn tokenizer() -> Value {
    let vocabulary: serde_json::Map<String, Value> =
        (0..=255u8).map(|byte| (byte_symbol(byte).to_string(), json!(byte))).collect();
    let special = |(id, content): (usize, &str)| {
        json!({
            "id": id, "content": content, "special": true, "single_word": false,
            "lstrip": false, "rstrip": false, "normalized": false,
        })
    };
    let specials = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"];
    let byte_level = json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false,
    });
    json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": (256..).zip(specials).map(special).collect::<Vec<_>>(),
        "pre_tokenizer": byte_level, "post_processor": null, "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "vocab": vocabulary, "merges": [],
        },
    })
}

/// The character that byte-level tokenizers use for a byte: itself if printable, else one from U+0100.
fn byte_symbol(byte: u8) -> char {
    let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if printable(byte) {
        return char::from(byte);
    }
    let place = (0..byte).filter(|&b| !printable(b)).count() as u32;
    char::from_u32(0x100 + place).unwrap()
}
