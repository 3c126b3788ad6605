//! Stochastic gradient descent, plain or with momentum.

use mlx_rs::Array;

use super::{Slots, Step, blend, regularized, scalar};
use crate::Result;
use crate::config::Sgd;

pub(super) fn apply(
    rule: &Sgd,
    step: Step,
    parameter: &Array,
    gradient: &Array,
    slots: &mut Slots<'_>,
) -> Result<Array> {
    let gradient = regularized(gradient, parameter, rule.weight_decay)?;
    let direction = match rule.momentum {
        0.0 => gradient,
        momentum => {
            let old = slots.get("v", gradient.shape())?;
            let v = blend(momentum, &old, 1.0 - rule.dampening, &gradient)?;
            slots.set("v", &v)?;
            if rule.nesterov { blend(momentum, &v, 1.0, &gradient)? } else { v }
        }
    };
    Ok(parameter.subtract(direction.multiply(scalar(step.learning_rate))?)?)
}
