//! The length of all gradients together.

use super::{Tensors, scalar};
use crate::Result;

/// The root of the sum of all squared elements.
pub fn global_norm(gradients: &Tensors) -> Result<f64> {
    let squares: Vec<_> = gradients
        .values()
        .map(|gradient| gradient.square()?.sum(None))
        .collect::<std::result::Result<_, _>>()?;
    mlx_rs::transforms::eval(&squares)?;
    // In f64 and in name order: the same sum every time.
    let total: f64 = squares.iter().map(|square| f64::from(square.item_exact::<f32>())).sum();
    Ok(total.sqrt())
}

/// Scales all gradients down, if need be, so that their global norm is at most `max_norm`;
/// returns the norm they had.
pub fn clip_global_norm(gradients: &mut Tensors, max_norm: f64) -> Result<f64> {
    let norm = global_norm(gradients)?;
    if norm > max_norm {
        let factor = scalar(max_norm / norm);
        for gradient in gradients.values_mut() {
            *gradient = gradient.multiply(&factor)?;
        }
    }
    Ok(norm)
}
