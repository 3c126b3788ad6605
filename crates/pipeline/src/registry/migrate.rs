//! Reads a registry of version 1, which had one champion for all base models.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use durable::Digest;
use eval::BestScores;
use serde::Deserialize;
use serde_json::Value;

use super::state::{Action, Best, Change, ExamId, State, name_of};
use crate::error::Result;
use crate::files;
use crate::home::Home;
use crate::nights;

/// The content of a file of version 1.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Version1 {
    #[serde(rename = "version")]
    _version: u32,
    champion: Option<Digest>,
    candidate: Option<Digest>,
    previous: Option<Digest>,
    #[serde(default)]
    pinned: Option<String>,
    history: Vec<Change>,
    #[serde(default)]
    best: Vec<BestOfBase>,
}

#[derive(Deserialize)]
struct BestOfBase {
    exam: ExamOfBase,
    scores: BestScores,
}

#[derive(Deserialize)]
struct ExamOfBase {
    base: Digest,
    #[serde(flatten)]
    exam: ExamId,
}

/// What is known about the base models of a home.
struct Known {
    /// Base models and their paths, or only their names.
    bases: BTreeMap<Digest, PathBuf>,
    /// The base model of each adapter.
    adapters: BTreeMap<Digest, Digest>,
}

impl Version1 {
    /// The same by base model. Changes of adapters of which nothing tells the base model are left out, and adapters among
    /// the aliases are [unplaced](State::unplaced).
    pub fn by_base(self, home: &Home) -> Result<State> {
        let known = self.known(home)?;
        let place = |adapter: Option<Digest>| known.adapters.get(&adapter?).copied();
        let mut state = State::default();
        for (base, path) in &known.bases {
            let mut of_base = state.of(*base, path);
            of_base.pinned.clone_from(&self.pinned);
            of_base.adapters =
                known.adapters.iter().filter(|(_, of)| *of == base).map(|(it, _)| *it).collect();
            state.bases.insert(*base, of_base);
        }
        let changes = self.history.len() as u64;
        for change in self.history {
            let (to, from) = (place(change.champion), place(change.previous));
            let base = match change.action {
                Action::Promote => to,
                Action::Rollback | Action::Withdraw => from.or(to),
            };
            let Some(of_base) = base.and_then(|base| state.bases.get_mut(&base)) else { continue };
            // A rollback to the champion of another base model left this one without.
            let champion = change.champion.filter(|_| to == base);
            of_base.push(Change { champion, previous: of_base.champion, ..change });
        }
        for best in self.best {
            if let Some(of_base) = state.bases.get_mut(&best.exam.base) {
                of_base.best.push(Best { exam: best.exam.exam, scores: best.scores });
            }
        }
        for of_base in state.bases.values_mut() {
            // Servers have seen this many.
            of_base.generation = changes;
        }
        if let Some(of_base) = place(self.champion).and_then(|base| state.bases.get_mut(&base)) {
            // The alias counts, should the history be shorter.
            of_base.champion = self.champion;
            of_base.previous = of_base.good().first().copied();
        }
        if let Some(of_base) = place(self.candidate).and_then(|base| state.bases.get_mut(&base)) {
            of_base.candidate = self.candidate;
        }
        let aliases = [self.champion, self.candidate, self.previous].into_iter().flatten();
        state.unplaced = aliases.filter(|it| !known.adapters.contains_key(it)).collect();
        state.pinned = self.pinned.filter(|_| known.bases.is_empty());
        Ok(state)
    }

    /// What nights, configurations of adapters and best scores tell, in this order.
    fn known(&self, home: &Home) -> Result<Known> {
        let mut bases: BTreeMap<Digest, PathBuf> = BTreeMap::new();
        let mut adapters = BTreeMap::new();
        for run in exam_manifests(home)? {
            let subject = &run["subject"];
            let digest = |key: &str| subject[key].as_str()?.parse::<Digest>().ok();
            let Some(base) = digest("model_digest") else { continue };
            bases.insert(base, subject["model"].as_str().unwrap_or_default().into());
            if let Some(adapter) = digest("adapter_digest") {
                adapters.insert(adapter, base);
            }
        }
        for best in &self.best {
            bases.entry(best.exam.base).or_default();
        }
        for (base, path) in served(home)? {
            bases.insert(base, path);
        }
        let sole = match bases.keys().collect::<Vec<_>>()[..] {
            [base] => Some(*base),
            _ => None,
        };
        for adapter in self.adapters() {
            let named = named_model(&home.adapters().join(adapter.to_string()));
            let by_name = named.and_then(|name| {
                let mut same = bases.iter().filter(|(_, path)| name_of(path) == name);
                same.next().map(|(base, _)| *base).filter(|_| same.next().is_none())
            });
            if let Some(base) = by_name.or(sole) {
                adapters.entry(adapter).or_insert(base);
            }
        }
        Ok(Known { bases, adapters })
    }

    /// Every adapter that the file names.
    fn adapters(&self) -> BTreeSet<Digest> {
        let changes = self.history.iter().flat_map(|change| [change.champion, change.previous]);
        let aliases = [self.champion, self.candidate, self.previous];
        aliases.into_iter().chain(changes).flatten().collect()
    }
}

/// The manifests of the exams of all nights.
fn exam_manifests(home: &Home) -> Result<Vec<Value>> {
    let mut found = Vec::new();
    for night in nights::list(home)? {
        for run in ["base", "champion", "candidate"] {
            let path = night.dir(home).join("exam").join(run).join("manifest.json");
            found.extend(read_json(&path)?);
        }
    }
    Ok(found)
}

/// The base models that `serving/BASE.json` names.
fn served(home: &Home) -> Result<Vec<(Digest, PathBuf)>> {
    let folder = home.serving();
    let files = if folder.is_dir() { files::list(&folder)? } else { Vec::new() };
    let mut found = Vec::new();
    for path in files.iter().filter(|path| path.extension().is_some_and(|it| it == "json")) {
        let Some(content) = read_json(path)? else { continue };
        let base = &content["base"];
        let digest = base["sha256"].as_str().and_then(|text| text.parse().ok());
        found.extend(digest.zip(base["path"].as_str().map(PathBuf::from)));
    }
    Ok(found)
}

/// The name of the model in an adapter's configuration, if it has one. Nights leave it out.
fn named_model(adapter: &Path) -> Option<String> {
    let config = read_json(&adapter.join("adapter_config.json")).ok()??;
    let named = ["model", "base_model_name_or_path"].map(|key| config[key].as_str());
    named.into_iter().flatten().next().map(|path| name_of(Path::new(path)))
}

/// The content of a JSON file; `None` if it does not exist or is not JSON.
fn read_json(path: &Path) -> Result<Option<Value>> {
    let bytes = files::read_if_there(path)?;
    Ok(bytes.and_then(|bytes| {
        let parsed = serde_json::from_slice(&bytes);
        parsed.inspect_err(|error| tracing::warn!("{}: {error}", path.display())).ok()
    }))
}
