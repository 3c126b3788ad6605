//! Gradient clipping by global norm.

use super::{Tensors, scalar};
use crate::Result;

/// The root of the sum of the squares of all elements.
pub(crate) fn global_norm(gradients: &Tensors) -> Result<f64> {
    let squares: Vec<_> = gradients
        .values()
        .map(|gradient| gradient.square()?.sum(None))
        .collect::<std::result::Result<_, _>>()?;
    mlx_rs::transforms::eval(&squares)?;
    // Summed in f64 and in the order of the names, hence deterministic.
    let total: f64 = squares.iter().map(|square| f64::from(square.item_exact::<f32>())).sum();
    Ok(total.sqrt())
}

/// Scales the gradients so that their global norm is at most `max_norm`; returns the norm before.
pub(crate) fn clip_global_norm(gradients: &mut Tensors, max_norm: f64) -> Result<f64> {
    let norm = global_norm(gradients)?;
    if norm > max_norm {
        let factor = scalar(max_norm / norm);
        for gradient in gradients.values_mut() {
            *gradient = gradient.multiply(&factor)?;
        }
    }
    Ok(norm)
}

#[cfg(test)]
mod tests {
    use mlx_rs::Array;

    use super::*;

    #[test]
    fn the_norm_is_that_of_all_gradients_together() {
        let three_four = || {
            Tensors::from([
                ("a".to_owned(), Array::from_slice(&[3.0f32, 0.0], &[2])),
                ("b".to_owned(), Array::from_slice(&[0.0f32, 4.0], &[2, 1])),
            ])
        };
        assert_eq!(global_norm(&three_four()).unwrap(), 5.0);
        let mut gradients = three_four();
        assert_eq!(clip_global_norm(&mut gradients, 1.0).unwrap(), 5.0);
        assert!((global_norm(&gradients).unwrap() - 1.0).abs() < 1e-6);
        let mut gradients = three_four();
        clip_global_norm(&mut gradients, 6.0).unwrap();
        for (name, gradient) in three_four() {
            assert_eq!(
                gradients[&name].as_slice::<f32>(),
                gradient.as_slice::<f32>(),
                "below the limit"
            );
        }
    }
}
