//! What the ranks of a run have in common.

use std::path::PathBuf;

use models::Group;

use super::Data;
use super::initial::data_digest;
use crate::checkpoint::Checkpoint;
use crate::config::{TrainConfig, shared_by_ranks};
use crate::run_folder::RunFolder;
use crate::{Error, Result, Tensors};

/// Checks that program, model, rows and settings are the same on every rank.
///
/// # Errors
/// [`RankError::Differs`](models::RankError::Differs) names the rank and what differs.
pub(super) fn check_same(group: &Group, config: &TrainConfig, data: &Data) -> Result<()> {
    if group.size() == 1 {
        return Ok(());
    }
    let program = std::env::current_exe().map_err(|source| {
        let path = PathBuf::from("(this program)");
        Error::Read { path, source }
    })?;
    let mut things = vec![
        ("program".to_owned(), durable::sha256_file(program)?.to_string()),
        ("training data".to_owned(), data_digest(data)),
    ];
    if let Some(model) = &config.model {
        things.push(("base model".to_owned(), models::model_digest(model)?.to_string()));
    }
    let settings = shared_by_ranks(&config.by_content()?).into_iter();
    things.extend(settings.map(|(key, value)| (format!("`{key}`"), value.to_string())));
    Ok(group.check_same(&things)?)
}

/// Checks that every rank has computed the same bytes.
///
/// # Errors
/// As [`check_same`].
pub(super) fn check_state(
    group: &Group,
    step: u64,
    factors: &Tensors,
    moments: &Tensors,
) -> Result<()> {
    if group.size() == 1 {
        return Ok(());
    }
    let mut bytes = Vec::new();
    for array in factors.values().chain(moments.values()) {
        match array.dtype() {
            mlx_rs::Dtype::Uint32 => {
                bytes.extend(
                    array.try_as_slice::<u32>()?.iter().flat_map(|word| word.to_le_bytes()),
                );
            }
            _ => bytes
                .extend(array.try_as_slice::<f32>()?.iter().flat_map(|word| word.to_le_bytes())),
        }
    }
    let what = format!("adapter after update {step} (ranks need machines of one kind)");
    Ok(group.check_same(&[(what, durable::digest(bytes).to_string())])?)
}

/// Rank 0's newest checkpoint and its path there, on every rank.
pub(super) fn newest(group: &Group, folder: &RunFolder) -> Result<Option<(PathBuf, Checkpoint)>> {
    if group.size() == 1 {
        return folder.newest();
    }
    let own = if group.is_first() { folder.newest()? } else { None };
    let name = own.as_ref().map(|(path, _)| path.to_string_lossy().into_owned());
    let name = group.broadcast(name.unwrap_or_default().into_bytes())?;
    if name.is_empty() {
        return Ok(None);
    }
    let path = PathBuf::from(String::from_utf8_lossy(&name).into_owned());
    let read = |path: &PathBuf| {
        std::fs::read(path).map_err(|source| Error::Read { path: path.clone(), source })
    };
    let bytes = own.as_ref().map(|(path, _)| read(path)).transpose()?;
    let bytes = group.broadcast(bytes.unwrap_or_default())?;
    match own {
        Some(own) => Ok(Some(own)),
        None => {
            let failed = |source| Error::Folder { path: std::env::temp_dir(), source };
            let copy = tempfile::NamedTempFile::new().map_err(failed)?;
            std::fs::write(copy.path(), bytes).map_err(failed)?;
            Ok(Some((path, Checkpoint::load(copy.path())?)))
        }
    }
}
