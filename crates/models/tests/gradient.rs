//! A layer under `vjp`: gradients against finite differences, and rows kept apart in them too.

mod common;

use common::{Tiny, tokens};
use mlx_rs::Array;
use mlx_rs::transforms::fallible_vjp;
use models::Model;
use models::layers::{Flow, LayerAdapter, Lora, Rows};

const PATHS: [&str; 7] = [
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
];
const SCALE: f32 = 2.0;

fn random(seed: u64, shape: &[i32]) -> Array {
    let count = shape.iter().product::<i32>();
    let values: Vec<f32> =
        tokens(seed, count as usize, 2001).iter().map(|&t| (t as f32 - 1000.0) / 4000.0).collect();
    Array::from_slice(&values, shape)
}

/// Hidden states first, then the factors of all linear layers.
fn inputs(model: &Model, length: i32) -> Vec<Array> {
    let mut inputs = vec![random(1, &[1, length, 32])];
    for (i, spec) in model.layers()[0].linears().iter().enumerate() {
        let seed = 10 + 2 * i as u64;
        inputs.push(random(seed, &[spec.in_features as i32, 3]));
        inputs.push(random(seed + 1, &[3, spec.out_features as i32]));
    }
    inputs
}

fn forward(model: &Model, rows: &Rows, inputs: &[Array]) -> models::Result<Vec<Array>> {
    let (_, batch) = model.embed(&vec![0; rows.total()], rows, &LayerAdapter::default())?;
    let updates = PATHS.iter().zip(inputs[1..].chunks(2)).map(|(&path, factors)| {
        (
            path,
            Lora {
                a: factors[0].clone(),
                b: factors[1].clone(),
                scale: SCALE,
                magnitude: None,
                dropout: None,
            },
        )
    });
    let adapter: LayerAdapter = updates.collect();
    let flow = model.layers()[0].forward(&Flow::new(inputs[0].clone()), &batch, &adapter)?;
    Ok(flow.into_arrays())
}

#[test]
fn gradients_match_finite_differences() {
    let folder = tempfile::tempdir().unwrap();
    Tiny::new(1).write(folder.path());
    let model = Model::open(folder.path()).unwrap();
    let rows = Rows::new([4, 1, 3]).unwrap();
    let inputs = inputs(&model, 8);
    let cotangent = random(99, &[1, 8, 32]);
    let f = |inputs: &[Array]| Ok(forward(&model, &rows, inputs)?);
    let (_, gradients) = fallible_vjp(f, &inputs, std::slice::from_ref(&cotangent)).unwrap();

    let value = |inputs: &[Array]| -> f64 {
        let output = forward(&model, &rows, inputs).unwrap().remove(0);
        let pairs = output.as_slice::<f32>().iter().zip(cotangent.as_slice::<f32>());
        pairs.map(|(y, c)| f64::from(*y) * f64::from(*c)).sum()
    };
    for (i, gradient) in gradients.iter().enumerate() {
        // One random direction per input.
        let direction = random(200 + i as u64, inputs[i].shape());
        let moved = |step: f32| {
            let mut inputs = inputs.clone();
            let step = direction.multiply(Array::from_f32(step)).unwrap();
            inputs[i] = inputs[i].add(step).unwrap();
            value(&inputs)
        };
        const STEP: f32 = 1e-2;
        let numeric = (moved(STEP) - moved(-STEP)) / (2.0 * f64::from(STEP));
        let pairs = gradient.as_slice::<f32>().iter().zip(direction.as_slice::<f32>());
        let analytic: f64 = pairs.map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
        // f32 values over a step of 1e-2, and the curvature along it.
        let tolerance = 2e-3 * analytic.abs().max(0.05);
        assert!((numeric - analytic).abs() < tolerance, "input {i}: {numeric} v {analytic}");
    }
}

#[test]
fn no_gradient_crosses_rows() {
    let folder = tempfile::tempdir().unwrap();
    Tiny::new(1).write(folder.path());
    let model = Model::open(folder.path()).unwrap();
    let rows = Rows::new([3, 4]).unwrap();
    let inputs = inputs(&model, 7);
    // Only the second row's outputs matter.
    let cotangent: Vec<f32> = (0..7 * 32).map(|i| if i < 3 * 32 { 0.0 } else { 1.0 }).collect();
    let cotangent = Array::from_slice(&cotangent, &[1, 7, 32]);
    let f = |inputs: &[Array]| Ok(forward(&model, &rows, inputs)?);
    let (_, gradients) = fallible_vjp(f, &inputs, &[cotangent]).unwrap();
    let gradient = gradients[0].as_slice::<f32>();
    assert!(gradient[..3 * 32].iter().all(|&g| g == 0.0));
    assert!(gradient[3 * 32..].iter().any(|&g| g != 0.0));
}

/// Few rows are multiplied with the packed weights, more rows with the dequantized ones: the gradients are the same.
#[test]
fn gradients_of_few_rows_are_those_in_a_larger_batch() {
    let folder = tempfile::tempdir().unwrap();
    let mut tiny = Tiny { hidden: 64, head_dim: 32, ..Tiny::new(4) }.redrawn(4);
    tiny.write_quantized(folder.path(), 32);
    let model = Model::open(folder.path()).unwrap();
    let gradient = |lengths: &[usize]| {
        let rows = Rows::new(lengths.to_vec()).unwrap();
        let (_, batch) =
            model.embed(&vec![0; rows.total()], &rows, &LayerAdapter::default()).unwrap();
        let shape = [1, rows.total() as i32, 64];
        let f = |x: &[Array]| {
            let flow = Flow::new(x[0].clone());
            Ok(model.layers()[0].forward(&flow, &batch, &LayerAdapter::default())?.into_arrays())
        };
        let (_, gradients) = fallible_vjp(f, &[random(1, &shape)], &[random(2, &shape)]).unwrap();
        gradients[0].as_slice::<f32>()[..5 * 64].to_vec()
    };
    let (few, many) = (gradient(&[5]), gradient(&[5, 20]));
    let largest = many.iter().fold(0.0, |most: f32, g| most.max(g.abs()));
    for (few, many) in few.iter().zip(&many) {
        // Sums of up to 128 terms in f32, in another order; in bf16 both are computed alike.
        assert!((few - many).abs() <= 1e-5 * largest, "{few} v {many}");
    }
}
