//! Which files of a model's folder hold its weights, where no index says so.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Whether a file was put into the folder by an operating system: hidden files, among them `._NAME`
/// (macOS, on disks of other systems) and `.DS_Store`, and the caches of Windows.
pub(super) fn is_stray(name: &str) -> bool {
    const WINDOWS: [&str; 3] = ["thumbs.db", "ehthumbs.db", "desktop.ini"];
    name.starts_with('.') || WINDOWS.contains(&name.to_ascii_lowercase().as_str())
}

/// The weight files in `folder`, sorted by name: `model*.safetensors` as in mlx-lm, or if there are none,
/// all other `*.safetensors`. Files that are skipped are named in a warning.
///
/// # Errors
/// [`Error::NotAModel`] without any; [`Error::MissingPart`] if the names say that one is missing.
pub(super) fn weight_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = |source| Error::Read { path: folder.to_path_buf(), source };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(read)? {
        let entry = entry.map_err(read)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".safetensors") && !entry.path().is_dir() {
            names.push(name);
        }
    }
    let (used, skipped) = choose(names);
    for name in skipped {
        let path = folder.join(name);
        tracing::warn!("{}: skipped, not a weight file of the model", path.display());
    }
    if used.is_empty() {
        return Err(Error::NotAModel { path: folder.to_path_buf() });
    }
    check_parts(folder, &used)?;
    Ok(used.into_iter().map(|name| folder.join(name)).collect())
}

/// The names to use and those to skip, each sorted.
fn choose(mut names: Vec<String>) -> (Vec<String>, Vec<String>) {
    names.sort();
    let (mut others, visible): (Vec<_>, Vec<_>) =
        names.into_iter().partition(|name| is_stray(name));
    let (named, rest): (Vec<_>, Vec<_>) =
        visible.into_iter().partition(|name| name.starts_with("model"));
    if named.is_empty() {
        return (rest, others);
    }
    others.extend(rest);
    (named, others)
}

/// Checks that of files named `STEM-00001-of-00003.safetensors` all are there.
fn check_parts(folder: &Path, names: &[String]) -> Result<()> {
    let present: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    for (stem, count) in names.iter().filter_map(|name| part_of(name)).collect::<BTreeSet<_>>() {
        let mut expected =
            (1..=count).map(|part| format!("{stem}-{part:05}-of-{count:05}.safetensors"));
        if let Some(missing) = expected.find(|name| !present.contains(name.as_str())) {
            return Err(Error::MissingPart { path: folder.join(missing), count });
        }
    }
    Ok(())
}

/// The stem of a part's name and how many parts there are.
fn part_of(name: &str) -> Option<(&str, u32)> {
    let (rest, count) = name.strip_suffix(".safetensors")?.rsplit_once("-of-")?;
    let (stem, part) = rest.rsplit_once('-')?;
    let five = |digits: &str| {
        let all = digits.len() == 5 && digits.bytes().all(|byte| byte.is_ascii_digit());
        all.then(|| digits.parse::<u32>().ok()).flatten()
    };
    five(part)?;
    Some((stem, five(count)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_told_from_other_files_by_name() {
        for (files, used) in [
            ("model.safetensors", "model.safetensors"),
            ("._model.safetensors model.safetensors", "model.safetensors"),
            (
                "adapters.safetensors consolidated.safetensors model.safetensors",
                "model.safetensors",
            ),
            (
                "model-00001-of-00002.safetensors model-00002-of-00002.safetensors",
                "model-00001-of-00002.safetensors model-00002-of-00002.safetensors",
            ),
            ("model.safetensors model_old.safetensors", "model.safetensors model_old.safetensors"),
            (
                "weights.00.safetensors weights.01.safetensors .x.safetensors",
                "weights.00.safetensors weights.01.safetensors",
            ),
            (".hidden.safetensors", ""),
        ] {
            let all: Vec<String> = files.split(' ').map(str::to_owned).collect();
            let (found, skipped) = choose(all.clone());
            assert_eq!(found.join(" "), used, "{files}");
            assert_eq!(found.len() + skipped.len(), all.len(), "each is used or named: {files}");
        }
    }

    #[test]
    fn a_missing_part_is_named() {
        let check = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            check_parts(Path::new("m"), &names).map_err(|error| error.to_string())
        };
        let [first, second] =
            ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
        assert_eq!(check(&[first, second]), Ok(()));
        for (there, missing) in [(first, second), (second, first)] {
            let error = check(&[there, "model.safetensors"]).unwrap_err();
            assert!(error.starts_with(Path::new("m").join(missing).to_str().unwrap()), "{error}");
        }
        assert_eq!(check(&["model-1-of-2.safetensors", "model.safetensors"]), Ok(()));
    }
}
