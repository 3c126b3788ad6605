use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::engine::output::tiny::{RANK, Tiny, VOCABULARY, WIDTH};

const COUNT: usize = 11;
const FACTOR: f32 = 0.25;

/// Loss and gradient of one position by the definition, in f64.
fn reference(output: &Tiny, hidden: &[f32], target: usize) -> (f64, Vec<f64>) {
    let weight = |token: usize, i: usize| f64::from(output.weight[token * WIDTH + i]);
    let raw =
        |token| -> f64 { (0..WIDTH).map(|i| weight(token, i) * 2.0 * f64::from(hidden[i])).sum() };
    let bend = |z: f64| output.cap.map_or(z, |cap| f64::from(cap) * (z / f64::from(cap)).tanh());
    let slope = |z: f64| output.cap.map_or(1.0, |cap| 1.0 - (z / f64::from(cap)).tanh().powi(2));
    let sum: f64 = (0..VOCABULARY).map(|token| bend(raw(token)).exp()).sum();
    let mut gradient = vec![0.0; WIDTH];
    for token in 0..VOCABULARY {
        let share = bend(raw(token)).exp() / sum - f64::from(u8::from(token == target));
        for (i, gradient) in gradient.iter_mut().enumerate() {
            *gradient += f64::from(FACTOR) * 2.0 * share * slope(raw(token)) * weight(token, i);
        }
    }
    (sum.ln() - bend(raw(target)), gradient)
}

#[test]
fn agrees_with_the_definition_for_every_chunk_size() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut draw = |n: usize| (0..n).map(|_| rng.random_range(-2.0..2.0)).collect::<Vec<f32>>();
    let weight = draw(VOCABULARY * WIDTH);
    let hidden = draw(COUNT * WIDTH);
    let targets: Vec<u32> = (0..COUNT as u32).map(|i| i * 7 % VOCABULARY as u32).collect();
    for cap in [None, Some(3.0)] {
        let output = Tiny { weight: weight.clone(), cap, update: None };
        for (positions, vocabulary) in [(64, 64), (4, 37), (64, 5), (3, 1), (1, 36)] {
            let chunks = Chunks::for_tests(positions, vocabulary);
            let states = Array::from_slice(&hidden, &[COUNT as i32, WIDTH as i32]);
            let run = |mode| cross_entropy(&output, &states, &targets, mode, chunks).unwrap();
            let graph = run(LossMode::Train(&TargetWeights::Equal(FACTOR)));
            let gradient = graph.gradient.clone().unwrap();
            let losses = graph.evaluate().unwrap().losses;
            assert_eq!(losses, run(LossMode::Eval).evaluate().unwrap().losses);
            let gradient = gradient.as_slice::<f32>();
            for (i, hidden) in hidden.chunks(WIDTH).enumerate() {
                let (loss, slope) = reference(&output, hidden, targets[i] as usize);
                // A few roundings in f32 of logits around 20.
                assert!((f64::from(losses[i]) - loss).abs() < 1e-5, "{} v {loss}", losses[i]);
                for (ours, exact) in gradient[i * WIDTH..].iter().zip(slope) {
                    assert!((f64::from(*ours) - exact).abs() < 1e-5, "{ours} v {exact}");
                }
            }
        }
    }
}

/// The same loss with all logits at once, differentiated by MLX.
fn unsplit(output: &Tiny, primals: &[Array], targets: &[u32]) -> (f32, Vec<Array>) {
    let [hidden, a, b] = primals else { panic!("{}", primals.len()) };
    let loss = |x: &[Array]| {
        let update = Some((x[1].clone(), x[2].clone()));
        let output = Tiny { update, weight: output.weight.clone(), cap: output.cap };
        let features = output.features(&x[0], output.lora_a())?;
        let raw = features.matmul(output.weight(0..VOCABULARY)?.transpose()?)?;
        let logits =
            output.cap.map_or(Ok(raw.clone()), |cap| train_support::soft_cap(&raw, cap))?;
        let targets = Array::from_slice(targets, &[targets.len() as i32, 1]);
        let wanted = logits.take_along_axis(targets, -1)?;
        let losses = logits.logsumexp_axis(-1, true)?.subtract(wanted)?;
        Ok(vec![losses.sum(None)?.multiply(Array::from_f32(FACTOR))?])
    };
    let primals = [hidden, a, b].map(Array::clone);
    let one = Array::from_f32(1.0);
    let (loss, gradients) = transforms::fallible_vjp(loss, &primals, &[one]).unwrap();
    (loss[0].item_exact::<f32>(), gradients)
}

#[test]
fn gradients_of_an_update_equal_those_without_chunks() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let mut draw = |n: usize| (0..n).map(|_| rng.random_range(-1.0..1.0)).collect::<Vec<f32>>();
    let weight = draw(VOCABULARY * WIDTH);
    let mut array = |rows: usize, columns: usize| {
        Array::from_slice(&draw(rows * columns), &[rows as i32, columns as i32])
    };
    let primals = [array(COUNT, WIDTH), array(WIDTH, RANK), array(RANK, VOCABULARY)];
    let [hidden, a, b] = &primals;
    let targets: Vec<u32> = (0..COUNT as u32).map(|i| i * 7 % VOCABULARY as u32).collect();
    for cap in [None, Some(3.0)] {
        let update = Some((a.clone(), b.clone()));
        let output = Tiny { weight: weight.clone(), cap, update };
        let (loss, expected) = unsplit(&output, &primals, &targets);
        for (positions, vocabulary) in [(64, 64), (4, 37), (64, 5), (3, 1), (1, 36)] {
            let chunks = Chunks::for_tests(positions, vocabulary);
            let mode = LossMode::Train(&TargetWeights::Equal(FACTOR));
            let mut graph = cross_entropy(&output, hidden, &targets, mode, chunks).unwrap();
            let [of_a, of_b] = graph.update_gradients.take().unwrap();
            let found = [graph.gradient.take().unwrap(), of_a, of_b];
            let losses = graph.evaluate().unwrap().losses;
            assert!((losses.iter().sum::<f32>() * FACTOR - loss).abs() < 1e-5 * loss);
            for (found, expected) in found.iter().zip(&expected) {
                // A few roundings in f32 of gradients around 1.
                assert!(found.all_close(expected, 1e-5, 1e-5, None).unwrap(), "{found}");
                assert!(expected.abs().unwrap().max(None).unwrap().item_exact::<f32>() > 0.1);
            }
        }
    }
}
