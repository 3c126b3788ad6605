//! Lion (arXiv:2302.06675): the learning rate times the sign of an interpolated momentum.

use mlx_rs::{Array, ops};

use super::{Slots, Step, blend, decayed, scalar};
use crate::Result;
use crate::config::Lion;

pub(super) fn apply(
    rule: &Lion,
    Step { learning_rate, .. }: Step,
    parameter: &Array,
    gradient: &Array,
    slots: &mut Slots<'_>,
) -> Result<Array> {
    let (beta1, beta2) = rule.betas;
    let m = slots.get("m", gradient.shape())?;
    let direction = ops::sign(blend(beta1, &m, 1.0 - beta1, gradient)?)?;
    slots.set("m", &blend(beta2, &m, 1.0 - beta2, gradient)?)?;
    let kept = decayed(parameter, learning_rate * rule.weight_decay)?;
    Ok(kept.subtract(direction.multiply(scalar(learning_rate))?)?)
}
