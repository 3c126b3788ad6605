//! The update rules compared with those of MLX (`fixtures/golden/optimizers.py`), and their state.

use std::collections::BTreeMap;
use std::path::Path;

use lora_train::{Error, Optimizer, Tensors, TrainConfig};
use mlx_rs::Array;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Golden {
    learning_rate: f64,
    start: BTreeMap<String, Value>,
    gradients: Vec<BTreeMap<String, Value>>,
    runs: Vec<Run>,
}

#[derive(Deserialize)]
struct Run {
    name: String,
    options: Value,
    after: Vec<BTreeMap<String, Value>>,
}

fn golden() -> Golden {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden/optimizers.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// A vector or a matrix from nested JSON lists.
fn tensor(value: &Value) -> Array {
    let rows = value.as_array().unwrap();
    let numbers = |list: &[Value]| -> Vec<f32> {
        list.iter().map(|number| number.as_f64().unwrap() as f32).collect()
    };
    match rows[0].as_array() {
        None => Array::from_slice(&numbers(rows), &[rows.len() as i32]),
        Some(first) => {
            let shape = [rows.len() as i32, first.len() as i32];
            let flat: Vec<f32> =
                rows.iter().flat_map(|row| numbers(row.as_array().unwrap())).collect();
            Array::from_slice(&flat, &shape)
        }
    }
}

fn tensors(values: &BTreeMap<String, Value>) -> Tensors {
    values.iter().map(|(name, value)| (name.clone(), tensor(value))).collect()
}

fn config(name: &str, options: &Value) -> TrainConfig {
    let json = json!({ "optimizer": name, "optimizer_config": { name: options } });
    let config: TrainConfig = serde_json::from_value(json).unwrap();
    config.validate().unwrap();
    config
}

fn largest_difference(ours: &Tensors, theirs: &Tensors) -> f32 {
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    let pairs = ours.iter().flat_map(|(name, array)| {
        assert_eq!(array.shape(), theirs[name].shape());
        array.as_slice::<f32>().iter().zip(theirs[name].as_slice::<f32>())
    });
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn updates_agree_with_mlx() {
    let golden = golden();
    assert_eq!(golden.runs.len(), 13);
    for run in &golden.runs {
        let mut optimizer = Optimizer::new(&config(&run.name, &run.options));
        let start = tensors(&golden.start);
        let mut parameters = start.clone();
        for (gradients, after) in golden.gradients.iter().zip(&run.after) {
            optimizer.update(&mut parameters, &tensors(gradients), golden.learning_rate).unwrap();
            let theirs = tensors(after);
            let moved = largest_difference(&theirs, &start);
            let apart = largest_difference(&parameters, &theirs);
            // Both compute in f32. MLX computes the bias correction `1 - beta^step` in f32 too, with
            // four correct digits for beta = 0.999; this crate in f64.
            assert!(
                apart <= 1e-4 * moved,
                "{} {} after {}: {apart:e} apart of {moved:e} moved",
                run.name,
                run.options,
                optimizer.step(),
            );
        }
    }
}

#[test]
fn a_restored_state_continues_bit_for_bit() {
    let golden = golden();
    for run in &golden.runs {
        let config = config(&run.name, &run.options);
        let mut whole = Optimizer::new(&config);
        let mut parameters = tensors(&golden.start);
        let mut resumed = Optimizer::new(&config);
        let mut copy = parameters.clone();
        for (index, gradients) in golden.gradients.iter().enumerate() {
            let gradients = tensors(gradients);
            whole.update(&mut parameters, &gradients, 0.01).unwrap();
            if index == 2 {
                resumed.restore(whole.step(), whole.state().clone(), &parameters).unwrap();
                copy = parameters.clone();
            } else if index > 2 {
                resumed.update(&mut copy, &gradients, 0.01).unwrap();
            }
        }
        assert_eq!(largest_difference(&parameters, &copy), 0.0, "{} {}", run.name, run.options);
        assert_eq!(resumed.step(), whole.step());
    }
}

#[test]
fn a_state_that_does_not_fit_is_refused() {
    let golden = golden();
    let parameters = tensors(&golden.start);
    let mut adam = Optimizer::new(&TrainConfig::default());
    let mut moved = parameters.clone();
    adam.update(&mut moved, &tensors(&golden.gradients[0]), 0.01).unwrap();
    let state = adam.state().clone();

    let missing = Tensors::from_iter(state.clone().into_iter().skip(1));
    let mut extra = state.clone();
    extra.insert("other.m".into(), Array::from_f32(0.0));
    let mut reshaped = state.clone();
    reshaped.insert("lora_a.m".into(), Array::zeros::<f32>(&[3, 2]).unwrap());
    for (state, words) in [
        (missing, "`lora_a.m`: expected Float32 of shape [6, 2], found no such tensor"),
        (extra, "`other.m`: expected no such tensor, found one"),
        (reshaped, "`lora_a.m`: expected Float32 of shape [6, 2], found Float32 of shape [3, 2]"),
    ] {
        let error = adam.restore(1, state, &parameters).unwrap_err();
        assert!(matches!(error, Error::OptimizerState { .. }));
        assert_eq!(error.to_string(), format!("optimizer state: {words}"));
    }
    adam.restore(0, Tensors::new(), &parameters).unwrap();
    assert_eq!(adam.step(), 0);
}

#[test]
fn parameters_without_a_gradient_stay() {
    let golden = golden();
    let start = tensors(&golden.start);
    let mut parameters = start.clone();
    let mut gradients = tensors(&golden.gradients[0]);
    gradients.remove("lora_b");
    let mut optimizer = Optimizer::new(&TrainConfig::default());
    optimizer.update(&mut parameters, &gradients, 0.01).unwrap();
    assert_eq!(parameters["lora_b"].as_slice::<f32>(), start["lora_b"].as_slice::<f32>());
    assert_ne!(parameters["lora_a"].as_slice::<f32>(), start["lora_a"].as_slice::<f32>());
}

/// A quadratic with a condition number of 100. With moments in 8 bits the optimizer finds the same
/// minimum, takes no longer steps, and has a state of little more than a quarter of the size.
#[test]
fn moments_of_8_bits_find_the_same_minimum() {
    const SIDE: i32 = 72;
    let count = SIDE * SIDE;
    let draw = |seed: u64| {
        mlx_rs::random::normal::<f32>(
            &[SIDE, SIDE],
            None,
            None,
            &mlx_rs::random::key(seed).unwrap(),
        )
        .unwrap()
    };
    let steepness = Array::from_iter((0..count).map(|i| 10f32.powi(-(i % 3))), &[SIDE, SIDE]);
    let goal = draw(1);
    let descend = |storage: &str| {
        let json = json!({ "optimizer": "adam", "nightshift": { "optimizer_state": storage } });
        let mut optimizer = Optimizer::new(&serde_json::from_value(json).unwrap());
        let mut parameters = Tensors::from([("w".to_owned(), draw(2))]);
        let mut furthest = 0f32;
        for update in 0..300 {
            let before = parameters["w"].clone();
            let apart = before.subtract(&goal).unwrap();
            let gradient = apart.multiply(&steepness).unwrap();
            let rate = 0.05 * (1.0 - f64::from(update) / 300.0);
            optimizer
                .update(&mut parameters, &Tensors::from([("w".to_owned(), gradient)]), rate)
                .unwrap();
            let step = parameters["w"].subtract(&before).unwrap().abs().unwrap();
            furthest = furthest.max(step.max(None).unwrap().item_exact::<f32>() / rate as f32);
        }
        let apart = parameters["w"].subtract(&goal).unwrap().square().unwrap();
        let bytes: usize = optimizer.state().values().map(Array::nbytes).sum();
        (
            apart.mean(None).unwrap().item_exact::<f32>().sqrt(),
            furthest,
            bytes,
            optimizer,
            parameters,
        )
    };
    let (exact, longest, all, ..) = descend("f32");
    let (rounded, longest_rounded, packed, optimizer, parameters) = descend("int8");
    // The start is 1.4 away.
    assert!(exact < 0.02 && rounded < 0.02, "{exact} and {rounded} away");
    assert!(longest_rounded <= 1.05 * longest, "steps of {longest_rounded} rates, not {longest}");
    assert!((packed as f32) < 0.3 * all as f32, "{packed} of {all} bytes");

    let mut again = Optimizer::new(
        &serde_json::from_value(json!({ "nightshift": { "optimizer_state": "int8" } })).unwrap(),
    );
    again.restore(optimizer.step(), optimizer.state().clone(), &parameters).unwrap();
    let refused = Optimizer::new(&TrainConfig::default()).restore(
        300,
        optimizer.state().clone(),
        &parameters,
    );
    assert!(matches!(refused, Err(Error::OptimizerState { .. })));
}
