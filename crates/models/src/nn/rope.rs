//! Rotary position embedding as one formula for every variant.
//!
//! A rotation by angle `t` of the pair `(a, b)` is `(a, b) cos t + (-b, a) sin t`. The map
//! `(a, b) -> (-b, a)` on all pairs of a head is a fixed signed permutation, so a head `x` becomes
//! `x * cos + (x S) * sin` with one small constant matrix `S`: two products with tables shared by
//! all layers, and a matrix product where a general rotation would slice, negate and concatenate.
//! On a CPU it is one operation, see [`crate::ext::fused`].

use kernels::Pairs;
use mlx_rs::{Array, Dtype};

use crate::Result;
use crate::ext::{Differentiable, applied, cpu_op};
use crate::ext::fused::on_cpu;

/// Which values of a head form the pairs that are rotated together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeStyle {
    /// `(i, i + d/2)`: Hugging Face's layout.
    Halves,
    /// `(2i, 2i + 1)`: the layout of the original Llama, `rope_traditional` in MLX configurations.
    Interleaved,
}

/// The rotations of one kind of attention layer.
#[derive(Clone, Debug)]
pub(crate) struct Rope {
    swap: Array,
    pairs: Pairs,
    /// Radians per position, for every value of a head.
    frequencies: Vec<f64>,
}

impl Rope {
    /// Rotations of heads of `2 * frequencies.len()` values; `frequencies` in radians per position.
    pub fn new(frequencies: &[f64], style: RopeStyle, dtype: Dtype) -> Result<Self> {
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
        let swap = Array::from_slice(&swap, &[width as i32, width as i32]).as_dtype(dtype)?;
        swap.eval()?;
        let pairs = match style {
            RopeStyle::Halves => Pairs::Halves,
            RopeStyle::Interleaved => Pairs::Neighbours,
        };
        Ok(Self { swap, pairs, frequencies: per_value })
    }

    /// The tables for tokens at `positions`. Angles are formed in f64: a position in the tens of
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
        let (swap, pairs) = (self.swap.clone(), self.pairs);
        Rotation { cos: table(f64::cos), sin: table(f64::sin), swap, pairs }
    }
}

/// The rotations of the tokens of one micro-batch.
#[derive(Clone, Debug)]
pub(crate) struct Rotation {
    cos: Array,
    sin: Array,
    swap: Array,
    pairs: Pairs,
}

impl Rotation {
    /// Rotates `[1, T, heads, d]`.
    pub fn apply(&self, x: &Array) -> Result<Array> {
        if on_cpu(x)? {
            return applied(self.clone(), &[x]);
        }
        let turned = x.matmul(&self.swap)?.multiply(&self.sin)?;
        Ok(x.multiply(&self.cos)?.add(turned)?.as_dtype(x.dtype())?)
    }

    /// Forwards, or back.
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

/// How fast the pairs of a head rotate.
pub(crate) struct Frequencies {
    pub theta: f64,
    pub stretch: Stretch,
}

/// How the frequencies are lowered for contexts longer than those first trained on.
pub(crate) enum Stretch {
    None,
    /// All by the same factor.
    Linear(f64),
    /// Slow pairs by the factor, fast ones not at all, a smooth passage between.
    Llama3 {
        factor: f64,
        low: f64,
        high: f64,
        trained: f64,
    },
}

impl Frequencies {
    pub fn plain(theta: f64) -> Self {
        Self { theta, stretch: Stretch::None }
    }

    /// Radians per position of each pair of a head.
    pub fn of_pairs(&self, head_dim: usize) -> Vec<f64> {
        (0..head_dim / 2)
            .map(|pair| self.theta.powf(-2.0 * pair as f64 / head_dim as f64))
            .map(|frequency| match self.stretch {
                Stretch::None => frequency,
                Stretch::Linear(factor) => frequency / factor,
                Stretch::Llama3 { factor, low, high, trained } => {
                    let turns = trained * frequency / std::f64::consts::TAU;
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
    fn stretching_spares_the_fast_pairs() {
        let stretch = Stretch::Llama3 { factor: 8.0, low: 1.0, high: 4.0, trained: 8192.0 };
        let plain = Frequencies::plain(500_000.0).of_pairs(128);
        let stretched = Frequencies { theta: 500_000.0, stretch }.of_pairs(128);
        assert_eq!(stretched[0], plain[0]);
        assert_eq!(stretched[63], plain[63] / 8.0);
        // Between them, each pair keeps between an eighth and all of its frequency.
        assert!(plain.iter().zip(&stretched).all(|(p, s)| *s <= *p && *s >= p / 8.0));
        assert!(plain.iter().zip(&stretched).any(|(p, s)| *s < *p && *s > p / 8.0));
    }
}
