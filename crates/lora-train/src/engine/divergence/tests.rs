use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::engine::output::tiny::{RANK, Tiny, VOCABULARY, WIDTH};

const COUNT: usize = 11;

struct Case {
    output: Tiny,
    a: Vec<f32>,
    b: Vec<f32>,
    hidden: Vec<f32>,
    base_hidden: Vec<f32>,
    weights: Vec<f32>,
}

impl Case {
    fn new(cap: Option<f32>, adapted: bool) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let mut draw = |n: usize| (0..n).map(|_| rng.random_range(-1.0..1.0)).collect::<Vec<f32>>();
        let (weight, a, b) =
            (draw(VOCABULARY * WIDTH), draw(WIDTH * RANK), draw(RANK * VOCABULARY));
        let update = adapted.then(|| {
            let a = Array::from_slice(&a, &[WIDTH as i32, RANK as i32]);
            (a, Array::from_slice(&b, &[RANK as i32, VOCABULARY as i32]))
        });
        let output = Tiny { weight, cap, update };
        let (hidden, base_hidden) = (draw(COUNT * WIDTH), draw(COUNT * WIDTH));
        let weights = draw(COUNT).into_iter().map(|w| w.abs() + 0.1).collect();
        Self { output, a, b, hidden, base_hidden, weights }
    }

    /// The weighted sum of the divergences by the definition, in f64, of these factors and hidden states.
    fn total(&self, hidden: &[f64], a: &[f64], b: &[f64]) -> f64 {
        (0..COUNT).map(|i| f64::from(self.weights[i]) * self.divergence(i, hidden, a, b)).sum()
    }

    fn divergence(&self, i: usize, hidden: &[f64], a: &[f64], b: &[f64]) -> f64 {
        let own = &hidden[i * WIDTH..(i + 1) * WIDTH];
        let base: Vec<f64> =
            self.base_hidden[i * WIDTH..(i + 1) * WIDTH].iter().map(|&x| x.into()).collect();
        let adapted = self.output.update.is_some();
        let model = log_softmax(&self.logits(own, adapted.then_some((a, b))));
        let base = log_softmax(&self.logits(&base, None));
        base.iter().zip(model).map(|(base, model)| base.exp() * (base - model)).sum()
    }

    /// The norm of the projection multiplies by two.
    fn logits(&self, hidden: &[f64], update: Option<(&[f64], &[f64])>) -> Vec<f64> {
        let logit = |token: usize| -> f64 {
            let row = &self.output.weight[token * WIDTH..(token + 1) * WIDTH];
            let mut z: f64 = row.iter().zip(hidden).map(|(&w, x)| 2.0 * f64::from(w) * x).sum();
            for rank in 0..RANK {
                let Some((a, b)) = update else { break };
                let low: f64 = (0..WIDTH).map(|k| 2.0 * hidden[k] * a[k * RANK + rank]).sum();
                z += low * b[rank * VOCABULARY + token];
            }
            self.output.cap.map_or(z, |cap| f64::from(cap) * (z / f64::from(cap)).tanh())
        };
        (0..VOCABULARY).map(logit).collect()
    }
}

fn log_softmax(logits: &[f64]) -> Vec<f64> {
    let sum: f64 = logits.iter().map(|z| z.exp()).sum();
    logits.iter().map(|z| z - sum.ln()).collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| value.into()).collect()
}

/// The derivative of `of` with respect to `values[i]`, by central differences in f64: exact to about 1e-9.
fn slope(values: &[f64], i: usize, of: impl Fn(&[f64]) -> f64) -> f64 {
    const STEP: f64 = 1e-5;
    let moved = |step: f64| {
        let mut values = values.to_vec();
        values[i] += step;
        of(&values)
    };
    (moved(STEP) - moved(-STEP)) / (2.0 * STEP)
}

#[test]
fn divergences_and_gradients_are_those_of_the_definition_for_every_chunk_size() {
    for (cap, adapted) in [(None, false), (Some(3.0), false), (None, true), (Some(3.0), true)] {
        let case = Case::new(cap, adapted);
        let (hidden, a, b) = (wide(&case.hidden), wide(&case.a), wide(&case.b));
        let states = |values: &[f32]| Array::from_slice(values, &[COUNT as i32, WIDTH as i32]);
        let (own, base) = (states(&case.hidden), states(&case.base_hidden));
        let weights = Array::from_slice(&case.weights, &[COUNT as i32, 1]);
        for (positions, vocabulary) in [(64, 64), (8, 37), (64, 5), (3, 1), (2, 36)] {
            let chunks = Chunks::for_tests(positions, vocabulary);
            let anchored = Anchored { hidden: &own, base_hidden: &base, weights: &weights };
            let mut graph = divergence(&case.output, anchored, chunks).unwrap();
            let gradient = graph.gradient.take().unwrap();
            let updates = graph.update_gradients.take();
            assert_eq!(updates.is_some(), adapted);
            let found = graph.evaluate().unwrap().losses;
            assert_eq!(found.len(), COUNT);
            for (i, found) in found.iter().enumerate() {
                let exact = case.divergence(i, &hidden, &a, &b);
                // A few roundings in f32 of logits up to 10.
                assert!((f64::from(*found) - exact).abs() < 2e-5, "{found} v {exact}");
            }
            let check = |found: &Array, values: &[f64], of: &dyn Fn(&[f64]) -> f64| {
                let found = found.contiguous().unwrap();
                for (i, found) in found.as_slice::<f32>().iter().enumerate() {
                    let exact = slope(values, i, of);
                    assert!((f64::from(*found) - exact).abs() < 5e-5, "{found} v {exact}");
                }
            };
            check(&gradient, &hidden, &|hidden| case.total(hidden, &a, &b));
            if let Some([of_a, of_b]) = updates {
                check(&of_a, &a, &|a| case.total(&hidden, a, &b));
                check(&of_b, &b, &|b| case.total(&hidden, &a, b));
            }
        }
    }
}

#[test]
fn a_model_that_is_its_base_does_not_diverge() {
    let case = Case::new(Some(3.0), false);
    let states = Array::from_slice(&case.hidden, &[COUNT as i32, WIDTH as i32]);
    let weights = Array::from_slice(&case.weights, &[COUNT as i32, 1]);
    let anchored = Anchored { hidden: &states, base_hidden: &states, weights: &weights };
    let mut graph = divergence(&case.output, anchored, Chunks::for_tests(4, 5)).unwrap();
    let gradient = graph.gradient.take().unwrap();
    assert!(graph.evaluate().unwrap().losses.iter().all(|kl| kl.abs() < 1e-6));
    assert!(gradient.abs().unwrap().max(None).unwrap().item_exact::<f32>() < 1e-6);
}
