//! The engine's gradients against independent ways of getting them.

use std::path::Path;

use mlx_rs::{Array, transforms};
use models::layers::Rows;
use models::{Group, Model, WeightResidency};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::batch::{MicroBatch, anchor, pack};
use crate::config::{AnchoredTokens, TrainConfig};
use crate::dataset::{Dataset, Example, Pair, Row, RowSource};
use crate::preference::{Objective, Preference, Score};

/// Two layers, hidden 32, vocabulary 64, f32.
fn model() -> Model {
    let path = "../../fixtures/golden/mlx_lm/model";
    Model::open(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Two layers of random weights at 4 bits, vocabulary 64.
fn quantized(folder: &Path) -> Model {
    let config = folder.join("shape.json");
    let shape = serde_json::json!({
        "model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 64, "rms_norm_eps": 1e-5,
        "tie_word_embeddings": false,
    });
    std::fs::write(&config, shape.to_string()).unwrap();
    let storage = models::Storage::Packed { bits: 4, group_size: 32 };
    models::synthesize(&config, folder, storage, 1, &mut |_, _| ()).unwrap();
    Model::open_with(folder, WeightResidency::Streamed).unwrap()
}

fn dataset() -> Dataset {
    dataset_of(64)
}

/// Some rows share a prefix, one is there twice, and one is a prefix of another.
fn dataset_of(vocabulary: u32) -> Dataset {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut rows: Vec<Vec<u32>> = Vec::new();
    for (length, like) in
        [(5, None), (19, None), (3, None), (11, Some((1, 7))), (8, None), (14, Some((3, 9)))]
    {
        let mut row: Vec<u32> = (0..length).map(|_| rng.random_range(0..vocabulary)).collect();
        if let Some((earlier, shared)) = like {
            row[..shared].copy_from_slice(&rows[earlier][..shared]);
        }
        rows.push(row);
    }
    rows.push(rows[0].clone());
    rows.push(rows[1][..12].to_vec());
    let rows = rows.into_iter().map(|tokens| {
        let length = tokens.len();
        Example::new(tokens, vec![1..2, length / 2..length])
    });
    Dataset::new("train", rows, 64).unwrap()
}

/// Layout and factors; `B` is not zero, because then the gradient of `A` would be. A model with experts in place of MLPs has
/// the last down projection of a layer for `mlp.down_proj`.
fn adapter(model: &Model, yaml: &str) -> (Layout, Tensors) {
    let mut paths = model.layers()[0].linears().into_iter().map(|spec| spec.path);
    let of_mlp = |path: &&str| path.starts_with("mlp.") && path.ends_with("down_proj");
    let down = paths.rfind(of_mlp).unwrap();
    let yaml = yaml.replace("mlp.down_proj", down);
    let layout = Layout::new(&TrainConfig::from_yaml(&yaml, "test.yaml").unwrap(), model).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let factors = layout.shapes().map(|(name, shape)| {
        let count = shape.iter().product::<i32>();
        let values = (0..count).map(|_| rng.random_range(-0.3..0.3f32));
        (name.to_owned(), Array::from_iter(values, &shape))
    });
    let factors = factors.collect();
    (layout, factors)
}

fn batches(data: &Dataset, max_tokens: usize, lanes: usize) -> Vec<MicroBatch> {
    pack(data, &(0..data.examples()).collect::<Vec<_>>(), max_tokens, lanes).unwrap()
}

fn plan(lanes: usize, keep_bytes: u64) -> Plan {
    let weights = WeightResidency::Dequantized;
    let inputs = InputStorage::Memory;
    let layers = vec![weights; 2];
    Plan {
        lanes,
        tokens: 64,
        embeddings: weights,
        layers,
        inputs,
        keep_bytes,
        estimated_bytes: u64::MAX,
    }
}

fn start(model: &Model, layout: &Layout, plan: Plan) -> Engine {
    Engine::start(model, layout.clone(), plan, &std::env::temp_dir(), Group::alone()).unwrap()
}

/// Whether the model computes in f32. `NIGHTSHIFT_KERNELS=native` runs these tests in 16 bits.
fn in_f32(model: &Model) -> bool {
    model.bytes_per_value() == 4
}

/// The tolerance of a loss, relative to it: `f32`, or in 16 bits ten roundoffs, as many as the tokens'
/// losses of about 5 round at random.
fn of_loss(model: &Model, f32: f64) -> f64 {
    if in_f32(model) { f32 } else { 10.0 / 512.0 }
}

/// The tolerance of gradients, relative to their norm: `f32`, or in 16 bits one half. mlx-lm's own 20
/// updates of these checkpoints in bf16 end up to 0.3 of the way from those in f32
/// (`fixtures/golden/updates16.py`), and two orders of sums round independently.
fn of_gradients(model: &Model, f32: f64) -> f64 {
    if in_f32(model) { f32 } else { 0.5 }
}

fn dropout() -> DropoutSeed {
    DropoutSeed::new(0, 0)
}

fn norm(tensors: &Tensors) -> f64 {
    crate::optimizer::global_norm(tensors).unwrap()
}

/// The norm of `a - b`, relative to that of `b`.
fn distance(a: &Tensors, b: &Tensors) -> f64 {
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    let apart = a.iter().map(|(name, a)| (name.clone(), a.subtract(&b[name]).unwrap())).collect();
    norm(&apart) / norm(b)
}

const ALL: &str = "{ num_layers: -1, lora_parameters: { rank: 4, scale: 2.0 } }";
const SOME: &str = "{ num_layers: 1, lora_parameters: \
                    { rank: 3, scale: 1.5, keys: [self_attn.v_proj, mlp.down_proj] } }";

/// The embedding alone, which is the output matrix too, below layers without an adapter.
const EMBEDDING: &str = "{ num_layers: 1, lora_parameters: \
                         { rank: 3, scale: 1.5, keys: [model.embed_tokens] } }";
/// The embedding and a linear layer.
const BOTH: &str = "{ num_layers: 1, lora_parameters: \
                    { rank: 3, scale: 1.5, keys: [mlp.up_proj, model.embed_tokens] } }";

const SOME_OF_TWO: &str = "{ num_layers: 2, lora_parameters: \
                           { rank: 3, scale: 1.5, keys: [self_attn.q_proj, mlp.down_proj] } }";

#[test]
fn gradients_are_those_of_finite_differences() {
    let (model, data) = (model(), dataset());
    if !in_f32(&model) {
        return eprintln!("skipped: in 16 bits the difference of two losses is rounding");
    }
    for yaml in [ALL, SOME, EMBEDDING, BOTH] {
        let (layout, factors) = adapter(&model, yaml);
        let engine = start(&model, &layout, plan(1, 0));
        let gradients = engine
            .gradients(&factors, batches(&data, 64, 1), dropout(), Criterion::Mean)
            .unwrap()
            .gradients;
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        for (name, gradient) in &gradients {
            // Along the tensor's own gradient plus noise. A larger step has a larger second-order
            // error, a smaller one a larger rounding error of the loss (1e-7 of 5, over 2 * STEP).
            const STEP: f32 = 5e-3;
            let length = gradient.square().unwrap().sum(None).unwrap().sqrt().unwrap();
            let along = gradient.divide(&length).unwrap();
            let noise = (0..gradient.size()).map(|_| rng.random_range(-0.1..0.1f32));
            let along = along.add(Array::from_iter(noise, gradient.shape())).unwrap();
            let loss = |step: f32| {
                let mut moved = factors.clone();
                let step = along.multiply(Array::from_f32(step)).unwrap();
                moved.insert(name.clone(), factors[name].add(step).unwrap());
                engine.loss(&moved, batches(&data, 64, 1)).unwrap().mean()
            };
            let measured = (loss(STEP) - loss(-STEP)) / f64::from(2.0 * STEP);
            let exact = along.multiply(gradient).unwrap().sum(None).unwrap().item_exact::<f32>();
            let error = (measured - f64::from(exact)).abs() / f64::from(exact).abs();
            assert!(error < 2e-2, "{name}: {exact} by the engine, {measured} by differences");
        }
    }
}

/// The summed loss of a row by the whole model in one graph, with MLX's own softmax.
fn row_loss(model: &Model, adapter: &models::Adapter, row: &Row) -> Result<Array> {
    let inputs = row.inputs();
    let (mut flow, batch) =
        model.embed(inputs, &Rows::new([inputs.len()])?, adapter.embeddings())?;
    for (layer, adapter) in model.layers().iter().zip(adapter.layers()) {
        flow = layer.forward(&flow, &batch, adapter)?;
    }
    let logits = model.head().logits(&flow.hidden, adapter.embeddings())?.squeeze_axes(&[0])?;
    let (positions, targets): (Vec<_>, Vec<_>) =
        row.targets().map(|(position, token)| (position as u32, token)).unzip();
    let n = targets.len() as i32;
    let chosen = logits.take_axis(Array::from_slice(&positions, &[n]), 0)?;
    let wanted = chosen.take_along_axis(Array::from_slice(&targets, &[n, 1]), -1)?;
    Ok(chosen.logsumexp_axis(-1, true)?.subtract(wanted)?.sum(None)?)
}

/// A function of the rows' losses and its gradients, by MLX.
fn differentiated(
    model: &Model,
    layout: &Layout,
    factors: &Tensors,
    data: &Dataset,
    loss: impl Fn(&[Array]) -> Result<Array>,
) -> (f64, Tensors) {
    let names: Vec<_> = factors.keys().cloned().collect();
    let loss = |arrays: &[Array]| {
        let factors = names.iter().cloned().zip(arrays.iter().cloned()).collect();
        let adapter = layout.adapter(&factors)?;
        let rows = data.rows().iter().map(|row| row_loss(model, &adapter, row));
        Ok(vec![loss(&rows.collect::<Result<Vec<_>>>()?)?])
    };
    let primals: Vec<_> = factors.values().cloned().collect();
    let (loss, gradients) =
        transforms::fallible_vjp(loss, &primals, &[Array::from_f32(1.0)]).unwrap();
    let loss = f64::from(loss[0].item_exact::<f32>());
    (loss, names.iter().cloned().zip(gradients).collect())
}

/// The mean loss and its gradients.
fn unsplit(model: &Model, layout: &Layout, factors: &Tensors, data: &Dataset) -> (f64, Tensors) {
    let count: usize = data.rows().iter().map(|row| row.trained()).sum();
    differentiated(model, layout, factors, data, |rows| {
        let mut total = Array::from_f32(0.0);
        for row in rows {
            total = total.add(row)?;
        }
        Ok(total.divide(Array::from_f32(count as f32))?)
    })
}

#[test]
fn split_and_unsplit_agree_for_every_plan() {
    let (model, data) = (model(), dataset());
    for yaml in [ALL, SOME, EMBEDDING, BOTH] {
        let (layout, factors) = adapter(&model, yaml);
        let (loss, expected) = unsplit(&model, &layout, &factors, &data);
        for lanes in [1, 2] {
            for max_tokens in [1, 16, 64] {
                let run = |keep_bytes| {
                    let engine = start(&model, &layout, plan(lanes, keep_bytes));
                    engine
                        .gradients(
                            &factors,
                            batches(&data, max_tokens, lanes),
                            dropout(),
                            Criterion::Mean,
                        )
                        .unwrap()
                };
                let recomputed = run(0);
                // Sums in f32 in another order.
                assert!((recomputed.mean() - loss).abs() < of_loss(&model, 1e-5) * loss);
                assert!(distance(&recomputed.gradients, &expected) < of_gradients(&model, 1e-5));
                // From one layer of a short micro-batch to all layers.
                for keep_bytes in [10_000, 60_000, 200_000, u64::MAX] {
                    let kept = run(keep_bytes);
                    if in_f32(&model) {
                        assert_eq!(kept.loss, recomputed.loss);
                    }
                    assert!(
                        distance(&kept.gradients, &recomputed.gradients)
                            < of_gradients(&model, 1e-6)
                    );
                }
            }
        }
    }
}

/// Covers keys shared between layers (their gradients add up across segments), stacked experts
/// (factors of another shape) and the gated delta rule (a gradient of its own).
#[test]
fn split_and_unsplit_agree_for_every_family() {
    let data = dataset_of(48);
    for name in [
        "gemma4/shared",
        "gemma4/experts",
        "qwen35/tied",
        "qwen35/unequal",
        "qwen35/experts",
        "llamas/qwen3moe",
    ] {
        let path = Path::new("../../fixtures/golden").join(name);
        let model = Model::open(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
        let ends = model.embedding_linears().into_iter().map(|spec| spec.path).collect::<Vec<_>>();
        let and = |others: &str, ends: &[&str]| {
            let keys = ends.join(", ");
            format!(
                "{{ num_layers: 2, lora_parameters: {{ rank: 3, scale: 1.5, keys: [{others}{keys}] }} }}"
            )
        };
        let both = and("mlp.down_proj, ", &ends);
        let input = and("", &ends[..1]);
        let output = and("", &ends[ends.len() - 1..]);
        for yaml in [ALL, SOME_OF_TWO, &both, &input, &output] {
            let (layout, factors) = adapter(&model, yaml);
            let (loss, expected) = unsplit(&model, &layout, &factors, &data);
            for keep_bytes in [0, 100_000, u64::MAX] {
                for inputs in [InputStorage::Memory, InputStorage::File] {
                    let mut plan = Plan { inputs, ..plan(2, keep_bytes) };
                    plan.layers.resize(model.layers().len(), WeightResidency::Dequantized);
                    let engine = start(&model, &layout, plan);
                    let batches = batches(&data, 32, 2);
                    let found =
                        engine.gradients(&factors, batches, dropout(), Criterion::Mean).unwrap();
                    assert!((found.mean() - loss).abs() < of_loss(&model, 1e-5) * loss, "{name}");
                    let apart = distance(&found.gradients, &expected);
                    // Sums in f32 in another order; gated delta states that decay little sum over whole rows.
                    assert!(
                        apart < of_gradients(&model, 1e-4),
                        "{name}, {keep_bytes} bytes kept: {apart:e}"
                    );
                }
            }
        }
    }
}

/// Pairs of which some share their prompt, or a part of it, with another pair, or parts of their answers.
fn pairs_of(vocabulary: u32) -> Dataset {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let mut draw = |length: usize| -> Vec<u32> {
        (0..length).map(|_| rng.random_range(0..vocabulary)).collect()
    };
    let prompt = draw(9);
    let prompts = [prompt.clone(), draw(4), [&prompt[..5], &draw(6)].concat(), prompt, draw(1)];
    let lengths = [(3, 7), (6, 6), (1, 2), (4, 4), (8, 1)];
    let pairs = prompts.into_iter().zip(lengths).map(|(prompt, (chosen, rejected))| {
        let (chosen, mut rejected) = (draw(chosen), draw(rejected));
        rejected[0] = chosen[0];
        rejected.push((chosen[chosen.len() - 1] + 1) % vocabulary);
        Pair { prompt, chosen, rejected }
    });
    Dataset::pairs("train", pairs, 64).unwrap()
}

const BETA: f64 = 0.4;
const NLL: f64 = 0.3;

/// DPO with the likelihood of the chosen answers, against these references.
fn terms(references: &[f64]) -> PairTerms {
    let dpo = Preference::Sigmoid(Score::LogRatio);
    let objective = Objective::new(BETA).with(dpo, 1.0).with_nll(NLL);
    PairTerms { objective: objective.into(), references: references.into() }
}

/// The same loss and its gradients, by MLX from the losses of whole rows.
fn unsplit_pairs(
    model: &Model,
    layout: &Layout,
    factors: &Tensors,
    data: &Dataset,
    references: &[f64],
) -> (f64, Tensors) {
    let chosen: usize = data.rows().iter().step_by(2).map(Row::trained).sum();
    differentiated(model, layout, factors, data, |rows| {
        let scalar = |value: f64| Array::from_f32(value as f32);
        let mut total = scalar(0.0);
        for (pair, own) in rows.chunks(2).zip(references.chunks(2)) {
            // Losses are minus the log-probabilities.
            let apart = pair[1].subtract(&pair[0])?.subtract(scalar(own[0] - own[1]))?;
            let loss = apart.multiply(scalar(-BETA))?.exp()?.add(scalar(1.0))?.log()?;
            total = total.add(loss.divide(scalar(data.examples() as f64))?)?;
            total = total.add(pair[0].multiply(scalar(NLL / chosen as f64))?)?;
        }
        Ok(total)
    })
}

#[test]
fn gradients_of_pairs_agree_with_those_of_whole_rows_for_every_family() {
    for (name, vocabulary) in [
        ("mlx_lm/model", 64),
        ("gemma4/shared", 48),
        ("gemma4/experts", 48),
        ("qwen35/tied", 48),
        ("qwen35/unequal", 48),
        ("qwen35/experts", 48),
        ("llamas/qwen3moe", 48),
    ] {
        let data = pairs_of(vocabulary);
        let references: Vec<f64> =
            (0..data.rows().len()).map(|row| -9.0 + row as f64 * 0.7).collect();
        let path = Path::new("../../fixtures/golden").join(name);
        let model = Model::open(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
        let ends = model.embedding_linears().into_iter().map(|spec| spec.path).collect::<Vec<_>>();
        let both = format!(
            "{{ num_layers: 2, lora_parameters: {{ rank: 3, scale: 1.5, keys: [mlp.down_proj, {}] }} }}",
            ends.join(", ")
        );
        for yaml in [ALL, &both] {
            let (layout, factors) = adapter(&model, yaml);
            let (loss, expected) = unsplit_pairs(&model, &layout, &factors, &data, &references);
            for (max_tokens, keep_bytes) in [(1, 0), (24, 0), (24, u64::MAX), (64, 100_000)] {
                let mut plan = plan(2, keep_bytes);
                plan.layers.resize(model.layers().len(), WeightResidency::Dequantized);
                let engine = start(&model, &layout, plan);
                let terms = terms(&references);
                let criterion = Criterion::Pairs(terms.clone());
                let batches = batches(&data, max_tokens, 2);
                let found = engine.gradients(&factors, batches, dropout(), criterion).unwrap();
                let (mean, _) = terms.objective.summary(&terms.pairs(&found.rows));
                assert!(
                    (mean - loss).abs() < of_loss(&model, 1e-5) * loss,
                    "{name}: {mean} v {loss}"
                );
                let apart = distance(&found.gradients, &expected);
                // As for rows: sums in f32 in another order.
                assert!(
                    apart < of_gradients(&model, 1e-4),
                    "{name}, {max_tokens}, {keep_bytes} bytes kept: {apart:e}"
                );
            }
        }
    }
}

/// At the end of an epoch, an update may take a pair a second time.
#[test]
fn a_pair_taken_twice_counts_twice() {
    let (model, data) = (model(), pairs_of(64));
    let references: Vec<f64> = (0..data.rows().len()).map(|row| -9.0 + row as f64 * 0.7).collect();
    let pair = |example: usize| {
        let [chosen, rejected] = [0, 1].map(|side| &data.rows()[data.rows_of(example)][side]);
        let answer = |row: &Row| row.targets().map(|(_, token)| token).collect::<Vec<_>>();
        let length = chosen.inputs().len() + 1 - chosen.trained();
        let prompt = chosen.inputs()[..length].to_vec();
        Pair { prompt, chosen: answer(chosen), rejected: answer(rejected) }
    };
    let taken = [1, 3, 1, 0, 1];
    let repeated = Dataset::pairs("train", taken.map(pair), 64).unwrap();
    let own: Vec<f64> =
        taken.iter().flat_map(|&example| references[data.rows_of(example)].to_vec()).collect();
    let (layout, factors) = adapter(&model, ALL);
    let (loss, expected) = unsplit_pairs(&model, &layout, &factors, &repeated, &own);
    for max_tokens in [1, 30, 200] {
        let engine = start(&model, &layout, plan(2, 0));
        let terms = terms(&references);
        let batches = pack(&data, &taken, max_tokens, 2).unwrap();
        let criterion = Criterion::Pairs(terms.clone());
        let found = engine.gradients(&factors, batches, dropout(), criterion).unwrap();
        let (mean, metrics) = terms.objective.summary(&terms.pairs(&found.rows));
        assert_eq!(metrics.pairs, 5);
        assert!((mean - loss).abs() < of_loss(&model, 1e-5) * loss, "{mean} v {loss}");
        assert!(distance(&found.gradients, &expected) < of_gradients(&model, 1e-5));
    }
}

/// Finite differences of the loss that the engine reports, which is computed in f64 from the rows.
#[test]
fn gradients_of_pairs_are_those_of_finite_differences() {
    let (model, data) = (model(), pairs_of(64));
    if !in_f32(&model) {
        return eprintln!("skipped: in 16 bits the difference of two losses is rounding");
    }
    let (layout, factors) = adapter(&model, ALL);
    let engine = start(&model, &layout, plan(1, u64::MAX));
    let references: Vec<f64> = (0..data.rows().len()).map(|row| -10.0 - row as f64).collect();
    let score = |preference| Objective::new(0.2).with(preference, 1.0);
    for objective in [
        score(Preference::Square(Score::MeanLogRatio)),
        score(Preference::OddsRatio).with_nll(1.0),
        score(Preference::Margin { score: Score::Mean, gamma: 0.5, label_smoothing: 0.1 }),
    ] {
        let terms = PairTerms {
            objective: objective.clone().into(),
            references: references.as_slice().into(),
        };
        let criterion = || Criterion::Pairs(terms.clone());
        let gradients =
            engine.gradients(&factors, batches(&data, 64, 1), dropout(), criterion()).unwrap();
        for (name, gradient) in &gradients.gradients {
            // As for the loss of rows. Gradients near 0 are lost in the rounding of the loss.
            const STEP: f32 = 5e-3;
            let length = gradient.square().unwrap().sum(None).unwrap().sqrt().unwrap();
            let along = gradient.divide(&length).unwrap();
            let loss = |step: f32| {
                let mut moved = factors.clone();
                let step = along.multiply(Array::from_f32(step)).unwrap();
                moved.insert(name.clone(), factors[name].add(step).unwrap());
                let rows = engine.loss(&moved, batches(&data, 64, 1)).unwrap().rows;
                terms.objective.summary(&terms.pairs(&rows)).0
            };
            let measured = (loss(STEP) - loss(-STEP)) / f64::from(2.0 * STEP);
            let exact = f64::from(length.item_exact::<f32>());
            let error = (measured - exact).abs() / exact;
            assert!(error < 2e-2, "{name}, {objective:?}: {exact} v {measured}");
        }
    }
}

const WEIGHT: f64 = 0.7;

/// `KL(base || model)` at the selected positions of whole rows, by MLX from all logits: the weighted mean
/// is added to the mean loss. As in [`unsplit`].
fn unsplit_anchored(
    model: &Model,
    layout: &Layout,
    factors: &Tensors,
    data: &Dataset,
    on: AnchoredTokens,
) -> (f64, Tensors) {
    let names: Vec<_> = factors.keys().cloned().collect();
    let trained: usize = data.rows().iter().map(|row| row.trained()).sum();
    let selected = |row: &Row| row.predictions(on).collect::<Vec<_>>();
    let count = data.rows().iter().flat_map(selected).filter(|selected| *selected).count();
    let logits = |row: &Row, adapter: &models::Adapter| -> Result<Array> {
        let rows = Rows::new([row.inputs().len()])?;
        let (mut flow, batch) = model.embed(row.inputs(), &rows, adapter.embeddings())?;
        for (layer, adapter) in model.layers().iter().zip(adapter.layers()) {
            flow = layer.forward(&flow, &batch, adapter)?;
        }
        Ok(model.head().logits(&flow.hidden, adapter.embeddings())?.squeeze_axes(&[0])?)
    };
    let loss = |arrays: &[Array]| {
        let factors = names.iter().cloned().zip(arrays.iter().cloned()).collect();
        let adapter = layout.adapter(&factors)?;
        let none = models::Adapter::none(model);
        let mut total = Array::from_f32(0.0);
        for row in data.rows() {
            let weights: Vec<f32> =
                selected(row).iter().map(|&selected| f32::from(u8::from(selected))).collect();
            let weights = Array::from_slice(&weights, &[weights.len() as i32, 1]);
            let (own, base) = (logits(row, &adapter)?, logits(row, &none)?);
            let own = own.subtract(own.logsumexp_axis(-1, true)?)?;
            let base = base.subtract(base.logsumexp_axis(-1, true)?)?;
            let kl = base.exp()?.multiply(base.subtract(own)?)?.multiply(weights)?.sum(None)?;
            let kl = kl.multiply(Array::from_f32((WEIGHT / count as f64) as f32))?;
            let rest = row_loss(model, &adapter, row)?.divide(Array::from_f32(trained as f32))?;
            total = total.add(kl)?.add(rest)?;
        }
        Ok(vec![total])
    };
    let primals: Vec<_> = factors.values().cloned().collect();
    let (loss, gradients) =
        transforms::fallible_vjp(loss, &primals, &[Array::from_f32(1.0)]).unwrap();
    let loss = f64::from(loss[0].item_exact::<f32>());
    (loss, names.iter().cloned().zip(gradients).collect())
}

/// [`dataset_of`] with every other row a replay.
fn with_replay(vocabulary: u32) -> Dataset {
    let data = dataset_of(vocabulary);
    let rows = data.rows().iter().enumerate().map(|(index, row)| {
        let last = row.targets().last().map(|(_, token)| token);
        let tokens = row.inputs().iter().copied().chain(last).collect();
        let trained = row.targets().map(|(position, _)| position + 1..position + 2).collect();
        let source = if index % 2 == 0 { RowSource::Replay } else { RowSource::Data };
        Example::new(tokens, trained).from_source(source)
    });
    Dataset::new("train", rows, 64).unwrap()
}

#[test]
fn gradients_with_anchors_agree_with_those_of_whole_rows_for_every_family() {
    for (name, vocabulary) in [
        ("mlx_lm/model", 64),
        ("gemma4/shared", 48),
        ("gemma4/experts", 48),
        ("qwen35/tied", 48),
        ("qwen35/unequal", 48),
        ("qwen35/experts", 48),
        ("llamas/qwen3moe", 48),
    ] {
        let data = with_replay(vocabulary);
        let path = Path::new("../../fixtures/golden").join(name);
        let model = Model::open(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
        let ends = model.embedding_linears().into_iter().map(|spec| spec.path).collect::<Vec<_>>();
        let keys = |keys: &str| {
            format!(
                "{{ num_layers: 1, lora_parameters: {{ rank: 3, scale: 1.5, keys: [{keys}] }} }}"
            )
        };
        let both = keys(&format!("mlp.down_proj, {}", ends.join(", ")));
        let (output, top) = (keys(ends[ends.len() - 1]), keys("mlp.down_proj"));
        for (yaml, on) in [
            (ALL, AnchoredTokens::All),
            (ALL, AnchoredTokens::Replay),
            (&top, AnchoredTokens::Untrained),
            (&top, AnchoredTokens::Replay),
            (&both, AnchoredTokens::All),
            (&output, AnchoredTokens::Untrained),
        ] {
            let (layout, factors) = adapter(&model, yaml);
            let (loss, expected) = unsplit_anchored(&model, &layout, &factors, &data, on);
            let plain = unsplit(&model, &layout, &factors, &data);
            for (max_tokens, keep_bytes) in [(1, 0), (24, u64::MAX), (64, 100_000)] {
                let mut plan = plan(2, keep_bytes);
                plan.layers.resize(model.layers().len(), WeightResidency::Dequantized);
                let engine = start(&model, &layout, plan);
                let mut batches = batches(&data, max_tokens, 2);
                let count = anchor(&mut batches, &data, on, WEIGHT, Ok).unwrap();
                assert!(count > 0);
                let found =
                    engine.gradients(&factors, batches, dropout(), Criterion::Mean).unwrap();
                let total = found.mean() + found.divergence;
                assert!(
                    (total - loss).abs() < of_loss(&model, 1e-5) * loss,
                    "{name} {on:?}: {total} v {loss}"
                );
                assert!(
                    (found.mean() - plain.0).abs() < of_loss(&model, 1e-5) * loss,
                    "{name}: the loss alone"
                );
                let apart = distance(&found.gradients, &expected);
                // As for rows: sums in f32 in another order.
                assert!(
                    apart < of_gradients(&model, 1e-4),
                    "{name} {on:?}, {keep_bytes} bytes kept: {apart:e}"
                );
                let share = distance(&plain.1, &expected);
                assert!(share > 1e-2, "{name} {on:?}: the divergence has a gradient: {share:e}");
            }
        }
    }
}

#[test]
fn anchors_count_shared_positions_once_for_each_row() {
    let row = |answer: &[u32]| {
        let tokens = [&[1, 2, 3, 4], answer].concat();
        Example::new(tokens.clone(), vec![4..tokens.len()])
    };
    let replay = row(&[5, 6, 7]).from_source(RowSource::Replay);
    let data = Dataset::new("train", [row(&[8, 9]), replay], 64).unwrap();
    let mut batches = batches(&data, 64, 1);
    let weights = |batches: &[MicroBatch]| -> Vec<f32> {
        batches[0].anchors.iter().map(|anchor| anchor.weight).collect()
    };
    // Inputs: 1 2 3 4 and then 8 | 5 6. The first four are in both rows.
    assert_eq!(anchor(&mut batches, &data, AnchoredTokens::All, 11.0, Ok).unwrap(), 11);
    let mut found = weights(&batches);
    found.sort_by(f32::total_cmp);
    assert_eq!(found, [1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0]);
    // Tokens 2, 3 and 4 are predicted without a loss, in both rows.
    assert_eq!(anchor(&mut batches, &data, AnchoredTokens::Untrained, 6.0, Ok).unwrap(), 6);
    assert_eq!(weights(&batches), [2.0; 3]);
    // The answer of the replay row: its first token is predicted where the prompt ends.
    assert_eq!(anchor(&mut batches, &data, AnchoredTokens::Replay, 3.0, Ok).unwrap(), 3);
    assert_eq!(weights(&batches), [1.0; 3]);
}

#[test]
fn without_the_adapter_the_loss_is_that_of_the_base() {
    let (model, data) = (model(), pairs_of(64));
    for yaml in [ALL, BOTH] {
        let (layout, mut factors) = adapter(&model, yaml);
        let engine = start(&model, &layout, plan(2, 0));
        let base = engine.base_loss(batches(&data, 24, 2)).unwrap();
        for (name, factor) in &mut factors {
            if name.ends_with("lora_b") {
                *factor = factor.multiply(Array::from_f32(0.0)).unwrap();
            }
        }
        let untrained = engine.loss(&factors, batches(&data, 24, 2)).unwrap();
        assert_eq!(base.rows, untrained.rows);
        assert_eq!(base.rows.len(), data.rows().len());
    }
}

#[test]
fn gradients_do_not_depend_on_where_weights_and_inputs_are() {
    let folder = tempfile::tempdir().unwrap();
    let model = quantized(folder.path());
    let data = dataset();
    let (layout, factors) = adapter(&model, ALL);
    let run = |layers: [WeightResidency; 2], ends, inputs| {
        let plan = Plan { layers: layers.to_vec(), embeddings: ends, inputs, ..plan(1, 0) };
        let model = model.with_dense_products().unwrap();
        let model = model.with_weights(plan.embeddings, &plan.layers).unwrap();
        let engine = start(&model, &layout, plan);
        let sums =
            engine.gradients(&factors, batches(&data, 16, 1), dropout(), Criterion::Mean).unwrap();
        (sums.loss, sums.gradients)
    };
    use WeightResidency::{Dequantized, Packed, Streamed};
    let (loss, expected) = run([Dequantized; 2], Dequantized, InputStorage::Memory);
    for (layers, ends, inputs) in [
        ([Packed; 2], Packed, InputStorage::Memory),
        ([Streamed; 2], Streamed, InputStorage::Memory),
        ([Streamed; 2], Streamed, InputStorage::File),
        ([Packed, Streamed], Dequantized, InputStorage::File),
    ] {
        let (found, gradients) = run(layers, ends, inputs);
        if model.computes_packed() {
            // Packed weights are multiplied as they are, dequantized ones as another product.
            assert!((found - loss).abs() < of_loss(&model, 1e-5) * loss);
            assert!(distance(&gradients, &expected) < of_gradients(&model, 1e-4));
            continue;
        }
        assert_eq!(found, loss);
        for (name, gradient) in &gradients {
            // The same operations on the same numbers: the same bits.
            assert_eq!(gradient.as_slice::<f32>(), expected[name].as_slice::<f32>(), "{name}");
        }
    }
}

#[test]
fn a_nan_loss_names_its_rows() {
    let (model, data) = (model(), dataset());
    let (layout, mut factors) = adapter(&model, ALL);
    let engine = start(&model, &layout, plan(2, 0));
    let sound =
        engine.gradients(&factors, batches(&data, 16, 2), dropout(), Criterion::Mean).unwrap();
    assert!(sound.bad_rows.is_empty());
    for factor in factors.values_mut() {
        *factor = factor.multiply(Array::from_f32(f32::NAN)).unwrap();
    }
    let broken =
        engine.gradients(&factors, batches(&data, 16, 2), dropout(), Criterion::Mean).unwrap();
    let mut bad_rows = broken.bad_rows;
    bad_rows.sort_unstable();
    bad_rows.dedup();
    assert_eq!(bad_rows, (0..data.rows().len()).collect::<Vec<_>>());
}
