//! The state a run starts from.

use std::path::Path;

use models::Model;

use super::Data;
use crate::batch::Cursor;
use crate::checkpoint::{RunIdentity, TrainerState};
use crate::config::TrainConfig;
use crate::engine::Layout;
use crate::{Error, Result, Tensors, tensors};

impl TrainerState {
    pub(super) fn initial(identity: RunIdentity) -> Self {
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

/// The factors of a new run: those of `resume_adapter_file`, or untrained ones.
pub(super) fn initial_factors(
    config: &TrainConfig,
    layout: &Layout,
    model: &Model,
) -> Result<Tensors> {
    let Some(path) = &config.resume_adapter_file else {
        return layout.untrained(config.seed, model);
    };
    let (factors, _) = tensors::read(path)?;
    check_factors(layout, &factors, path)?;
    Ok(factors)
}

/// Checks that names and shapes of the factors in the file `path` are those of `layout`.
pub(super) fn check_factors(layout: &Layout, factors: &Tensors, path: &Path) -> Result<()> {
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

/// The digests of the training and validation rows, and of those for `nightshift.retention`.
pub(super) fn data_digest(data: &Data) -> String {
    data.splits().map(|split| split.digest().to_string()).collect::<Vec<_>>().join(" ")
}
