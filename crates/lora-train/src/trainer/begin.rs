//! What a run begins with.

use std::path::Path;

use models::Model;

use super::Data;
use crate::batch::Cursor;
use crate::checkpoint::{Identity, Position};
use crate::config::TrainConfig;
use crate::engine::Layout;
use crate::{Error, Result, Tensors, tensors};

impl Position {
    pub(super) fn start(identity: Identity) -> Self {
        Self {
            step: 0,
            optimizer_step: 0,
            rows: 0,
            cursor: Cursor::default(),
            metrics_bytes: 0,
            best: None,
            stale: 0,
            identity,
        }
    }
}

/// The factors a new run starts from.
pub(super) fn initial_factors(
    config: &TrainConfig,
    layout: &Layout,
    model: &Model,
) -> Result<Tensors> {
    let Some(path) = &config.resume_adapter_file else {
        return layout.untrained(config.seed, model);
    };
    let (factors, _) = tensors::read(path)?;
    fits(layout, &factors, path)?;
    Ok(factors)
}

/// Checks that `factors` are those of `layout`, no more and no fewer.
pub(super) fn fits(layout: &Layout, factors: &Tensors, path: &Path) -> Result<()> {
    let mismatch = |name: &str, expected: String, found: String| Error::AdapterMismatch {
        path: path.to_owned(),
        name: name.to_owned(),
        expected,
        found,
    };
    let mut surplus: Vec<_> = factors.keys().map(String::as_str).collect();
    for (name, shape) in layout.shapes() {
        surplus.retain(|other| *other != name);
        let found = factors.get(name).map(mlx_rs::Array::shape);
        if found != Some(shape.as_slice()) {
            let found = found.map_or("no such tensor".into(), |shape| format!("{shape:?}"));
            return Err(mismatch(name, format!("{shape:?}"), found));
        }
    }
    match surplus.first() {
        Some(name) => Err(mismatch(name, "no such tensor".into(), "one".into())),
        None => Ok(()),
    }
}

/// What the rows are told by.
pub(super) fn digest(data: &Data) -> String {
    let parts = [Some(&data.train), data.valid.as_ref()].into_iter().flatten();
    parts.map(|split| split.digest().to_string()).collect::<Vec<_>>().join(" ")
}
