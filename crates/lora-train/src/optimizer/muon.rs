//! Muon: momentum orthogonalized by Newton-Schulz iterations, so that its singular values are near 1.

use mlx_rs::Array;

use super::{Slots, Step, blend, regularized, scalar};
use crate::Result;
use crate::config::Muon;

pub(super) fn apply(
    rule: &Muon,
    step: Step,
    parameter: &Array,
    gradient: &Array,
    slots: &mut Slots<'_>,
) -> Result<Array> {
    let momentum = rule.momentum;
    let gradient = regularized(gradient, parameter, rule.weight_decay)?;
    let old = slots.get("v", gradient.shape())?;
    let v = blend(momentum, &old, 1.0 - momentum, &gradient)?;
    slots.set("v", &v)?;
    let direction = if rule.nesterov { blend(momentum, &v, 1.0 - momentum, &gradient)? } else { v };

    let (direction, rate) = match *parameter.shape() {
        // Only matrices are orthogonalized.
        [rows, columns] => {
            let wide = (f64::from(rows) / f64::from(columns)).max(1.0);
            (orthogonalize(&direction, rule.ns_steps)?, step.learning_rate * wide.sqrt())
        }
        _ => (direction, step.learning_rate),
    };
    Ok(parameter.subtract(direction.multiply(scalar(rate))?)?)
}

/// Quintic Newton-Schulz iterations, on the smaller side of the matrix.
fn orthogonalize(matrix: &Array, steps: u32) -> Result<Array> {
    // Muon's coefficients: fast for small singular values, which end up near 1 but not at 1.
    const COEFFICIENTS: (f64, f64, f64) = (3.4445, -4.7750, 2.0315);
    let (a, b, c) = COEFFICIENTS;
    let tall = matches!(*matrix.shape(), [rows, columns] if rows > columns);
    let mut x = if tall { matrix.transpose()? } else { matrix.clone() };
    let norm = x.square()?.sum(None)?.sqrt()?;
    x = x.divide(norm.add(scalar(1e-7))?)?;
    for _ in 0..steps {
        let gram = x.matmul(x.transpose()?)?;
        let poly = blend(b, &gram, c, &gram.matmul(&gram)?)?;
        x = blend(a, &x, 1.0, &poly.matmul(&x)?)?;
    }
    if tall { Ok(x.transpose()?) } else { Ok(x) }
}
