//! Rotary position embedding (Su et al., 2021), one formula for every variant.
//!
//! A rotation by angle `t` of the pair `(a, b)` is `(a, b) cos t + (-b, a) sin t`. The map
//! `(a, b) -> (-b, a)` on all pairs of a head is a fixed signed permutation, so a head `x` becomes
//! `x * cos + (x S) * sin` with one small constant matrix `S`: two products with tables shared by
//! all layers, and a matrix product instead of slicing, negating and concatenating. On a CPU it is
//! one fused operation.

use kernels::Pairs;
use mlx_rs::Array;

use crate::Result;
use crate::backend::Backend;
use crate::ext::{Differentiable, apply_one, cpu_op};

/// Which values of a head form the pairs that are rotated together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeStyle {
    /// `(i, i + d/2)`: Hugging Face's layout.
    Halves,
    /// `(2i, 2i + 1)`: the layout of the original Llama, `rope_traditional` in MLX configurations.
    Interleaved,
}

/// The rotary embedding of one kind of attention layer.
#[derive(Clone, Debug)]
pub(crate) struct Rope {
    swap: Array,
    pairs: Pairs,
    /// Radians per position, for every value of a head.
    frequencies: Vec<f64>,
    backend: Backend,
}

impl Rope {
    /// For heads of `2 * frequencies.len()` values; `frequencies` in radians per position.
    pub fn new(frequencies: &[f64], style: RopeStyle, backend: Backend) -> Result<Self> {
        let half = frequencies.len();
        let width = 2 * half;
        let mut swap = vec![0f32; width * width];
        let mut per_value = vec![0f64; width];
        for (i, &frequency) in frequencies.iter().enumerate() {
            let (a, b) = match style {
                RopeStyle::Halves => (i, i + half),
                RopeStyle::Interleaved => (2 * i, 2 * i + 1),
            };
            swap[b * width + a] = -1.0;
            swap[a * width + b] = 1.0;
            per_value[a] = frequency;
            per_value[b] = frequency;
        }
        let swap = Array::from_slice(&swap, &[width as i32, width as i32]);
        let swap = swap.as_dtype(backend.dtype())?;
        swap.eval()?;
        let pairs = match style {
            RopeStyle::Halves => Pairs::Halves,
            RopeStyle::Interleaved => Pairs::Neighbours,
        };
        Ok(Self { swap, pairs, frequencies: per_value, backend })
    }

    /// The tables for tokens at `positions`. Angles are computed in f64: a position in the tens of
    /// thousands times a frequency near one would lose its last digits in f32.
    pub fn at(&self, positions: &[usize]) -> Rotation {
        let angles: Vec<f64> = (positions.iter())
            .flat_map(|&position| self.frequencies.iter().map(move |f| position as f64 * f))
            .collect();
        let shape = [1, positions.len() as i32, 1, self.frequencies.len() as i32];
        let table = |f: fn(f64) -> f64| {
            let values: Vec<f32> = angles.iter().map(|&angle| f(angle) as f32).collect();
            Array::from_slice(&values, &shape)
        };
        let (swap, pairs, backend) = (self.swap.clone(), self.pairs, self.backend);
        Rotation { cos: table(f64::cos), sin: table(f64::sin), swap, pairs, backend }
    }
}

/// The rotations of the tokens of one micro-batch.
#[derive(Clone, Debug)]
pub(crate) struct Rotation {
    cos: Array,
    sin: Array,
    swap: Array,
    pairs: Pairs,
    backend: Backend,
}

impl Rotation {
    /// Rotates `[1, T, heads, d]`.
    pub fn apply(&self, x: &Array) -> Result<Array> {
        if self.backend.fuses(x) {
            return apply_one(self.clone(), &[x]);
        }
        let turned = x.matmul(&self.swap)?.multiply(&self.sin)?;
        Ok(x.multiply(&self.cos)?.add(turned)?.as_dtype(x.dtype())?)
    }

    /// Rotates by `direction` times the angles: 1 or -1.
    fn turn(&self, x: &[Array], direction: f32) -> Result<Vec<Array>> {
        let (pairs, width) = (self.pairs, self.cos.dim(-1) as usize);
        let turned = x.iter().map(|x| {
            let kernel = move |[x, cos, sin]: [&[f32]; 3], [y]: [&mut [f32]; 1]| {
                kernels::rotate(kernels::Rotation { cos, sin, pairs, width, direction }, x, y);
            };
            let [y] = cpu_op([x, &self.cos, &self.sin], [x.shape()], kernel)?;
            Ok(y)
        });
        turned.collect()
    }
}

impl Differentiable for Rotation {
    fn forward(&self, inputs: &[Array]) -> Result<Vec<Array>> {
        self.turn(inputs, 1.0)
    }

    fn backward(&self, _: &[Array], to: &[Array], _: &[Array]) -> Result<Vec<Array>> {
        self.turn(to, -1.0)
    }
}

/// The frequencies of a rotary embedding: `theta^(-2 i / d)`, scaled.
pub(crate) struct Frequencies {
    pub theta: f64,
    pub scaling: Scaling,
}

/// How frequencies are lowered for contexts longer than those in pretraining.
pub(crate) enum Scaling {
    None,
    /// All divided by the same factor.
    Linear(f64),
    /// Llama 3: slow pairs divided by the factor, fast ones kept, interpolated between the two.
    Llama3 {
        factor: f64,
        low: f64,
        high: f64,
        original_context: f64,
    },
}

impl Frequencies {
    pub fn plain(theta: f64) -> Self {
        Self { theta, scaling: Scaling::None }
    }

    /// Radians per position of each pair of a head.
    pub fn of_pairs(&self, head_dim: usize) -> Vec<f64> {
        (0..head_dim / 2)
            .map(|pair| self.theta.powf(-2.0 * pair as f64 / head_dim as f64))
            .map(|frequency| match self.scaling {
                Scaling::None => frequency,
                Scaling::Linear(factor) => frequency / factor,
                Scaling::Llama3 { factor, low, high, original_context } => {
                    let turns = original_context * frequency / std::f64::consts::TAU;
                    let smooth = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                    frequency * (smooth + (1.0 - smooth) / factor)
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequencies_fall_from_one() {
        let plain = Frequencies::plain(10_000.0).of_pairs(4);
        assert_eq!(plain, [1.0, 0.01]);
    }

    #[test]
    fn scaling_keeps_the_fast_pairs() {
        let scaling =
            Scaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original_context: 8192.0 };
        let plain = Frequencies::plain(500_000.0).of_pairs(128);
        let scaled = Frequencies { theta: 500_000.0, scaling }.of_pairs(128);
        assert_eq!(scaled[0], plain[0]);
        assert_eq!(scaled[63], plain[63] / 8.0);
        // Between them, each pair keeps between an eighth and all of its frequency.
        assert!(plain.iter().zip(&scaled).all(|(p, s)| *s <= *p && *s >= p / 8.0));
        assert!(plain.iter().zip(&scaled).any(|(p, s)| *s < *p && *s > p / 8.0));
    }
}
