//! Samples a token from the logits of one position.

use std::fmt;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::GenerateOptions;

/// Restricts the tokens of one completion, for instance to those of a grammar.
pub trait TokenConstraint: fmt::Debug + Send {
    /// Sets the logits of the tokens that may not come next to [`f32::NEG_INFINITY`], but never those of all.
    fn restrict(&mut self, logits: &mut [f32]);
    /// Takes notice of the token that comes next.
    fn accept(&mut self, token: u32);
}

/// Samples the tokens of one completion. It has its own random numbers, so that a completion does not
/// depend on the others of its batch.
#[derive(Debug)]
pub struct Sampler {
    rng: ChaCha8Rng,
    temperature: f32,
    top_p: f32,
    top_k: usize,
    constraint: Option<Box<dyn TokenConstraint>>,
}

impl Sampler {
    /// The sampler of the completion of this number: each number has its own random numbers.
    pub fn new(options: &GenerateOptions, number: usize) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
        rng.set_stream(number as u64);
        let GenerateOptions { temperature, top_p, top_k, .. } = *options;
        Self { rng, temperature, top_p, top_k, constraint: None }
    }

    /// The same sampler with only the tokens that a constraint allows. Filters and temperature apply to these.
    pub fn constrained(self, constraint: Box<dyn TokenConstraint>) -> Self {
        Self { constraint: Some(constraint), ..self }
    }

    /// The next token, given the logits of all tokens. As in mlx-lm, both filters use the probabilities before the temperature is
    /// applied.
    pub fn pick(&mut self, logits: &[f32]) -> u32 {
        let Some(mut constraint) = self.constraint.take() else { return self.sample(logits) };
        let mut allowed = logits.to_vec();
        constraint.restrict(&mut allowed);
        let token = self.sample(&allowed);
        constraint.accept(token);
        self.constraint = Some(constraint);
        token
    }

    fn sample(&mut self, logits: &[f32]) -> u32 {
        if self.temperature <= 0.0 || self.top_k == 1 {
            return argmax(logits);
        }
        let mut candidates = self.candidates(logits);
        candidates.retain(|&(_, logit)| logit > f32::NEG_INFINITY);
        let top = candidates.first().map_or(0.0, |&(_, logit)| logit);
        let weight = |logit: f32| f64::from((logit - top) / self.temperature).exp();
        let total: f64 = candidates.iter().map(|&(_, logit)| weight(logit)).sum();
        let mut left = self.rng.random::<f64>() * total;
        for &(id, logit) in &candidates {
            left -= weight(logit);
            if left < 0.0 {
                return id;
            }
        }
        // Rounding may leave a small remainder.
        candidates.last().map_or(0, |&(id, _)| id)
    }

    /// The tokens that pass the filters, most probable first.
    fn candidates(&self, logits: &[f32]) -> Vec<(u32, f32)> {
        let most = if self.top_k == 0 { logits.len() } else { self.top_k.min(logits.len()) };
        if self.top_p >= 1.0 {
            return largest(logits, most);
        }
        let log_sum = log_sum_exp(logits);
        let wanted = f64::from(self.top_p);
        // Few tokens have most of the mass: sort more of them only if these are not enough.
        let mut count = 64.min(most);
        loop {
            let mut candidates = largest(logits, count);
            let mut mass = 0.0;
            let enough = candidates.iter().position(|&(_, logit)| {
                mass += (f64::from(logit) - log_sum).exp();
                mass >= wanted
            });
            match enough {
                Some(last) => candidates.truncate(last + 1),
                None if count < most => {
                    count = (count * 8).min(most);
                    continue;
                }
                None => {}
            }
            return candidates;
        }
    }
}

/// The index of the largest, the first of equals.
fn argmax(logits: &[f32]) -> u32 {
    let mut best = (0, f32::NEG_INFINITY);
    for (id, &logit) in logits.iter().enumerate() {
        if logit > best.1 {
            best = (id, logit);
        }
    }
    best.0 as u32
}

/// The `count` largest in descending order; of equals the lower ids first.
fn largest(logits: &[f32], count: usize) -> Vec<(u32, f32)> {
    let order = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    let mut all: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
    if (1..all.len()).contains(&count) {
        all.select_nth_unstable_by(count - 1, order);
        all.truncate(count);
    }
    all.sort_unstable_by(order);
    all
}

/// `ln(sum(exp(x)))`, summed in f64.
pub(crate) fn log_sum_exp(values: &[f32]) -> f64 {
    let top = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = values.iter().map(|&value| f64::from((value - top).exp())).sum();
    f64::from(top) + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler(temperature: f32, top_p: f32, top_k: usize) -> Sampler {
        let options = GenerateOptions { temperature, top_p, top_k, ..Default::default() };
        Sampler::new(&options, 0)
    }

    #[test]
    fn filters_keep_the_most_probable() {
        // Probabilities 0.5, 0.3, 0.15, 0.05 at ids 2, 0, 3, 1.
        let logits = [0.3f32, 0.05, 0.5, 0.15].map(f32::ln);
        for (top_p, top_k, kept) in [
            (1.0, 0, vec![2, 0, 3, 1]),
            (1.0, 2, vec![2, 0]),
            (0.45, 0, vec![2]),
            (0.79, 0, vec![2, 0]),
            (0.94, 0, vec![2, 0, 3]),
            (0.94, 2, vec![2, 0]),
            (0.0, 0, vec![2]),
        ] {
            let ids: Vec<u32> =
                sampler(1.0, top_p, top_k).candidates(&logits).iter().map(|c| c.0).collect();
            assert_eq!(ids, kept, "top_p {top_p}, top_k {top_k}");
        }
    }

    #[test]
    fn a_wide_nucleus_is_found_too() {
        // 4,000 equally probable tokens: half the mass is half of them.
        let kept = sampler(1.0, 0.5, 0).candidates(&[0.0; 4000]);
        assert!((1999..=2001).contains(&kept.len()), "{}", kept.len());
    }

    #[test]
    fn frequencies_follow_temperature() {
        let logits = [0.6f32, 0.3, 0.1].map(f32::ln);
        for (temperature, expected) in [(1.0, [0.6, 0.3, 0.1]), (0.5, [0.7826, 0.1957, 0.0217])] {
            let mut sampler = sampler(temperature, 1.0, 0);
            let mut counts = [0u32; 3];
            const DRAWS: u32 = 20_000;
            (0..DRAWS).for_each(|_| counts[sampler.pick(&logits) as usize] += 1);
            for (count, expected) in counts.iter().zip(expected) {
                let share = f64::from(*count) / f64::from(DRAWS);
                // Four standard deviations of a share near one half.
                assert!((share - expected).abs() < 0.015, "{counts:?} at {temperature}");
            }
        }
    }

    /// Only tokens whose id is a multiple of the last one plus 2.
    #[derive(Debug)]
    struct Multiples(u32);

    impl TokenConstraint for Multiples {
        fn restrict(&mut self, logits: &mut [f32]) {
            let step = self.0 as usize + 2;
            let others = logits.iter_mut().enumerate().filter(|(id, _)| id % step != 0);
            others.for_each(|(_, logit)| *logit = f32::NEG_INFINITY);
        }

        fn accept(&mut self, token: u32) {
            self.0 = token;
        }
    }

    #[test]
    fn a_constraint_decides_what_may_come() {
        let logits: Vec<f32> = (0..40).map(|id| (id as f32 * 0.7).sin()).collect();
        for (temperature, top_p, top_k) in
            [(0.0, 1.0, 0), (1.0, 1.0, 0), (2.0, 0.9, 7), (9.0, 1.0, 39)]
        {
            let mut sampler =
                sampler(temperature, top_p, top_k).constrained(Box::new(Multiples(0)));
            let mut last = 0;
            for _ in 0..200 {
                let token = sampler.pick(&logits);
                assert_eq!(token % (last + 2), 0, "{token} after {last} at {temperature}");
                last = token;
            }
        }
    }

    #[test]
    fn greedy_takes_the_first_of_equals() {
        assert_eq!(sampler(0.0, 1.0, 0).pick(&[1.0, 3.0, 3.0, 2.0]), 1);
        assert_eq!(sampler(5.0, 1.0, 1).pick(&[1.0, 3.0, 3.0, 2.0]), 1);
    }
}
