//! Adafactor (arXiv:1804.04235): second moments of a matrix from those of its rows and columns.

use mlx_rs::{Array, ops};

use super::{Slots, Step, blend, scalar};
use crate::Result;
use crate::config::Adafactor;

pub(super) fn slots(rule: &Adafactor, shape: &[i32]) -> Vec<(&'static str, Vec<i32>)> {
    let mut slots = match *shape {
        [rows, columns] => {
            vec![("exp_avg_sq_row", vec![rows]), ("exp_avg_sq_col", vec![columns])]
        }
        _ => vec![("exp_avg_sq", shape.to_vec())],
    };
    if rule.beta_1.is_some() {
        slots.push(("exp_avg", shape.to_vec()));
    }
    slots
}

pub(super) fn apply(
    rule: &Adafactor,
    step: Step,
    parameter: &Array,
    gradient: &Array,
    slots: &mut Slots<'_>,
) -> Result<Array> {
    let rate = step_size(rule, step, parameter)?;
    let scaled = scale_by_moments(rule, step, gradient, slots)?;
    let excess = ops::maximum(rms(&scaled)?.divide(scalar(rule.clip_threshold))?, scalar(1.0))?;
    let mut change = scaled.divide(excess)?.multiply(&rate)?;
    if let Some(beta) = rule.beta_1 {
        change = blend(beta, &slots.get("exp_avg", gradient.shape())?, 1.0 - beta, &change)?;
        slots.set("exp_avg", &change)?;
    }
    let kept = match rule.weight_decay {
        0.0 => parameter.clone(),
        decay => parameter.subtract(parameter.multiply(rate.multiply(scalar(decay))?)?)?,
    };
    Ok(kept.subtract(change)?)
}

fn step_size(rule: &Adafactor, step: Step, parameter: &Array) -> Result<Array> {
    let number = step.number as f64;
    let relative = match (rule.relative_step, rule.warmup_init) {
        (false, _) => step.learning_rate,
        (true, false) => number.powf(-0.5).min(1e-2),
        (true, true) => number.powf(-0.5).min(1e-6 * number),
    };
    match rule.scale_parameter {
        true => Ok(ops::maximum(rms(parameter)?, scalar(rule.eps.1))?.multiply(scalar(relative))?),
        false => Ok(scalar(relative)),
    }
}

/// The gradient divided by the root of its second moments.
fn scale_by_moments(
    rule: &Adafactor,
    step: Step,
    gradient: &Array,
    slots: &mut Slots<'_>,
) -> Result<Array> {
    let new = (step.number as f64).powf(rule.decay_rate);
    let square = gradient.square()?.add(scalar(rule.eps.0))?;
    let mut moment = |slot, square: &Array| -> Result<Array> {
        let moment = blend(1.0 - new, &slots.get_squares(slot, square.shape())?, new, square)?;
        slots.set_squares(slot, &moment)?;
        Ok(moment)
    };
    let [_, _] = *gradient.shape() else {
        return Ok(moment("exp_avg_sq", &square)?.rsqrt()?.multiply(gradient)?);
    };
    let rows = moment("exp_avg_sq_row", &square.mean_axis(1, false)?)?;
    let columns = moment("exp_avg_sq_col", &square.mean_axis(0, false)?)?;
    let by_row = rows.divide(rows.mean(false)?)?.rsqrt()?.expand_dims(1)?;
    let by_column = columns.rsqrt()?.expand_dims(0)?;
    Ok(by_row.multiply(by_column)?.multiply(gradient)?)
}

/// Root mean square.
fn rms(array: &Array) -> Result<Array> {
    Ok(array.square()?.mean(None)?.sqrt()?)
}
