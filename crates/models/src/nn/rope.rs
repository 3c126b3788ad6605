//! Rotary position embedding (Su et al., 2021), one formula for every variant: a pair of values
//! `(a, b)` at position `p` becomes `(a, b) cos t + (-b, a) sin t` with `t = p * frequency`.
//!
//! On a CPU in f32 it is one fused operation with tables shared by all layers, elsewhere MLX's own.

use kernels::Pairs;
use mlx_rs::Array;
use mlx_rs::fast::rope_dynamic;

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
    pairs: Pairs,
    /// Radians per position, for every pair of a head.
    frequencies: Vec<f64>,
    backend: Backend,
}

impl Rope {
    /// For heads of `2 * frequencies.len()` values; `frequencies` in radians per position.
    pub fn new(frequencies: &[f64], style: RopeStyle, backend: Backend) -> Self {
        let pairs = match style {
            RopeStyle::Halves => Pairs::Halves,
            RopeStyle::Interleaved => Pairs::Neighbours,
        };
        Self { pairs, frequencies: frequencies.to_vec(), backend }
    }

    /// The rotations of tokens at `positions`.
    pub fn at(&self, positions: &[usize]) -> Rotation {
        let (tokens, pairs) = (positions.len() as i32, self.pairs);
        if self.backend.is_native() || !self.backend.is_cpu() {
            let offsets = positions.iter().map(|&position| position as i32);
            let periods = self.frequencies.iter().map(|&frequency| frequency.recip() as f32);
            return Rotation::Native {
                offsets: Array::from_iter(offsets, &[tokens]),
                periods: Array::from_iter(periods, &[self.frequencies.len() as i32]),
                pairs,
            };
        }
        // In f64: a position in the tens of thousands times a frequency near one would lose its last
        // digits in f32.
        let angles: Vec<f64> = (positions.iter())
            .flat_map(|&position| self.by_value().map(move |f| position as f64 * f))
            .collect();
        let shape = [1, tokens, 1, 2 * self.frequencies.len() as i32];
        let table = |f: fn(f64) -> f64| {
            let values: Vec<f32> = angles.iter().map(|&angle| f(angle) as f32).collect();
            Array::from_slice(&values, &shape)
        };
        Rotation::Fused(Tables { cos: table(f64::cos), sin: table(f64::sin), pairs })
    }

    /// The frequency of each value of a head.
    fn by_value(&self) -> impl Iterator<Item = f64> + '_ {
        let half = self.frequencies.len();
        (0..2 * half).map(move |value| match self.pairs {
            Pairs::Halves => self.frequencies[value % half],
            Pairs::Neighbours => self.frequencies[value / 2],
        })
    }
}

/// The rotations of the tokens of one micro-batch.
#[derive(Clone, Debug)]
pub(crate) enum Rotation {
    /// By MLX's operation: the position of each token, and the inverse frequency of each pair.
    Native { offsets: Array, periods: Array, pairs: Pairs },
    /// By the `kernels` crate.
    Fused(Tables),
}

/// Cosine and sine of each angle, `[1, T, 1, d]`.
#[derive(Clone, Debug)]
pub(crate) struct Tables {
    cos: Array,
    sin: Array,
    pairs: Pairs,
}

impl Rotation {
    /// Rotates `[1, T, heads, d]`.
    pub fn apply(&self, x: &Array) -> Result<Array> {
        let (offsets, periods, pairs) = match self {
            Self::Fused(tables) => return apply_one(tables.clone(), &[x]),
            Self::Native { offsets, periods, pairs } => (offsets, periods, pairs),
        };
        // Each token is a row of its own, so that each has its own position.
        let (heads, width) = (x.dim(2), x.dim(3));
        let rows = x.reshape(&[-1, heads, 1, width])?;
        let traditional = *pairs == Pairs::Neighbours;
        let turned = rope_dynamic(&rows, width, traditional, None, 1.0, offsets, Some(periods))?;
        Ok(turned.reshape(x.shape())?)
    }
}

impl Tables {
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

impl Differentiable for Tables {
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
    /// YaRN (Peng et al., 2023): pairs that turn fewer than `slow` times in the original context divided
    /// by the factor, those that turn more than `fast` times kept, interpolated by index between the two.
    Yarn {
        factor: f64,
        fast: f64,
        slow: f64,
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
            .map(|pair| (pair, self.theta.powf(-2.0 * pair as f64 / head_dim as f64)))
            .map(|(pair, frequency)| match self.scaling {
                Scaling::None => frequency,
                Scaling::Linear(factor) => frequency / factor,
                Scaling::Yarn { factor, fast, slow, original_context } => {
                    // The pair that turns so many times.
                    let pair_of = |turns: f64| {
                        let period = original_context / turns / std::f64::consts::TAU;
                        head_dim as f64 * period.ln() / (2.0 * self.theta.ln())
                    };
                    let first = pair_of(fast).floor().max(0.0);
                    let last = pair_of(slow).ceil().min(head_dim as f64 - 1.0);
                    let share = (pair as f64 - first) / (last - first).max(1e-3);
                    let share = share.clamp(0.0, 1.0);
                    frequency * (1.0 - share) + frequency / factor * share
                }
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
    use mlx_rs::{random, transforms};

    use super::*;
    use crate::backend::Kernels;

    /// MLX's operation and the fused one turn values and gradients alike: rows that begin anew, both
    /// layouts, pairs that are not turned at all.
    #[test]
    fn both_kinds_of_kernels_rotate_alike() {
        let frequencies = [1.0, 0.25, 0.01, 0.0];
        let noise = |seed: u64| {
            let key = random::key(seed).unwrap();
            random::normal::<f32>(&[1, 6, 3, 8], None, None, &key).unwrap()
        };
        for style in [RopeStyle::Halves, RopeStyle::Interleaved] {
            let run = |kernels| {
                let backend = Backend::choose(Some(kernels)).unwrap();
                let rotation = Rope::new(&frequencies, style, backend).at(&[0, 1, 2, 0, 1, 900]);
                let rotate = |x: &[Array]| Ok(vec![rotation.apply(&x[0])?]);
                let (y, dx) = transforms::fallible_vjp(rotate, &[noise(1)], &[noise(2)]).unwrap();
                [y, dx].concat()
            };
            for (fused, native) in run(Kernels::Blas).iter().zip(run(Kernels::NativeF32)) {
                // An angle of 900 in f32 is off by 3e-5.
                assert!(fused.all_close(&native, 1e-4, 2e-4, None).unwrap(), "{style:?}");
            }
        }
    }

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
