//! Updates of the embedding and of the output matrix: against mlx_lm, against the same matrices with
//! the update in them, and in every other format.

mod common;
mod rounding;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::{Tiny, tokens, worst};
use mlx_rs::Array;
use models::layers::{LayerAdapter, Lora};
use models::{
    Adapter, FusedWeights, GenerateOptions, Generator, LogitError, Model, ScoreRow, export_gguf,
    export_peft, fuse, score,
};

const RANK: usize = 3;
const SCALE: f32 = 1.5;

fn golden(path: &str) -> PathBuf {
    Path::new("../../fixtures/golden").join(path)
}

/// Written by mlx_lm, for a tied model, an untied one, and one whose layers have inputs made from
/// embeddings (`fixtures/golden/mlx_lm/ends.py`).
#[test]
fn adapters_of_mlx_lm_give_its_logits() {
    for (model, name) in [
        ("mlx_lm/model", "ends-tied"),
        ("qwen35/unequal", "ends-untied"),
        ("gemma4/shared", "ends-inputs"),
    ] {
        let model = Model::open(golden(model)).unwrap();
        let folder = golden("mlx_lm").join(name);
        let adapter = Adapter::load(&folder, &model).unwrap();
        let expected = golden("mlx_lm").join(format!("{name}.expected.safetensors"));
        let expected: HashMap<String, Array> = Array::load_safetensors(expected).unwrap();
        let tokens: Vec<u32> =
            expected["tokens"].as_slice::<i32>().iter().map(|&token| token as u32).collect();
        let expected = &expected["logits"];
        let apart = |adapter: &Adapter| {
            let logits = model.logits(&tokens, adapter).unwrap();
            let apart = logits.subtract(expected).unwrap().abs().unwrap().max(None).unwrap();
            let most = expected.abs().unwrap().max(None).unwrap();
            apart.item_exact::<f32>() / most.item_exact::<f32>()
        };
        println!("{name}: {:e} of the largest logit", apart(&adapter));
        // f32 on both sides, sums in another order, through a whole model.
        let most = rounding::tolerance(&model, 5e-5) as f32;
        assert!(apart(&adapter) < most, "{name}: {:e}", apart(&adapter));
        assert!(apart(&Adapter::none(&model)) > 0.1, "{name}: an adapter without effect");

        let copy = tempfile::tempdir().unwrap();
        adapter.save(copy.path(), &model, &serde_json::Map::new()).unwrap();
        let tensors = |folder: &Path| {
            let path = folder.join("adapters.safetensors");
            let all: HashMap<String, Array> = Array::load_safetensors(path).unwrap();
            let mut all: Vec<_> = all
                .into_iter()
                .map(|(name, array)| (name, array.as_slice::<f32>().to_vec()))
                .collect();
            all.sort_by(|(a, _), (b, _)| a.cmp(b));
            all
        };
        assert_eq!(tensors(copy.path()), tensors(&folder), "{name}");
        let keys = |folder: &Path| {
            let config = fs::read(folder.join("adapter_config.json")).unwrap();
            let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
            let keys = config["lora_parameters"]["keys"].as_array().unwrap().clone();
            let mut keys: Vec<_> =
                keys.iter().map(|key| key.as_str().unwrap().to_owned()).collect();
            keys.sort();
            keys
        };
        assert_eq!(keys(copy.path()), keys(&folder), "{name}");
    }
}

/// `A` and `B` of the update of each end.
type Factors = Vec<(&'static str, Vec<f32>, Vec<f32>)>;

fn factors(model: &Model) -> Factors {
    let draw = |seed: u64, count: usize| -> Vec<f32> {
        tokens(seed, count, 201).iter().map(|&t| (t as f32 - 100.0) / 300.0).collect()
    };
    let specs = model.embedding_linears().into_iter().zip((0..).step_by(2));
    let factors = specs.map(|(spec, seed)| {
        let (a, b) =
            (draw(seed, spec.in_features * RANK), draw(seed + 1, RANK * spec.out_features));
        (spec.path, a, b)
    });
    factors.collect()
}

fn adapter(model: &Model, factors: &Factors) -> Adapter {
    let array = |values: &[f32], rows: usize| {
        Array::from_slice(values, &[rows as i32, (values.len() / rows) as i32])
    };
    let updates = factors.iter().map(|(path, a, b)| {
        let (a, b) = (array(a, a.len() / RANK), array(b, RANK));
        (*path, Lora { a, b, scale: SCALE, magnitude: None, dropout: None })
    });
    let ends: LayerAdapter = updates.collect();
    Adapter::none(model).with_embeddings(ends)
}

fn transposed(values: &[f32], rows: usize) -> Vec<f32> {
    let columns = values.len() / rows;
    (0..values.len()).map(|i| values[i % rows * columns + i / rows]).collect()
}

/// A tied and an untied model in `folder`, an adapter of both ends, and the same model with it merged.
fn models(folder: &Path) -> Vec<(PathBuf, Model, Factors, Tiny)> {
    let all = [("tied", Tiny::new(3)), ("untied", Tiny::untied(4))].map(|(name, mut tiny)| {
        let path = folder.join(name);
        fs::create_dir(&path).unwrap();
        tiny.write(&path);
        let model = Model::open(&path).unwrap();
        let factors = factors(&model);
        for (path, a, b) in &factors {
            match *path {
                // The table's rows are inputs: `merge` adds the transpose of what it is given.
                "model.embed_tokens" => {
                    let (a, b) = (transposed(b, RANK), transposed(a, tiny.vocab));
                    tiny.merge(path, &a, &b, RANK, SCALE);
                }
                _ => tiny.merge(path, a, b, RANK, SCALE),
            }
        }
        (path, model, factors, tiny)
    });
    all.into()
}

#[test]
fn the_update_is_that_of_the_matrix_in_logits_scores_and_generation() {
    let folder = tempfile::tempdir().unwrap();
    for (path, model, factors, tiny) in models(folder.path()) {
        let adapter = adapter(&model, &factors);
        let sequence = tokens(2, 13, tiny.vocab);
        let expected = tiny.logits(&sequence);
        let error = worst(&model.logits(&sequence, &adapter).unwrap(), &expected);
        assert!(error < rounding::tolerance(&model, 3e-6), "{}: {error:e}", path.display());
        let plain = worst(&model.logits(&sequence, &Adapter::none(&model)).unwrap(), &expected);
        assert!(plain > 0.05, "an adapter without effect proves nothing: {plain:e}");

        let row = ScoreRow { tokens: &sequence, scored: &[1..13] };
        let found = score(&model, &adapter, &[row]).unwrap()[0].log_prob;
        let log_prob = |(logits, &token): (&Vec<f64>, &u32)| {
            logits[token as usize] - logits.iter().map(|z| z.exp()).sum::<f64>().ln()
        };
        let expected: f64 = expected.iter().zip(&sequence[1..]).map(log_prob).sum();
        let most = 12.0 * rounding::tolerance(&model, 1e-5);
        assert!((found - expected).abs() < most, "{found} {expected}");

        let mut greedy = sequence.clone();
        for _ in 0..5 {
            let last = tiny.logits(&greedy).pop().unwrap();
            let best = (0..last.len()).max_by(|&a, &b| last[a].total_cmp(&last[b])).unwrap();
            greedy.push(best as u32);
        }
        let options = GenerateOptions { max_tokens: 5, ..Default::default() };
        // Two that begin alike, so that what they share goes through the model by itself.
        let prompts = [&sequence[..], &sequence[..9]];
        let generator = Generator::new(&model, &adapter).unwrap();
        let completions = generator.generate(&prompts, &options).unwrap();
        if rounding::in_f32(&model) {
            assert_eq!(completions[0].tokens, greedy[13..]);
        } else {
            // Its logits are those above; which of two close ones is greater is up to rounding.
            assert_eq!(completions[0].tokens.len(), 5);
        }
    }
}

#[test]
fn fused_it_is_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    for (path, model, factors, tiny) in models(folder.path()) {
        let adapter = adapter(&model, &factors);
        let (saved, out) = (path.with_extension("adapter"), path.with_extension("fused"));
        fs::create_dir(&saved).unwrap();
        adapter.save(&saved, &model, &serde_json::Map::new()).unwrap();
        fuse(&path, &saved, &out, FusedWeights::AsBefore).unwrap();
        let fused = Model::open(&out).unwrap();
        let tokens = tokens(5, 9, tiny.vocab);
        let logits = fused.logits(&tokens, &Adapter::none(&fused)).unwrap();
        let error = worst(&logits, &tiny.logits(&tokens));
        assert!(error < rounding::tolerance(&model, 3e-6), "{}: {error:e}", path.display());
        let error = LogitError::measure(&fused, &model, &adapter, &tokens).unwrap();
        // In 16 bits the update is rounded with the weight here, by itself there.
        let most = if rounding::in_f32(&model) { 1e-4 } else { 0.2 };
        assert!(error.share_of_effect < most, "{error:?}");
    }
}

/// PEFT looks a token up in `lora_embedding_A`, and knows nothing of ties: there both have the update.
#[test]
fn peft_gets_the_table_and_the_matrix() {
    let folder = tempfile::tempdir().unwrap();
    for (path, model, factors, tiny) in models(folder.path()) {
        let out = path.with_extension("peft");
        export_peft(&adapter(&model, &factors), &model, &out, "base").unwrap();
        let config = fs::read(out.join("adapter_config.json")).unwrap();
        let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
        assert_eq!(config["target_modules"], serde_json::json!(["lm_head", "model.embed_tokens"]));

        let bytes = fs::read(out.join("adapter_model.safetensors")).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(file.len(), 4);
        let tensor = |name: &str| {
            let view = file.tensor(&format!("base_model.model.{name}")).unwrap();
            let values = view.data().chunks(4).map(|c| f32::from_le_bytes(c.try_into().unwrap()));
            (view.shape().to_vec(), values.collect::<Vec<_>>())
        };
        let (shape, a) = tensor("model.embed_tokens.lora_embedding_A");
        assert_eq!(shape, [RANK, tiny.vocab]);
        assert_eq!(a, transposed(&factors[0].1, tiny.vocab));
        let (shape, b) = tensor("model.embed_tokens.lora_embedding_B");
        assert_eq!(shape, [tiny.hidden, RANK]);
        assert_eq!(b, transposed(&factors[0].2, RANK));

        let (shape_a, a) = tensor("lm_head.lora_A.weight");
        let (shape_b, b) = tensor("lm_head.lora_B.weight");
        assert_eq!((shape_a, shape_b), (vec![RANK, tiny.hidden], vec![tiny.vocab, RANK]));
        let expected = match factors.get(1) {
            Some((_, a, b)) => (transposed(a, tiny.hidden), transposed(b, RANK)),
            None => (factors[0].2.clone(), factors[0].1.clone()),
        };
        assert_eq!((a, b), expected);
    }
}

#[test]
fn gguf_gets_the_output_matrix_and_refuses_the_table() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("adapter.gguf");
    for (_, model, mut factors, tiny) in models(folder.path()) {
        let refused = export_gguf(&adapter(&model, &factors), &model, &path).unwrap_err();
        assert!(refused.to_string().contains("model.embed_tokens"), "{refused}");
        assert!(!path.exists());
        if factors.len() > 1 {
            factors.remove(0);
            export_gguf(&adapter(&model, &factors), &model, &path).unwrap();
            let file = gguf::Gguf::open(&path).unwrap();
            let dims =
                |part: &str| file.tensor(&format!("output.weight.{part}")).unwrap().dims.clone();
            assert_eq!(dims("lora_a"), [tiny.hidden as u64, RANK as u64]);
            assert_eq!(dims("lora_b"), [RANK as u64, tiny.vocab as u64]);
            fs::remove_file(&path).unwrap();
        }
    }
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    for (_, model, factors, tiny) in models(folder.path()) {
        let (path, a, b) = &factors[0];
        let saved = folder.path().join("adapter");
        fs::create_dir_all(&saved).unwrap();
        let write = |kind: &str, rows: usize| {
            let config = serde_json::json!({
                "fine_tune_type": kind, "num_layers": 1,
                "lora_parameters": { "rank": RANK, "scale": SCALE, "keys": [path] },
            });
            fs::write(saved.join("adapter_config.json"), config.to_string()).unwrap();
            let tensors = [
                (format!("{path}.lora_a"), vec![rows, RANK], a[..rows * RANK].to_vec()),
                (format!("{path}.lora_b"), vec![RANK, tiny.hidden], b.clone()),
            ];
            common::write_safetensors(&saved.join("adapters.safetensors"), tensors);
            Adapter::load(&saved, &model)
        };
        let text = write("lora", tiny.vocab - 1).unwrap_err().to_string();
        let expected = format!("expected [{}, 3], found [{}, 3]", tiny.vocab, tiny.vocab - 1);
        assert!(text.contains("model.embed_tokens.lora_a") && text.contains(&expected), "{text}");
        let text = write("dora", tiny.vocab).unwrap_err().to_string();
        assert!(text.contains("model.embed_tokens: expected lora, found dora"), "{text}");
        write("lora", tiny.vocab).unwrap();
        // Made, not loaded: refused where it would be applied.
        let mut lora = adapter(&model, &factors).embeddings().get(path).unwrap().clone();
        lora.magnitude = Some(Array::ones::<f32>(&[tiny.vocab as i32]).unwrap());
        let adapter = Adapter::none(&model).with_embeddings([(*path, lora)].into_iter().collect());
        let text = model.logits(&[1, 2], &adapter).unwrap_err().to_string();
        assert!(text.contains("expected lora, found dora"), "{text}");
    }
}
