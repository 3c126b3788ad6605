//! Muon: a momentum whose singular values are all brought near one.

use mlx_rs::Array;

use super::{Now, Slots, blend, scalar};
use crate::Result;
use crate::config::Muon;

pub(super) fn apply(
    rule: &Muon,
    now: Now,
    parameter: &Array,
    gradient: &Array,
    slots: &mut Slots<'_>,
) -> Result<Array> {
    let momentum = rule.momentum;
    let gradient = match rule.weight_decay {
        0.0 => gradient.clone(),
        decay => gradient.add(parameter.multiply(scalar(decay))?)?,
    };
    let old = slots.get("v", gradient.shape())?;
    let v = blend(momentum, &old, 1.0 - momentum, &gradient)?;
    slots.set("v", &v)?;
    let direction = if rule.nesterov { blend(momentum, &v, 1.0 - momentum, &gradient)? } else { v };

    let (direction, rate) = match *parameter.shape() {
        // A vector has no singular values; it moves along its momentum.
        [rows, columns] => {
            let wide = (f64::from(rows) / f64::from(columns)).max(1.0);
            (orthogonalize(&direction, rule.ns_steps)?, now.learning_rate * wide.sqrt())
        }
        _ => (direction, now.learning_rate),
    };
    Ok(parameter.subtract(direction.multiply(scalar(rate))?)?)
}

/// Newton-Schulz iteration of fifth order on the smaller side of the matrix.
fn orthogonalize(matrix: &Array, steps: u32) -> Result<Array> {
    // Slopes that grow small singular values fastest; they settle near one, not at it.
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
