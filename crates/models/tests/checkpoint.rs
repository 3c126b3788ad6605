//! Opening models: GGUF beside safetensors, and everything that is refused.

mod common;
mod rounding;

use std::path::{Path, PathBuf};

use common::{Matrix, Tiny, tokens, worst, write_safetensors};
use mlx_rs::Array;
use mlx_rs::io::GgufFile;
use models::{Adapter, Error, Model, WeightResidency};
use proptest::prelude::*;

/// Writes `tiny` as a GGUF file of the given architecture: names, permutation and metadata as
/// llama.cpp's converter makes them.
fn write_gguf(tiny: &Tiny, path: &Path, architecture: &str) {
    let mut file = gguf_header(tiny, architecture);
    for (name, array) in gguf_tensors(tiny) {
        file.insert_array(name, &array).unwrap();
    }
    file.save(path).unwrap();
}

/// Writes `tiny` as a GGUF model in as many files as there are `parts`, whose tensors each accepts by
/// their index. The path of the first.
fn write_split_gguf(tiny: &Tiny, folder: &Path, parts: &[&dyn Fn(usize) -> bool]) -> PathBuf {
    let count = parts.len();
    let path = |number: usize| folder.join(format!("tiny-{:05}-of-{count:05}.gguf", number + 1));
    for (number, accepts) in parts.iter().enumerate() {
        let mut file = match number {
            0 => gguf_header(tiny, "llama"),
            _ => GgufFile::new().unwrap(),
        };
        for (key, value) in [("split.no", number), ("split.count", count)] {
            file.insert_metadata(key, Array::from_slice(&[value as u32], &[])).unwrap();
        }
        let tensors = gguf_tensors(tiny).into_iter().enumerate();
        for (_, (name, array)) in tensors.filter(|(index, _)| accepts(*index)) {
            file.insert_array(name, &array).unwrap();
        }
        file.save(path(number)).unwrap();
    }
    path(0)
}

fn gguf_header(tiny: &Tiny, architecture: &str) -> GgufFile {
    let mut file = GgufFile::new().unwrap();
    let int = |n: usize| Array::from_slice(&[n as u32], &[]);
    let key = |name: &str| format!("{architecture}.{name}");
    file.insert_metadata("general.architecture", architecture).unwrap();
    for (name, value) in [
        ("block_count", int(tiny.layers)),
        ("embedding_length", int(tiny.hidden)),
        ("feed_forward_length", int(tiny.intermediate)),
        ("attention.head_count", int(tiny.heads)),
        ("attention.head_count_kv", int(tiny.kv_heads)),
        ("attention.key_length", int(tiny.head_dim)),
        ("attention.layer_norm_rms_epsilon", Array::from_f32(common::EPS as f32)),
        ("rope.freq_base", Array::from_f32(common::THETA as f32)),
    ] {
        file.insert_metadata(key(name), value).unwrap();
    }
    file
}

fn gguf_tensors(tiny: &Tiny) -> Vec<(String, Array)> {
    let tensors = tiny.weights.iter().map(|(name, matrix)| {
        let heads = match name.rsplit('.').next() {
            Some("q_proj") => Some(tiny.heads),
            Some("k_proj") => Some(tiny.kv_heads),
            _ => None,
        };
        let matrix = heads.map_or(matrix.clone(), |heads| interleaved(matrix, heads));
        (gguf_name(name), matrix.array())
    });
    tensors.collect()
}

fn gguf_name(name: &str) -> String {
    let name = match name {
        "model.embed_tokens" => "token_embd".to_owned(),
        "model.norm" => "output_norm".to_owned(),
        "lm_head" => "output".to_owned(),
        layer => [
            ("model.layers", "blk"),
            ("input_layernorm", "attn_norm"),
            ("post_attention_layernorm", "ffn_norm"),
            ("self_attn.q_proj", "attn_q"),
            ("self_attn.k_proj", "attn_k"),
            ("self_attn.v_proj", "attn_v"),
            ("self_attn.o_proj", "attn_output"),
            ("mlp.gate_proj", "ffn_gate"),
            ("mlp.up_proj", "ffn_up"),
            ("mlp.down_proj", "ffn_down"),
        ]
        .iter()
        .fold(layer.to_owned(), |name, (from, to)| name.replace(from, to)),
    };
    format!("{name}.weight")
}

/// Within each head, the rows of the two halves one by one in turn.
fn interleaved(matrix: &Matrix, heads: usize) -> Matrix {
    let rows: Vec<&[f32]> = matrix.values.chunks(matrix.columns).collect();
    let values = rows.chunks(matrix.rows / heads).flat_map(|head| {
        let (first, second) = head.split_at(head.len() / 2);
        first.iter().zip(second).flat_map(|(a, b)| [*a, *b]).flatten().copied()
    });
    Matrix { values: values.collect(), ..matrix.clone() }
}

#[test]
fn a_gguf_file_is_the_same_model() {
    for tiny in [Tiny::new(1), Tiny { interleaved: false, ..Tiny::untied(1) }] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiny.gguf");
        write_gguf(&tiny, &path, "llama");
        let model = Model::open(&path).unwrap();
        assert_eq!(model.config().tied_embeddings, tiny.tied);
        let tokens = tokens(2, 9, tiny.vocab);
        let logits = model.logits(&tokens, &Adapter::none(&model)).unwrap();
        let worst = worst(&logits, &tiny.logits(&tokens));
        assert!(worst < rounding::tolerance(&model, 2e-6), "{worst:e}");
    }
}

#[test]
fn a_split_gguf_model_is_the_same_model() {
    let tiny = Tiny::new(1);
    let folder = tempfile::tempdir().unwrap();
    let tokens = tokens(2, 9, tiny.vocab);
    let layouts: [&[&dyn Fn(usize) -> bool]; 3] = [
        &[&|index| index % 2 == 0, &|index| index % 2 == 1],
        // llama.cpp can write all metadata into a first part without tensors.
        &[&|_| false, &|_| true],
        &[&|index| index < 5, &|index| (5..9).contains(&index), &|index| index >= 9],
    ];
    for parts in layouts {
        let first = write_split_gguf(&tiny, folder.path(), parts);
        let model = Model::open(&first).unwrap();
        let logits = model.logits(&tokens, &Adapter::none(&model)).unwrap();
        assert!(worst(&logits, &tiny.logits(&tokens)) < rounding::tolerance(&model, 2e-6));
        assert_eq!(models::model_files(&first).unwrap().len(), parts.len());
        let last = format!("tiny-{0:05}-of-{0:05}.gguf", parts.len());
        std::fs::remove_file(folder.path().join(&last)).unwrap();
        let error = Model::open(&first).unwrap_err().to_string();
        let expected =
            format!("expected part {0} of {0} of the model, found no such file", parts.len());
        assert!(error.contains(&last) && error.ends_with(&expected), "{error}");
    }
}

/// llama.cpp's meaning of the keys: a factor counts without a type, and 0 or `none` turns it off.
#[test]
fn a_gguf_files_rotary_scaling_is_applied_or_refused() {
    let tiny = Tiny::new(1);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    let tokens = tokens(2, 9, tiny.vocab);
    let logits = |path: &Path| {
        let model = Model::open(path).map_err(|error| error.to_string())?;
        let logits = model.logits(&tokens, &Adapter::none(&model)).unwrap();
        Ok::<_, String>(logits.as_slice::<f32>().to_vec())
    };
    let scaled = |kind: Option<&str>, factor: Option<(&str, f32)>| {
        let mut file = gguf_header(&tiny, "llama");
        if let Some(kind) = kind {
            file.insert_metadata("llama.rope.scaling.type", kind).unwrap();
        }
        if kind == Some("yarn") {
            let context = Array::from_slice(&[16u32], &[]);
            file.insert_metadata("llama.rope.scaling.original_context_length", context).unwrap();
        }
        if let Some((key, factor)) = factor {
            file.insert_metadata(key, Array::from_f32(factor)).unwrap();
        }
        for (name, array) in gguf_tensors(&tiny) {
            file.insert_array(name, &array).unwrap();
        }
        file.save(&path).unwrap();
        logits(&path)
    };
    let plain = scaled(None, None).unwrap();
    tiny.write(folder.path());
    config(
        &tiny,
        folder.path(),
        "rope_scaling",
        serde_json::json!({"type": "linear", "factor": 4}),
    );
    let linear = logits(folder.path()).unwrap();
    let distance =
        |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
    assert!(distance(&plain, &linear) > 0.01);
    let keys = serde_json::json!({
        "type": "yarn", "factor": 4, "original_max_position_embeddings": 16,
    });
    config(&tiny, folder.path(), "rope_scaling", keys);
    let yarn = logits(folder.path()).unwrap();
    assert!(distance(&yarn, &linear) > 0.01 && distance(&yarn, &plain) > 0.01);
    let (new, old) = ("llama.rope.scaling.factor", "llama.rope.scale_linear");
    for (kind, factor, expected) in [
        (Some("linear"), Some((new, 4.0)), &linear),
        (None, Some((new, 4.0)), &linear),
        (None, Some((old, 4.0)), &linear),
        (Some("yarn"), Some((new, 4.0)), &yarn),
        (Some("none"), Some((new, 4.0)), &plain),
        (Some("linear"), None, &plain),
        (None, Some((new, 0.0)), &plain),
    ] {
        let found = scaled(kind, factor).unwrap();
        assert!(distance(&found, expected) < 1e-5, "{kind:?} {factor:?}");
    }
    let error = scaled(Some("longrope"), Some((new, 4.0))).unwrap_err();
    assert!(
        error.ends_with("llama.rope.scaling.type: expected none, linear or yarn, found longrope"),
        "{error}"
    );
    let error = scaled(Some("linear"), Some((new, -1.0))).unwrap_err();
    assert!(error.contains("rope.scaling.factor: expected a positive number, found -1"), "{error}");
}

#[test]
fn a_gguf_file_cut_anywhere_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    write_gguf(&Tiny::new(1), &path, "llama");
    let whole = std::fs::read(&path).unwrap();
    for share in 0..20 {
        std::fs::write(&path, &whole[..whole.len() * share / 20]).unwrap();
        let error = Model::open(&path).unwrap_err();
        assert!(error.to_string().contains("tiny.gguf"), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Any bytes in the place of some in a header: opened or refused, without a panic.
    #[test]
    fn a_damaged_gguf_file_is_opened_or_refused(
        family in prop::sample::select(vec!["gemma3/text", "llamas/qwen2", "llamas/qwen3"]),
        changes in prop::collection::vec((0usize..4500, any::<u8>()), 1..5),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("damaged.gguf");
        let mut bytes = std::fs::read(format!("../../fixtures/golden/{family}.gguf")).unwrap();
        for (index, value) in changes {
            bytes[index] = value;
        }
        std::fs::write(&path, bytes).unwrap();
        if let Err(error) = Model::open(&path) {
            prop_assert!(error.to_string().contains("damaged.gguf"), "{}", error);
        }
    }
}

#[test]
fn other_architectures_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    write_gguf(&Tiny::new(1), &path, "gptneox");
    let expect = |path: &Path, name: &str| {
        let error = Model::open(path).unwrap_err();
        assert!(matches!(error, Error::UnsupportedArchitecture { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(name) && text.contains("supported: llama"), "{text}");
    };
    expect(&path, "gptneox");
    std::fs::write(folder.path().join("config.json"), r#"{"model_type":"mamba"}"#).unwrap();
    expect(folder.path(), "mamba");
}

#[test]
fn tensors_that_do_not_fit_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let mut tiny = Tiny::new(1);
    let moved = tiny.weights.remove("model.layers.1.mlp.up_proj").unwrap();
    tiny.weights.insert("model.layers.1.mlp.upper_proj".into(), moved);
    tiny.weights.get_mut("model.layers.2.self_attn.k_proj").unwrap().rows = 8;
    tiny.weights.get_mut("model.layers.2.self_attn.k_proj").unwrap().values.truncate(8 * 32);
    tiny.write(folder.path());
    let error = Model::open(folder.path()).unwrap_err();
    let Error::Tensors { differences, .. } = error else { panic!("{error}") };
    assert_eq!(differences.missing, ["model.layers.1.mlp.up_proj.weight"]);
    assert_eq!(differences.unexpected, ["model.layers.1.mlp.upper_proj.weight"]);
    let (name, expected, found) = &differences.mismatched[0];
    assert_eq!(name, "model.layers.2.self_attn.k_proj.weight");
    assert!(expected.contains("[16, 32]") && found.contains("[8, 32]"), "{expected}, {found}");
}

/// What is done to a good checkpoint, and a word the error must have.
type Case = (&'static str, fn(&Tiny, &Path), &'static str);

const REFUSED: &[Case] = &[
    ("no folder", |_, path| std::fs::remove_dir_all(path).unwrap(), "cannot read"),
    (
        "no config",
        |_, path| std::fs::remove_file(path.join("config.json")).unwrap(),
        "expected a .gguf file",
    ),
    (
        "no weights",
        |_, path| std::fs::remove_file(path.join("model.safetensors")).unwrap(),
        "expected a .gguf file",
    ),
    ("config cut short", |_, path| write(path, "config.json", b"{\"model_type\":"), "config.json"),
    (
        "weights cut short",
        |_, path| {
            let whole = std::fs::read(path.join("model.safetensors")).unwrap();
            write(path, "model.safetensors", &whole[..whole.len() - 1]);
        },
        "broken safetensors",
    ),
    (
        "absurd header length",
        |_, path| write(path, "model.safetensors", &[0xff; 64]),
        "broken safetensors",
    ),
    ("zero layers", |tiny, path| config(tiny, path, "num_hidden_layers", 0.into()), "from 1 to"),
    (
        "layers without end",
        |tiny, path| config(tiny, path, "num_hidden_layers", 16_000_000.into()),
        "num_hidden_layers: expected a size from 1 to 4096, found 16000000",
    ),
    ("huge size", |tiny, path| config(tiny, path, "hidden_size", u64::MAX.into()), "from 1 to"),
    ("odd heads", |tiny, path| config(tiny, path, "num_key_value_heads", 4.into()), "divisor"),
    ("other activation", |tiny, path| config(tiny, path, "hidden_act", "gelu".into()), "silu"),
    ("biases", |tiny, path| config(tiny, path, "attention_bias", true.into()), "attention_bias"),
    (
        "unknown rope",
        |tiny, path| {
            config(tiny, path, "rope_scaling", serde_json::json!({ "rope_type": "longrope" }));
        },
        "longrope",
    ),
    (
        "a quantization of another program",
        |tiny, path| {
            let keys = serde_json::json!({ "quant_method": "gptq", "bits": 4 });
            config(tiny, path, "quantization_config", keys);
        },
        "quantization_config.quant_method: expected no quantization, or MLX's (use the original checkpoint, \
         or convert that with mlx_lm.convert), found gptq",
    ),
    (
        "integers for weights",
        |tiny, path| {
            let arrays = tiny
                .weights
                .iter()
                .map(|(name, m)| (format!("{name}.weight"), m.array().as_type::<i32>().unwrap()));
            let path = path.join("model.safetensors");
            Array::save_safetensors(arrays.collect::<Vec<_>>(), None, path).unwrap();
        },
        "I32",
    ),
];

fn write(folder: &Path, name: &str, bytes: &[u8]) {
    std::fs::write(folder.join(name), bytes).unwrap();
}

fn config(tiny: &Tiny, folder: &Path, key: &str, value: serde_json::Value) {
    let mut config = tiny.config_json();
    config[key] = value;
    write(folder, "config.json", config.to_string().as_bytes());
}

#[test]
fn bad_checkpoints_are_errors_that_say_what_is_wrong() {
    let tiny = Tiny::new(1);
    for (name, spoil, word) in REFUSED {
        let folder = tempfile::tempdir().unwrap();
        let path: PathBuf = folder.path().join("model");
        std::fs::create_dir(&path).unwrap();
        tiny.write(&path);
        Model::open(&path).unwrap();
        spoil(&tiny, &path);
        let error = Model::open(&path).unwrap_err().to_string();
        assert!(error.contains(word), "{name}: {error}");
    }
}

#[test]
fn shards_are_joined() {
    let folder = tempfile::tempdir().unwrap();
    let tiny = Tiny::new(5);
    tiny.write(folder.path());
    let tokens = tokens(6, 5, tiny.vocab);
    let logits = |model: Model| model.logits(&tokens, &Adapter::none(&model)).unwrap();
    let whole = logits(Model::open(folder.path()).unwrap());
    std::fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    let names: Vec<&String> = tiny.weights.keys().collect();
    for (shard, names) in names.chunks(7).enumerate() {
        let tensors = names.iter().map(|&name| {
            let m = &tiny.weights[name];
            let shape = if m.rows == 1 { vec![m.columns] } else { vec![m.rows, m.columns] };
            (format!("{name}.weight"), shape, m.values.clone())
        });
        write_safetensors(&folder.path().join(format!("model-{shard}.safetensors")), tensors);
    }
    let sharded = logits(Model::open(folder.path()).unwrap());
    assert_eq!(whole.as_slice::<f32>(), sharded.as_slice::<f32>());
}

#[test]
fn a_weight_that_is_no_number_is_refused_wherever_it_stands() {
    for (name, value) in [
        ("model.embed_tokens", f32::NAN),
        ("model.layers.1.mlp.up_proj", f32::INFINITY),
        ("model.layers.2.input_layernorm", f32::NEG_INFINITY),
        ("model.norm", f32::NAN),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut tiny = Tiny::new(3);
        tiny.weights.get_mut(name).unwrap().values[5] = value;
        tiny.write(folder.path());
        let error = Model::open(folder.path()).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::NotFinite { position: 5, .. }), "{text}");
        assert!(text.contains(name) && text.contains("model.safetensors"), "{text}");

        // A layer that is read when it is needed tells it then.
        if let Ok(model) = Model::open_with(folder.path(), WeightResidency::Streamed) {
            let error = model.logits(&[1, 2, 5], &Adapter::none(&model)).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}
