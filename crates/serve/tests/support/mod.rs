//! Tiny checkpoints made by hand, adapters that each say their own word, and a client.
#![allow(dead_code, reason = "each test file uses its share")]

pub mod families;
pub mod schema;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Duration;

use mlx_rs::Array;
use models::layers::Lora;
use models::{Adapter, Model};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Map, Value, json};
use serve::{Base, Options, Server};
use tempfile::TempDir;

/// Bytes, then `<|im_start|>`, `<|im_end|>` and `<|endoftext|>`.
pub const VOCABULARY: usize = 259;
pub const END: usize = 257;

const TEMPLATE: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n\
                        {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// A checkpoint in a folder.
pub struct Checkpoint {
    pub folder: TempDir,
    hidden: usize,
}

impl Checkpoint {
    /// A model whose next token depends only on the last one: attention and MLP add nothing, and the
    /// head is a table. It says `word` again and again, or once if it ends with a full stop.
    ///
    /// No character may occur twice in a word.
    pub fn saying(word: &str) -> Self {
        Self::table(&transitions(word), &[], TEMPLATE)
    }

    /// A model that says these pieces one after the other; each is a token of its own.
    pub fn reciting(pieces: &[&str], template: &str) -> Self {
        let tokens: Vec<usize> = (VOCABULARY..VOCABULARY + pieces.len()).collect();
        let path: Vec<usize> = [&[usize::from(b'\n')], &tokens[..], &[END]].concat();
        let pairs: Vec<_> = path.windows(2).map(|pair| (pair[0], pair[1])).collect();
        Self::table(&pairs, pieces, template)
    }

    /// A model of random weights with this `config.json` but for its vocabulary, which is of bytes and of these control
    /// tokens; the first one begins a text, the second one ends a turn.
    pub fn of_family(mut config: Value, controls: &[&str], template: &str) -> Self {
        let vocabulary = (256 + controls.len()).next_multiple_of(8);
        let text = match config.get_mut("text_config") {
            Some(text) => text,
            None => &mut config,
        };
        text["vocab_size"] = vocabulary.into();
        text["eos_token_id"] = 257.into();
        let hidden = text["hidden_size"].as_u64().unwrap() as usize;
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let shape = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(shape.path(), config.to_string()).unwrap();
        let storage = models::Storage::Bf16;
        models::synthesize(shape.path(), folder.path(), storage, 7, &mut |_, _| ()).unwrap();
        std::fs::write(path("tokenizer.json"), tokenizer_with(controls, &[]).to_string()).unwrap();
        let config = json!({ "bos_token": controls[0], "eos_token": controls[1] });
        std::fs::write(path("tokenizer_config.json"), config.to_string()).unwrap();
        std::fs::write(path("chat_template.jinja"), template).unwrap();
        Self { folder, hidden }
    }

    fn table(transitions: &[(usize, usize)], pieces: &[&str], template: &str) -> Self {
        let vocabulary = VOCABULARY + pieces.len();
        let hidden = vocabulary.next_multiple_of(8);
        let mut head = vec![0.0; vocabulary * hidden];
        for (from, to) in transitions {
            head[to * hidden + from] = 1.0;
        }
        let cell = |at: usize| f32::from(u8::from(at % hidden == at / hidden));
        let identity = (0..vocabulary * hidden).map(cell).collect();
        let layer = |shape: &[usize]| vec![0.0; shape.iter().product()];
        Self::write(hidden, [identity, head], layer, pieces, template)
    }

    /// A model of random weights that says printable characters.
    pub fn random(seed: u64) -> Self {
        let hidden = 32;
        let mut random = Random(seed);
        let embedding = random.weights(VOCABULARY * hidden, 1.0);
        let mut head = random.weights(VOCABULARY * hidden, 1.0);
        for token in (0..VOCABULARY).filter(|token| !(32..127).contains(token)) {
            head[token * hidden..(token + 1) * hidden].fill(0.0);
        }
        let layer = |shape: &[usize]| {
            random.weights(shape.iter().product(), 1.7 / (shape[1] as f32).sqrt())
        };
        Self::write(hidden, [embedding, head], layer, &[], TEMPLATE)
    }

    fn write(
        hidden: usize,
        [embedding, head]: [Vec<f32>; 2],
        mut layer: impl FnMut(&[usize]) -> Vec<f32>,
        pieces: &[&str],
        template: &str,
    ) -> Self {
        let vocabulary = VOCABULARY + pieces.len();
        const FFN: usize = 48;
        const KEYS: usize = 16;
        const LAYERS: usize = 2;
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let config = json!({
            "model_type": "llama", "hidden_size": hidden, "intermediate_size": FFN,
            "num_hidden_layers": LAYERS, "num_attention_heads": 2, "num_key_value_heads": 1,
            "head_dim": KEYS, "vocab_size": vocabulary, "rms_norm_eps": 1e-5, "rope_theta": 10_000.0,
            "tie_word_embeddings": false, "eos_token_id": END,
        });
        std::fs::write(path("config.json"), config.to_string()).unwrap();
        let mut tensors = vec![
            ("model.embed_tokens".to_owned(), vec![vocabulary, hidden], embedding),
            ("lm_head".to_owned(), vec![vocabulary, hidden], head),
            ("model.norm".to_owned(), vec![hidden], vec![1.0; hidden]),
        ];
        for index in 0..LAYERS {
            let name = |path: &str| format!("model.layers.{index}.{path}");
            for (path, shape) in [
                ("self_attn.q_proj", [2 * KEYS, hidden]),
                ("self_attn.k_proj", [KEYS, hidden]),
                ("self_attn.v_proj", [KEYS, hidden]),
                ("self_attn.o_proj", [hidden, 2 * KEYS]),
                ("mlp.gate_proj", [FFN, hidden]),
                ("mlp.up_proj", [FFN, hidden]),
                ("mlp.down_proj", [hidden, FFN]),
            ] {
                tensors.push((name(path), shape.to_vec(), layer(&shape)));
            }
            for path in ["input_layernorm", "post_attention_layernorm"] {
                tensors.push((name(path), vec![hidden], vec![1.0; hidden]));
            }
        }
        let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
            .into_iter()
            .map(|(name, shape, values)| {
                let bytes = values.into_iter().flat_map(f32::to_le_bytes).collect();
                (format!("{name}.weight"), shape, bytes)
            })
            .collect();
        let views = bytes.iter().map(|(name, shape, bytes)| {
            (name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
        });
        std::fs::write(path("model.safetensors"), safetensors::serialize(views, None).unwrap())
            .unwrap();
        std::fs::write(path("tokenizer.json"), tokenizer(pieces).to_string()).unwrap();
        let config = json!({ "chat_template": template, "eos_token": "<|im_end|>" });
        std::fs::write(path("tokenizer_config.json"), config.to_string()).unwrap();
        Self { folder, hidden }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn base(&self) -> Base {
        Base::open(self.path()).unwrap()
    }

    pub fn model(&self) -> Model {
        Model::open(self.path()).unwrap()
    }

    /// Writes an adapter with which a model that says `instead` says `word`.
    pub fn adapter(&self, instead: &str, word: &str) -> TempDir {
        let before: Vec<_> = transitions(instead);
        let mut changes: Vec<(usize, usize, f32)> =
            before.iter().map(|&(from, to)| (from, to, -2.0)).collect();
        changes.extend(transitions(word).iter().map(|&(from, to)| (from, to, 2.0)));
        let rank = changes.len();
        let (mut a, mut b) = (vec![0.0; self.hidden * rank], vec![0.0; rank * VOCABULARY]);
        for (r, (from, to, weight)) in changes.into_iter().enumerate() {
            a[from * rank + r] = 1.0;
            b[r * VOCABULARY + to] = weight;
        }
        let shape = |rows: usize, columns: usize| [rows as i32, columns as i32];
        let lora = Lora {
            a: Array::from_slice(&a, &shape(self.hidden, rank)),
            b: Array::from_slice(&b, &shape(rank, VOCABULARY)),
            scale: 1.0,
            magnitude: None,
            dropout: None,
        };
        let model = self.model();
        let head = [("lm_head", lora)].into_iter().collect();
        self.save(&model, &Adapter::none(&model).with_embeddings(head))
    }

    /// Writes an adapter of random weights for all linear layers but experts.
    pub fn random_adapter(&self, seed: u64) -> TempDir {
        const RANK: usize = 4;
        let model = self.model();
        let mut random = Random(seed);
        let layers = model.layers().iter().map(|layer| {
            let update = |spec: models::layers::LinearSpec| {
                let (inputs, outputs) = (spec.in_features, spec.out_features);
                let lora = Lora {
                    a: Array::from_slice(
                        &random.weights(inputs * RANK, 0.5),
                        &[inputs as i32, RANK as i32],
                    ),
                    b: Array::from_slice(
                        &random.weights(RANK * outputs, 0.5),
                        &[RANK as i32, outputs as i32],
                    ),
                    scale: 1.0,
                    magnitude: None,
                    dropout: None,
                };
                (spec.path, lora)
            };
            // The matrices of experts have another form.
            let linears = layer.linears().into_iter().filter(|it| !it.path.contains("experts"));
            linears.map(update).collect()
        });
        self.save(&model, &Adapter::new(layers.collect()))
    }

    fn save(&self, model: &Model, adapter: &Adapter) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        adapter.save(folder.path(), model, &Map::new()).unwrap();
        folder
    }
}

/// From token to token: the prompt ends with a line break.
fn transitions(word: &str) -> Vec<(usize, usize)> {
    let bytes: Vec<usize> = word.bytes().map(usize::from).collect();
    assert!(
        (1..bytes.len()).all(|at| !bytes[..at].contains(&bytes[at])),
        "{word}: a character twice"
    );
    let ends = word.ends_with('.');
    let next = if ends { END } else { bytes[0] };
    let mut pairs: Vec<_> = bytes.windows(2).map(|pair| (pair[0], pair[1])).collect();
    pairs.extend([(usize::from(b'\n'), bytes[0]), (bytes[bytes.len() - 1], next)]);
    pairs
}

/// Seeded numbers from -1 to 1.
struct Random(u64);

impl Random {
    fn weights(&mut self, count: usize, scale: f32) -> Vec<f32> {
        let mut next = || {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            ((self.0 >> 40) as f32 / (1u64 << 24) as f32 * 2.0 - 1.0) * scale
        };
        (0..count).map(|_| next()).collect()
    }
}

/// Byte-level BPE without merges: every byte is a token, and every one of `pieces`.
fn tokenizer(pieces: &[&str]) -> Value {
    tokenizer_with(&["<|im_start|>", "<|im_end|>", "<|endoftext|>"], pieces)
}

fn tokenizer_with(specials: &[&str], pieces: &[&str]) -> Value {
    let first_piece = 256 + specials.len();
    let vocabulary: Map<String, Value> =
        (0..=255u8).map(|byte| (symbol(byte).to_string(), json!(byte))).collect();
    let special = |(id, &content): (usize, &&str)| {
        json!({
            "id": id, "content": content, "special": id < first_piece, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false,
        })
    };
    let byte_level = json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false,
    });
    json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": (256..).zip(specials.iter().chain(pieces)).map(special).collect::<Vec<_>>(),
        "pre_tokenizer": byte_level, "post_processor": null, "decoder": byte_level,
        "model": { "type": "BPE", "vocab": vocabulary, "merges": [] },
    })
}

/// The character that byte-level tokenizers use for a byte: itself if printable, else one from U+0100.
fn symbol(byte: u8) -> char {
    let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if printable(byte) {
        return char::from(byte);
    }
    let place = (0..byte).filter(|&b| !printable(b)).count() as u32;
    char::from_u32(0x100 + place).unwrap()
}

/// A server on a free port.
pub fn serve(base: Base, change: impl FnOnce(&mut Options)) -> Server {
    let mut options = Options::port(0);
    change(&mut options);
    Server::start(base, options).unwrap()
}

/// A response: status, headers, body.
pub struct Reply {
    pub status: u16,
    pub retry_after: Option<String>,
    pub body: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub fn error(&self) -> String {
        self.json()["error"]["message"].as_str().unwrap_or_default().to_owned()
    }
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        // On a machine that is busy with other things an answer may take long.
        .timeout_global(Some(Duration::from_secs(300)))
        .proxy(None);
    config.build().into()
}

pub fn get(server: &Server, path: &str) -> Reply {
    reply(agent().get(format!("http://{}{path}", server.address())).call().unwrap())
}

pub fn post(server: &Server, path: &str, body: &[u8]) -> Reply {
    let request = agent().post(format!("http://{}{path}", server.address()));
    reply(request.header("Content-Type", "application/json").send(body).unwrap())
}

fn reply(mut response: ureq::http::Response<ureq::Body>) -> Reply {
    let header = response.headers().get("retry-after");
    let retry_after = header.map(|value| value.to_str().unwrap().to_owned());
    let status = response.status().as_u16();
    Reply { status, retry_after, body: response.body_mut().read_to_string().unwrap() }
}

/// A chat of one question; `more` are further fields.
pub fn question(text: &str, more: Value) -> Value {
    let mut body = json!({ "messages": [{ "role": "user", "content": text }] });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

pub fn chat(server: &Server, body: &Value) -> Reply {
    post(server, "/v1/chat/completions", body.to_string().as_bytes())
}

/// The objects of a streamed response, and whether it ended as it must.
pub fn streamed(server: &Server, path: &str, body: &Value) -> (Vec<Value>, bool) {
    let request = agent().post(format!("http://{}{path}", server.address()));
    let response =
        request.header("Content-Type", "application/json").send(body.to_string()).unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut objects = Vec::new();
    for line in BufReader::new(response.into_body().into_reader()).lines() {
        match line.unwrap().strip_prefix("data: ") {
            Some("[DONE]") => return (objects, true),
            Some(data) => objects.push(serde_json::from_str(data).unwrap()),
            None => {}
        }
    }
    (objects, false)
}

/// The text of the first answer.
pub fn text(reply: &Value) -> &str {
    reply["choices"][0]["message"]["content"].as_str().unwrap_or_else(|| panic!("{reply}"))
}
