//! The gated delta rule in chunks against the rule itself: token by token, in f64.

use mlx_rs::Array;
use mlx_rs::transforms::fallible_vjp;
use models::layers::{GatedDelta, Rows, gated_delta};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The rule for all rows and heads, and its gradient.
#[derive(Clone)]
struct Case {
    lengths: Vec<usize>,
    key_heads: usize,
    group: usize,
    key_dim: usize,
    value_dim: usize,
    /// Queries, keys, values, log decay, beta, states before.
    inputs: [Vec<f64>; 6],
}

/// The gradients of everything that a case has.
type Gradients = [Vec<f64>; 6];

impl Case {
    fn tokens(&self) -> usize {
        self.lengths.iter().sum()
    }

    fn value_heads(&self) -> usize {
        self.key_heads * self.group
    }

    fn shapes(&self) -> [Vec<i32>; 6] {
        let [t, hk, hv] = [self.tokens(), self.key_heads, self.value_heads()];
        let states = [self.lengths.len(), hv, self.value_dim, self.key_dim];
        let keys = [1, t, hk, self.key_dim];
        [&keys[..], &keys, &[1, t, hv, self.value_dim], &[1, t, hv], &[1, t, hv], &states]
            .map(|shape| shape.iter().map(|&n| n as i32).collect())
    }

    /// Keys of length one, some of them alike; decays from 1e-4 to 1 - 1e-6, evenly in the logarithm
    /// of what is lost or left; beta near one every other time.
    fn random(lengths: &[usize], heads: [usize; 2], widths: [usize; 2], seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let ([key_heads, group], [key_dim, value_dim]) = (heads, widths);
        let lengths = lengths.to_vec();
        let mut case =
            Self { lengths, key_heads, group, key_dim, value_dim, inputs: Default::default() };
        let sizes = case.shapes().map(|shape| shape.iter().product::<i32>() as usize);
        let mut noise = |count: usize| -> Vec<f64> {
            (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()
        };
        let [mut queries, mut keys, values] = [noise(sizes[0]), noise(sizes[1]), noise(sizes[2])];
        let states = noise(sizes[5]);
        let stride = key_heads * key_dim;
        for token in 1..case.tokens() {
            // The hardest system to solve is one of keys that are nearly the same.
            if rng.random_range(0.0..1.0) < 0.3 {
                keys.copy_within((token - 1) * stride..token * stride, token * stride);
            }
        }
        for (vectors, length) in [(&mut queries, (key_dim as f64).powf(-0.5)), (&mut keys, 1.0)] {
            for vector in vectors.chunks_mut(key_dim) {
                let norm = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
                vector.iter_mut().for_each(|x| *x *= length / norm);
            }
        }
        let log_decay = (0..sizes[3])
            .map(|_| match rng.random_range(0..3) {
                0 => (1e-4f64).ln() * rng.random_range(0.0..1.0f64),
                1 => (-10f64.powf(rng.random_range(-6.0..0.0f64)) * 0.999_9).ln_1p(),
                _ => (-1e-6f64).ln_1p(),
            })
            .collect();
        let beta = (0..sizes[4])
            .map(|_| match rng.random_range(0..2) {
                0 => rng.random_range(0.0..1.0),
                _ => 1.0 - 10f64.powf(rng.random_range(-7.0..-1.0)),
            })
            .collect();
        case.inputs = [queries, keys, values, log_decay, beta, states];
        // Both sides begin with the same numbers.
        case.inputs.iter_mut().flatten().for_each(|x| *x = f64::from(*x as f32));
        case
    }

    /// Output, states after the rows, and the gradients of both sums of products with `cotangents`.
    fn reference(&self, cotangents: [&[f64]; 2]) -> (Vec<f64>, Vec<f64>, Gradients) {
        let [q, k, v, g, b, before] = &self.inputs;
        let (dk, dv, hv) = (self.key_dim, self.value_dim, self.value_heads());
        let mut output = vec![0.0; v.len()];
        let mut last = before.clone();
        let mut gradients: Gradients = self.inputs.clone().map(|input| vec![0.0; input.len()]);
        let mut start = 0;
        for (row, &length) in self.lengths.iter().enumerate() {
            for head in 0..hv {
                let at = (row * hv + head) * dv * dk;
                let key = |t: usize| ((start + t) * self.key_heads + head / self.group) * dk;
                let value = |t: usize| ((start + t) * hv + head) * dv;
                let gate = |t: usize| (start + t) * hv + head;
                let mut states = vec![before[at..at + dv * dk].to_vec()];
                for t in 0..length {
                    let decay = g[gate(t)].exp();
                    let mut state: Vec<f64> = states[t].iter().map(|s| s * decay).collect();
                    for i in 0..dv {
                        let s = &mut state[i * dk..(i + 1) * dk];
                        let known: f64 = (0..dk).map(|j| s[j] * k[key(t) + j]).sum();
                        let delta = b[gate(t)] * (v[value(t) + i] - known);
                        (0..dk).for_each(|j| s[j] += delta * k[key(t) + j]);
                        output[value(t) + i] = (0..dk).map(|j| s[j] * q[key(t) + j]).sum();
                    }
                    states.push(state);
                }
                last[at..at + dv * dk].copy_from_slice(&states[length]);
                let mut ds = cotangents[1][at..at + dv * dk].to_vec();
                for t in (0..length).rev() {
                    let (decay, beta) = (g[gate(t)].exp(), b[gate(t)]);
                    let (mut dbeta, mut ddecay) = (0.0, 0.0);
                    for i in 0..dv {
                        let row = i * dk..(i + 1) * dk;
                        let (ds, after) = (&mut ds[row.clone()], &states[t + 1][row.clone()]);
                        let earlier = &states[t][row];
                        let dy = cotangents[0][value(t) + i];
                        for j in 0..dk {
                            ds[j] += dy * q[key(t) + j];
                            gradients[0][key(t) + j] += dy * after[j];
                        }
                        let known: f64 = (0..dk).map(|j| decay * earlier[j] * k[key(t) + j]).sum();
                        let surprise = v[value(t) + i] - known;
                        let ddelta: f64 = (0..dk).map(|j| ds[j] * k[key(t) + j]).sum();
                        dbeta += ddelta * surprise;
                        gradients[2][value(t) + i] += beta * ddelta;
                        for j in 0..dk {
                            gradients[1][key(t) + j] += beta * surprise * ds[j];
                            gradients[1][key(t) + j] -= beta * ddelta * decay * earlier[j];
                            ds[j] -= beta * ddelta * k[key(t) + j];
                            ddecay += ds[j] * earlier[j];
                            ds[j] *= decay;
                        }
                    }
                    gradients[4][gate(t)] += dbeta;
                    gradients[3][gate(t)] += ddecay * decay;
                }
                gradients[5][at..at + dv * dk].copy_from_slice(&ds);
            }
            start += length;
        }
        (output, last, gradients)
    }

    /// The same of the crate, through MLX's `vjp`.
    fn chunked(&self, cotangents: [&[f64]; 2]) -> [Vec<f64>; 8] {
        let shapes = self.shapes();
        let arrays: Vec<Array> =
            self.inputs.iter().zip(&shapes).map(|(input, shape)| array(input, shape)).collect();
        let cotangents = [array(cotangents[0], &shapes[2]), array(cotangents[1], &shapes[5])];
        let rows = Rows::new(self.lengths.as_slice()).unwrap();
        let rule = |arrays: &[Array]| {
            let [queries, keys, values, log_decay, beta, before] = arrays else { panic!() };
            let [queries, keys, values, log_decay, beta] =
                [queries, keys, values, log_decay, beta].map(Array::clone);
            let inputs = GatedDelta { queries, keys, values, log_decay, beta };
            let (output, states) = gated_delta(&inputs, &rows, Some(before))?;
            Ok(vec![output, states])
        };
        let (outputs, gradients) = fallible_vjp(rule, &arrays, &cotangents).unwrap();
        let all: Vec<Vec<f64>> = outputs.iter().chain(&gradients).map(numbers).collect();
        all.try_into().unwrap()
    }
}

fn array(values: &[f64], shape: &[i32]) -> Array {
    Array::from_iter(values.iter().map(|&x| x as f32), shape)
}

fn numbers(array: &Array) -> Vec<f64> {
    array.contiguous().unwrap().as_slice::<f32>().iter().map(|&x| f64::from(x)).collect()
}

/// The largest difference, of the largest number. Of what has all but died away over the tokens, a
/// chunk is left with the rounding of what it began with: values and cotangents of size one.
fn apart(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(LEAST, |most, x| most.max(x.abs()));
    let differences = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, |most: f64, x| if x > most || x.is_nan() { x } else { most }) / largest
}

const NAMES: [&str; 8] = ["output", "states", "dq", "dk", "dv", "dg", "dbeta", "dstates"];
/// f32 against f64: what some thousand roundings of 6e-8 add up to.
const TOLERANCE: f64 = 1e-5;
/// Numbers smaller than this are compared as if they were as large.
const LEAST: f64 = 0.1;

fn check(case: &Case, seed: u64) -> Result<(), TestCaseError> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut noise = |like: &[f64]| -> Vec<f64> {
        like.iter().map(|_| f64::from(rng.random_range(-1.0..1.0f32))).collect()
    };
    let cotangents = [noise(&case.inputs[2]), noise(&case.inputs[5])];
    let cotangents = [cotangents[0].as_slice(), cotangents[1].as_slice()];
    let (output, states, gradients) = case.reference(cotangents);
    let [dq, dk, dv, dg, db, ds] = gradients;
    let expected = [output, states, dq, dk, dv, dg, db, ds];
    for ((name, found), expected) in NAMES.iter().zip(case.chunked(cotangents)).zip(expected) {
        let apart = apart(&found, &expected);
        prop_assert!(apart <= TOLERANCE, "{name} of {:?}: {apart:.1e} apart", case.lengths);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn chunks_are_the_rule_token_by_token(
        lengths in prop::collection::vec(1usize..100, 1..5),
        key_heads in 1usize..3,
        group in 1usize..4,
        key_dim in 1usize..20,
        value_dim in 1usize..20,
        seed in any::<u64>(),
    ) {
        let case = Case::random(&lengths, [key_heads, group], [key_dim, value_dim], seed);
        check(&case, seed)?;
    }
}

#[test]
fn long_rows_stay_as_exact() {
    for (seed, length) in [(1, 1000), (2, 4096)] {
        check(&Case::random(&[length], [1, 2], [16, 8], seed), seed).unwrap();
    }
}

/// One key all along, all of what is known of it replaced each time, and nothing forgotten: powers of
/// the coupling would reach 1e18 within a chunk of 64.
#[test]
fn a_single_key_is_solved_stably() {
    let mut case = Case::random(&[200], [1, 1], [8, 8], 3);
    let first: Vec<f64> = case.inputs[1][..8].to_vec();
    case.inputs[1].chunks_mut(8).for_each(|key| key.copy_from_slice(&first));
    case.inputs[3].fill(f64::from(-1e-6f32));
    case.inputs[4].fill(f64::from(1.0f32 - 1e-6));
    check(&case, 3).unwrap();
}

/// The reference's own gradients, against its values.
#[test]
fn gradients_are_finite_differences() {
    let case = Case::random(&[7, 3], [1, 2], [3, 4], 5);
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let mut noise =
        |like: &[f64]| -> Vec<f64> { like.iter().map(|_| rng.random_range(-1.0..1.0)).collect() };
    let cotangents = [noise(&case.inputs[2]), noise(&case.inputs[5])];
    let cotangents = [cotangents[0].as_slice(), cotangents[1].as_slice()];
    let value = |case: &Case| -> f64 {
        let (output, states, _) = case.reference(cotangents);
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        dot(&output, cotangents[0]) + dot(&states, cotangents[1])
    };
    let (_, _, gradients) = case.reference(cotangents);
    for (input, gradient) in gradients.iter().enumerate() {
        for (at, exact) in gradient.iter().enumerate() {
            const STEP: f64 = 1e-6;
            let moved = |step: f64| {
                let mut case = case.clone();
                case.inputs[input][at] += step;
                value(&case)
            };
            let slope = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
            // Rounding of f64 over the step.
            assert!((slope - exact).abs() < 1e-7 * (1.0 + exact.abs()), "{input} {at}");
        }
    }
}
