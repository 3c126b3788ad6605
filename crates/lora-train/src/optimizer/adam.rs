//! Adam (arXiv:1412.6980) and AdamW (arXiv:1711.05101).

use mlx_rs::Array;

use super::{Slots, Step, blend, decayed, scalar};
use crate::Result;
use crate::config::AdamW;

/// Adam is AdamW without weight decay.
pub(super) fn apply(
    rule: &AdamW,
    Step { number, learning_rate }: Step,
    parameter: &Array,
    gradient: &Array,
    slots: &mut Slots<'_>,
) -> Result<Array> {
    let AdamW { betas: (beta1, beta2), eps, bias_correction, weight_decay } = *rule;
    let shape = gradient.shape();
    let m = blend(beta1, &slots.get("m", shape)?, 1.0 - beta1, gradient)?;
    let v = blend(beta2, &slots.get_squares("v", shape)?, 1.0 - beta2, &gradient.square()?)?;
    slots.set("m", &m)?;
    slots.set_squares("v", &v)?;

    let (mut rate, mut root) = (learning_rate, v.sqrt()?);
    if bias_correction {
        rate /= 1.0 - beta1.powf(number as f64);
        root = root.multiply(scalar((1.0 - beta2.powf(number as f64)).powf(-0.5)))?;
    }
    let change = m.multiply(scalar(rate))?.divide(root.add(scalar(eps))?)?;
    Ok(decayed(parameter, learning_rate * weight_decay)?.subtract(change)?)
}
