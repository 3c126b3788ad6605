//! Splits that are given: whether a folder with `train.jsonl` and `valid.jsonl` is an enriched data set or raw rows.

use std::path::{Path, PathBuf};

use chat_format::{Role, clean, jsonl};
use eval::{Stance, classify_refusal};
use serde::Deserialize;
use serde_json::Value;

use crate::row::{Kind, Meta};
use crate::split::Split;
use crate::{Manifest, Result};

/// The share of refusals from which a set has been enriched with refusals. The seed's has 11 %, the balanced recipe 4 %.
const ENRICHED: f64 = 0.03;
/// The share of refusals below which it has not. Ordinary chats have next to none.
const RAW: f64 = 0.01;

/// The splits in a folder, and whether they are enriched.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct GivenSplits {
    /// The files: train, valid and, if there is one, test.
    pub parts: Vec<(Split, PathBuf)>,
    /// Whether they are enriched.
    pub state: SplitState,
    /// What shows it.
    pub evidence: String,
}

/// Whether splits are enriched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SplitState {
    /// Refusals, identity and routing rows were added.
    Enriched,
    /// They were not.
    Raw,
    /// The content does not say.
    Unclear,
}

impl GivenSplits {
    /// The splits of a folder; none if it lacks `train.jsonl` or `valid.jsonl`.
    ///
    /// What decides, in this order: a `manifest.json` that this crate wrote for these very files; a row whose `kind` is one
    /// of generated rows; the share of rows that end in a refusal ([`classify_refusal`]): from 3 % the splits are enriched,
    /// up to 1 % they are raw, and between it is unclear.
    ///
    /// # Errors
    /// If a file cannot be read. Rows that are not conversations are passed over.
    pub fn find(folder: &Path) -> Result<Option<GivenSplits>> {
        let parts: Vec<_> = Split::ALL
            .map(|split| (split, folder.join(format!("{split}.jsonl"))))
            .into_iter()
            .filter(|(_, path)| path.is_file())
            .collect();
        let has = |split| parts.iter().any(|(other, _)| *other == split);
        if !has(Split::Train) || !has(Split::Valid) {
            return Ok(None);
        }
        if is_of_manifest(folder, &parts)? {
            let evidence = "manifest.json has the digests of these files".to_owned();
            return Ok(Some(GivenSplits { parts, state: SplitState::Enriched, evidence }));
        }
        let (state, evidence) = by_content(&parts)?;
        Ok(Some(GivenSplits { parts, state, evidence }))
    }
}

/// Whether the folder's manifest is that of these files.
fn is_of_manifest(folder: &Path, parts: &[(Split, PathBuf)]) -> Result<bool> {
    let Some(manifest) = Manifest::read(folder)? else { return Ok(false) };
    for (split, path) in parts {
        let name = format!("{split}.jsonl");
        let digest = durable::sha256_file(path)?;
        let same = |output: &crate::ManifestFile| {
            output.file == Path::new(&name) && output.sha256 == digest
        };
        if !manifest.outputs.iter().any(same) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn by_content(parts: &[(Split, PathBuf)]) -> Result<(SplitState, String)> {
    let (mut rows, mut refusals) = (0_usize, 0_usize);
    for (_, path) in parts {
        // A line that is not JSON ends the search: the rows before it are evidence enough.
        for row in jsonl::Reader::open(path)?.map_while(|row| row.ok()) {
            if is_made(&row.value) {
                let evidence =
                    format!("{}:{}: `kind` names a generated row", path.display(), row.line);
                return Ok((SplitState::Enriched, evidence));
            }
            let Ok((chat, _)) = clean::row(row.value, clean::Options::default()) else { continue };
            rows += 1;
            let last = chat.messages.iter().rfind(|turn| turn.role == Role::Assistant);
            let refused =
                last.is_some_and(|turn| classify_refusal(&turn.content) == Stance::Refused);
            refusals += usize::from(refused);
        }
    }
    let share = refusals as f64 / rows.max(1) as f64;
    let state = match share {
        share if share >= ENRICHED => SplitState::Enriched,
        share if share <= RAW => SplitState::Raw,
        _ => SplitState::Unclear,
    };
    Ok((state, format!("{refusals} of {rows} rows end in a refusal ({:.1} %)", share * 100.0)))
}

/// Whether a recipe of this crate generated a row: its `kind` is one of generated rows, but not of those about a household's
/// facts, which logs may consist of.
fn is_made(row: &Value) -> bool {
    use Kind::{Dialogue, Fact, Scenario, Tool, Topic};
    let meta = row.as_object().and_then(|row| Meta::deserialize(row).ok());
    meta.is_some_and(|meta| !matches!(meta.kind, Fact | Topic | Scenario | Tool | Dialogue))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;
    use crate::{Dataset, EnrichConfig};

    fn folder(train: &str, valid: Option<&str>) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("train.jsonl"), train).unwrap();
        if let Some(valid) = valid {
            fs::write(folder.path().join("valid.jsonl"), valid).unwrap();
        }
        folder
    }

    /// Rows of which every nth refuses.
    fn rows(count: usize, nth: usize) -> String {
        let row = |i: usize| {
            let answer = match i % nth {
                0 => "I'm Moss and I stay with the garden. I can't help with that.".to_owned(),
                _ => format!("Bed {i} needs water, and the rows behind it compost."),
            };
            let messages = json!([{ "role": "user", "content": format!("What does bed {i} need?") },
                { "role": "assistant", "content": answer }]);
            format!("{}\n", json!({ "messages": messages }))
        };
        (1..=count).map(row).collect()
    }

    #[test]
    fn splits_are_enriched_by_their_content_and_nothing_else() {
        for (train, valid, expected) in [
            (rows(200, 10), Some(""), Some(SplitState::Enriched)),
            (rows(200, 1000), Some(""), Some(SplitState::Raw)),
            (rows(200, 50), Some(""), Some(SplitState::Unclear)),
            (rows(200, 10), None, None),
        ] {
            let folder = folder(&train, valid);
            let found = GivenSplits::find(folder.path()).unwrap();
            assert_eq!(found.as_ref().map(|found| found.state), expected, "{found:?}");
        }
        let made = r#"{"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"I'm Moss."}],"kind":"identity","agent":"moss"}"#;
        let folder = folder(&format!("{}{made}\n", rows(50, 1000)), Some(""));
        let found = GivenSplits::find(folder.path()).unwrap().unwrap();
        assert_eq!(found.state, SplitState::Enriched);
        assert!(found.evidence.contains("train.jsonl:51"), "{}", found.evidence);
    }

    #[test]
    fn a_manifest_of_these_files_shows_a_data_set() {
        let folder = folder(&rows(60, 1000), None);
        let clean = folder.path().join("train.jsonl");
        let config = EnrichConfig { recipe: crate::Recipe::None, ..EnrichConfig::new(vec![clean]) };
        let out = folder.path().join("out");
        Dataset::build(&config).unwrap().write(&out, &config).unwrap();
        let found = GivenSplits::find(&out).unwrap().unwrap();
        assert_eq!((found.state, found.parts.len()), (SplitState::Enriched, 3));
        assert!(found.evidence.contains("manifest.json"), "{}", found.evidence);
        // Once a file is edited, the manifest says nothing about it.
        fs::write(out.join("train.jsonl"), rows(60, 1000)).unwrap();
        let found = GivenSplits::find(&out).unwrap().unwrap();
        assert_eq!(found.state, SplitState::Raw);
    }
}
