//! Tiny random Llama checkpoints, and the same arithmetic in f64, row by row and token by token.
#![allow(dead_code, reason = "each test file uses its share")]

use std::collections::BTreeMap;
use std::path::Path;

use mlx_rs::Array;
use models::layers::{LayerAdapter, Lora};
use models::{Adapter, Model};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::tensor::{Dtype, TensorView};

/// The dimensions of a tiny model, and its weights by name, row-major.
#[derive(Clone)]
pub struct Tiny {
    pub hidden: usize,
    pub intermediate: usize,
    pub layers: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub vocab: usize,
    pub tied: bool,
    pub interleaved: bool,
    pub weights: BTreeMap<String, Matrix>,
}

#[derive(Clone, Debug)]
pub struct Matrix {
    pub rows: usize,
    pub columns: usize,
    pub values: Vec<f32>,
}

pub const EPS: f64 = 1e-5;
pub const THETA: f64 = 10_000.0;

impl Tiny {
    /// Three heads to a key head, and heads that do not add up to the hidden size.
    pub fn new(seed: u64) -> Self {
        Self {
            hidden: 32,
            intermediate: 64,
            layers: 3,
            heads: 6,
            kv_heads: 2,
            head_dim: 8,
            vocab: 96,
            tied: true,
            interleaved: false,
            weights: BTreeMap::new(),
        }
        .redrawn(seed)
    }

    pub fn untied(seed: u64) -> Self {
        Self { tied: false, interleaved: true, ..Self::new(seed) }.redrawn(seed)
    }

    /// With weights for its present dimensions.
    pub fn redrawn(mut self, seed: u64) -> Self {
        self.draw(seed);
        self
    }

    fn draw(&mut self, seed: u64) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        self.weights = self
            .shapes()
            .into_iter()
            .map(|(name, rows, columns)| {
                let norm = rows == 1;
                let draw = |rng: &mut ChaCha8Rng| rng.random::<f32>() * 2.0 - 1.0;
                let values = (0..rows * columns).map(|_| match norm {
                    true => 1.0 + 0.3 * draw(&mut rng),
                    false => 1.7 * draw(&mut rng) / (columns as f32).sqrt(),
                });
                (name, Matrix { rows, columns, values: values.collect() })
            })
            .collect();
    }

    fn shapes(&self) -> Vec<(String, usize, usize)> {
        let mut shapes = vec![
            ("model.embed_tokens".to_owned(), self.vocab, self.hidden),
            ("model.norm".to_owned(), 1, self.hidden),
        ];
        if !self.tied {
            shapes.push(("lm_head".to_owned(), self.vocab, self.hidden));
        }
        let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        for layer in 0..self.layers {
            for (path, rows, columns) in [
                ("input_layernorm", 1, self.hidden),
                ("post_attention_layernorm", 1, self.hidden),
                ("self_attn.q_proj", q, self.hidden),
                ("self_attn.k_proj", kv, self.hidden),
                ("self_attn.v_proj", kv, self.hidden),
                ("self_attn.o_proj", self.hidden, q),
                ("mlp.gate_proj", self.intermediate, self.hidden),
                ("mlp.up_proj", self.intermediate, self.hidden),
                ("mlp.down_proj", self.hidden, self.intermediate),
            ] {
                shapes.push((format!("model.layers.{layer}.{path}"), rows, columns));
            }
        }
        shapes
    }

    pub fn config_json(&self) -> serde_json::Value {
        serde_json::json!({
            "model_type": "llama", "hidden_size": self.hidden,
            "intermediate_size": self.intermediate, "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads, "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim, "vocab_size": self.vocab, "rms_norm_eps": EPS,
            "rope_theta": THETA, "tie_word_embeddings": self.tied,
            "rope_traditional": self.interleaved, "hidden_act": "silu",
        })
    }

    /// Writes `config.json` and `model.safetensors`.
    pub fn write(&self, folder: &Path) {
        std::fs::write(folder.join("config.json"), self.config_json().to_string()).unwrap();
        let tensors = self.weights.iter().map(|(name, m)| {
            let shape = if m.rows == 1 { vec![m.columns] } else { vec![m.rows, m.columns] };
            (format!("{name}.weight"), shape, m.values.clone())
        });
        write_safetensors(&folder.join("model.safetensors"), tensors);
    }

    /// Writes the checkpoint with every matrix quantized to 4 bits, and changes this model's
    /// weights to what they are then.
    pub fn write_quantized(&mut self, folder: &Path, group: i32) {
        let mut arrays = Vec::new();
        for (name, m) in &mut self.weights {
            let w = m.array();
            if m.rows == 1 {
                arrays.push((format!("{name}.weight"), w));
                continue;
            }
            let (packed, scales, biases) = mlx_rs::ops::quantize(&w, group, 4).unwrap();
            let plain = mlx_rs::ops::dequantize(&packed, &scales, &biases, group, 4).unwrap();
            m.values = plain.as_slice::<f32>().to_vec();
            arrays.push((format!("{name}.weight"), packed));
            arrays.push((format!("{name}.scales"), scales));
            arrays.push((format!("{name}.biases"), biases));
        }
        Array::save_safetensors(arrays, None, folder.join("model.safetensors")).unwrap();
        let mut config = self.config_json();
        config["quantization"] = serde_json::json!({ "group_size": group, "bits": 4 });
        std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    }

    /// Logits of one sequence, all in f64: `[tokens][vocab]`.
    pub fn logits(&self, tokens: &[u32]) -> Vec<Vec<f64>> {
        let embedding = &self.weights["model.embed_tokens"];
        let mut x: Vec<Vec<f64>> =
            tokens.iter().map(|&t| embedding.row(t as usize).collect()).collect();
        for layer in 0..self.layers {
            let w = |path: &str| &self.weights[&format!("model.layers.{layer}.{path}")];
            let mut keys: Vec<Vec<Vec<f64>>> = Vec::new();
            let mut values: Vec<Vec<Vec<f64>>> = Vec::new();
            for (position, x) in x.iter_mut().enumerate() {
                let h = norm(x, w("input_layernorm"));
                let split = |y: Vec<f64>| y.chunks(self.head_dim).map(<[f64]>::to_vec).collect();
                let queries: Vec<Vec<f64>> = split(w("self_attn.q_proj").times(&h));
                let new_keys: Vec<Vec<f64>> = split(w("self_attn.k_proj").times(&h));
                keys.push(new_keys.iter().map(|k| self.rotate(k, position)).collect());
                values.push(split(w("self_attn.v_proj").times(&h)));
                let group = self.heads / self.kv_heads;
                let attended: Vec<f64> = (queries.iter().enumerate())
                    .flat_map(|(head, q)| {
                        let q = self.rotate(q, position);
                        let scale = (self.head_dim as f64).sqrt();
                        let scores = keys.iter().map(|k| dot(&q, &k[head / group]) / scale);
                        let weights: Vec<f64> = scores.map(f64::exp).collect();
                        let sum: f64 = weights.iter().sum();
                        let at = |d: usize| {
                            let terms = weights.iter().zip(&values);
                            terms.map(|(w, v)| w * v[head / group][d]).sum::<f64>() / sum
                        };
                        (0..self.head_dim).map(at).collect::<Vec<_>>()
                    })
                    .collect();
                add(x, &w("self_attn.o_proj").times(&attended));
                let h = norm(x, w("post_attention_layernorm"));
                let gate = w("mlp.gate_proj").times(&h);
                let up = w("mlp.up_proj").times(&h);
                let inner: Vec<f64> =
                    gate.iter().zip(&up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
                add(x, &w("mlp.down_proj").times(&inner));
            }
        }
        let output = if self.tied { embedding } else { &self.weights["lm_head"] };
        x.iter().map(|x| output.times(&norm(x, &self.weights["model.norm"]))).collect()
    }

    fn rotate(&self, x: &[f64], position: usize) -> Vec<f64> {
        let d = x.len();
        let mut out = x.to_vec();
        for i in 0..d / 2 {
            let (a, b) = if self.interleaved { (2 * i, 2 * i + 1) } else { (i, i + d / 2) };
            let angle = position as f64 * THETA.powf(-2.0 * i as f64 / d as f64);
            out[a] = x[a] * angle.cos() - x[b] * angle.sin();
            out[b] = x[b] * angle.cos() + x[a] * angle.sin();
        }
        out
    }

    /// Adds `scale * B^T A^T` to a matrix: what an adapter does to it.
    pub fn merge(&mut self, name: &str, a: &[f32], b: &[f32], rank: usize, scale: f32) {
        let m = self.weights.get_mut(name).unwrap();
        for row in 0..m.rows {
            for column in 0..m.columns {
                let delta: f32 =
                    (0..rank).map(|r| a[column * rank + r] * b[r * m.rows + row]).sum();
                m.values[row * m.columns + column] += scale * delta;
            }
        }
    }
}

impl Matrix {
    fn row(&self, row: usize) -> impl Iterator<Item = f64> + '_ {
        self.values[row * self.columns..][..self.columns].iter().map(|&w| f64::from(w))
    }

    fn times(&self, x: &[f64]) -> Vec<f64> {
        (0..self.rows).map(|row| self.row(row).zip(x).map(|(w, x)| w * x).sum()).collect()
    }

    pub fn array(&self) -> Array {
        let shape = [self.rows as i32, self.columns as i32];
        Array::from_slice(&self.values, if self.rows == 1 { &shape[1..] } else { &shape })
    }
}

fn norm(x: &[f64], weight: &Matrix) -> Vec<f64> {
    let mean_square = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
    x.iter().zip(weight.row(0)).map(|(x, w)| x / (mean_square + EPS).sqrt() * w).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(x: &mut [f64], y: &[f64]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

pub fn write_safetensors(
    path: &Path,
    tensors: impl IntoIterator<Item = (String, Vec<usize>, Vec<f32>)>,
) {
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = (tensors.into_iter())
        .map(|(name, shape, values)| {
            (name, shape, values.into_iter().flat_map(f32::to_le_bytes).collect())
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        (name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
    });
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// Some tokens, the same for the same numbers.
pub fn tokens(seed: u64, count: usize, vocab: usize) -> Vec<u32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| rng.random_range(0..vocab as u32)).collect()
}

/// The largest difference, relative to the largest expected value.
pub fn worst(found: &Array, expected: &[Vec<f64>]) -> f64 {
    let expected: Vec<f64> = expected.concat();
    let found = found.as_slice::<f32>();
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0f64, |largest, x| largest.max(x.abs()));
    let pairs = found.iter().zip(&expected);
    pairs.map(|(f, e)| (f64::from(*f) - e).abs()).fold(0f64, f64::max) / largest
}

/// The rank and scale of [`adapter`]'s updates.
pub const RANK: usize = 4;
pub const SCALE: f32 = 3.0;

/// Random factors for every linear layer of the last two layers; and `tiny` with them merged in.
pub fn adapter(tiny: &mut Tiny, model: &Model) -> Adapter {
    let draw = |seed: u64, count: usize| -> Vec<f32> {
        tokens(seed, count, 201).iter().map(|&t| (t as f32 - 100.0) / 500.0).collect()
    };
    let mut layers = vec![LayerAdapter::default()];
    for (index, layer) in model.layers().iter().enumerate().skip(1) {
        let updates = layer.linears().into_iter().enumerate().map(|(i, spec)| {
            let seed = (index * 100 + i * 2) as u64;
            let (inputs, outputs) = (spec.in_features, spec.out_features);
            let (a, b) = (draw(seed, inputs * RANK), draw(seed + 1, RANK * outputs));
            tiny.merge(&format!("model.layers.{index}.{}", spec.path), &a, &b, RANK, SCALE);
            let a = Array::from_slice(&a, &[inputs as i32, RANK as i32]);
            let b = Array::from_slice(&b, &[RANK as i32, outputs as i32]);
            (spec.path, Lora { a, b, scale: SCALE, magnitude: None, dropout: None })
        });
        layers.push(updates.collect());
    }
    Adapter::new(layers)
}
