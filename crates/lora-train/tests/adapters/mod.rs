//! Adapters compared.

use std::collections::HashMap;
use std::path::Path;

use mlx_rs::Array;

/// The factors in a file.
pub fn load(path: &Path) -> HashMap<String, Array> {
    Array::load_safetensors(path).unwrap()
}

/// The norm of all values of `a - b`.
pub fn distance(a: &HashMap<String, Array>, b: &HashMap<String, Array>) -> f64 {
    assert_eq!(a.len(), b.len());
    let square = |name: &String| {
        let apart = a[name].subtract(&b[name]).unwrap();
        f64::from(apart.square().unwrap().sum(None).unwrap().item_exact::<f32>())
    };
    a.keys().map(square).sum::<f64>().sqrt()
}
