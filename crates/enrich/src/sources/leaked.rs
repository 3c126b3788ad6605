//! Counts refusal patterns in a collection of leaked vendors' system prompts.
//!
//! The files are untrusted text with instructions to models. Only counts are returned, so that no sentence of theirs can
//! get into a row, a report or a prompt.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::grams::words;
use crate::{Error, Result};

/// Files above this size are not system prompts.
const MAX_BYTES: u64 = 4 << 20;

/// Phrases by which prompts tell a model to decline, keep its persona, or keep its instructions secret.
const PATTERNS: [(&str, &[&str]); 4] = [
    ("declines", &["decline to", "refuse to", "cannot help", "can t help", "unable to assist"]),
    ("keeps_persona", &["you are", "stay in character", "your name is", "remain in role"]),
    (
        "keeps_secret",
        &["do not reveal", "never reveal", "do not disclose", "never mention", "confidential"],
    ),
    ("offers_instead", &["instead offer", "offer to", "suggest an alternative", "redirect"]),
];

/// The counts of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LeakedPrompt {
    /// The folder under the collection's root.
    pub vendor: String,
    /// The file's name without its date and extension.
    pub model: String,
    /// The date at the end of the file's name.
    pub date: Option<String>,
    /// The file's size in bytes.
    pub bytes: u64,
    /// The number of words.
    pub words: usize,
    /// How often each pattern of refusal occurs.
    pub patterns: Vec<(&'static str, usize)>,
}

/// Walks a collection of files `VENDOR/Model_Date.ext` with any extension or none. Hidden folders, files at the root
/// (licence, readme) and links are skipped; the result is in the order of the paths.
pub fn leaked_prompts(root: impl AsRef<Path>) -> Result<Vec<LeakedPrompt>> {
    let root = root.as_ref();
    let mut prompts = Vec::new();
    for folder in entries(root)? {
        let vendor = name(&folder);
        if folder.is_dir() && !folder.is_symlink() && !vendor.starts_with('.') {
            walk(&folder, &vendor, &mut prompts)?;
        }
    }
    Ok(prompts)
}

fn walk(folder: &Path, vendor: &str, prompts: &mut Vec<LeakedPrompt>) -> Result<()> {
    for path in entries(folder)? {
        if path.is_symlink() || name(&path).starts_with('.') {
            continue;
        }
        if path.is_dir() {
            walk(&path, vendor, prompts)?;
        } else {
            prompts.extend(count(&path, vendor)?);
        }
    }
    Ok(())
}

fn count(path: &Path, vendor: &str) -> Result<Option<LeakedPrompt>> {
    let at = |source| Error::Read { path: path.to_path_buf(), source };
    let bytes = std::fs::metadata(path).map_err(at)?.len();
    if bytes > MAX_BYTES {
        tracing::warn!(path = %path.display(), bytes, "too large for a system prompt");
        return Ok(None);
    }
    let content = std::fs::read(path).map_err(at)?;
    let words = words(&String::from_utf8_lossy(&content));
    let flat = format!(" {} ", words.join(" "));
    let occurrences = |phrases: &[&str]| {
        phrases.iter().map(|phrase| flat.matches(&format!(" {phrase} ")).count()).sum()
    };
    let patterns = PATTERNS.map(|(name, phrases)| (name, occurrences(phrases))).to_vec();
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let dated =
        |part: &&str| part.contains(|c: char| c.is_ascii_digit()) && part.contains(['-', '/']);
    let date = stem.rsplit('_').next().filter(dated).map(str::to_owned);
    let model = match &date {
        Some(date) => stem.trim_end_matches(date.as_str()).trim_end_matches('_').to_owned(),
        None => stem,
    };
    Ok(Some(LeakedPrompt {
        vendor: vendor.to_owned(),
        model,
        date,
        bytes,
        words: words.len(),
        patterns,
    }))
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let at = |source| Error::Read { path: folder.to_path_buf(), source };
    let entries = std::fs::read_dir(folder).map_err(at)?;
    let mut paths =
        entries.map(|entry| Ok(entry.map_err(at)?.path())).collect::<Result<Vec<PathBuf>>>()?;
    paths.sort();
    Ok(paths)
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
