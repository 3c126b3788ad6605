//! What should serve: `serving/BASE.json` for any server, a link to the adapter, the program that is
//! told, and a question to the endpoint that serves.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use durable::Digest;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::base_model::BaseModel;
use crate::config::ServingConfig;
use crate::error::{Error, Result, io_error};
use crate::files;
use crate::home::{Home, private_dir};
use crate::program;
use crate::registry::{BaseState, name_of};

const VERSION: u32 = 1;
/// The variable with the server's token, as the crate `serve` reads it.
const TOKEN: &str = "NIGHTSHIFT_SERVE_TOKEN";
/// A server that follows the file looks at it twice a second.
const PAUSE: Duration = Duration::from_millis(500);

/// What should serve.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Contract {
    /// The file that says so.
    #[serde(skip)]
    pub path: PathBuf,
    #[serde(flatten)]
    content: Content,
}

/// The content of `serving/BASE.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Content {
    version: u32,
    base: Base,
    /// None where the base model serves.
    adapter: Option<Adapter>,
    /// Grows with every change of champion.
    generation: u64,
    since: Option<Timestamp>,
    /// Why.
    verdict: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Base {
    path: PathBuf,
    sha256: Digest,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Adapter {
    /// Below the home, so that a copied home works elsewhere.
    folder: PathBuf,
    digest: Digest,
}

/// Writes what the registry's state says should serve on this base model. Repeating it changes nothing.
pub(crate) fn publish(home: &Home, base: &BaseModel, state: &BaseState) -> Result<Contract> {
    let folder = home.serving();
    private_dir(&folder)?;
    let absolute = std::path::absolute(&base.path).unwrap_or_else(|_| base.path.clone());
    let base = Base { path: absolute, sha256: base.sha256 };
    write(file_of(&folder, &base)?, base, state)
}

/// The file of a base model: `NAME.json`, unless that is of another one of the same name in another place.
fn file_of(folder: &Path, base: &Base) -> Result<PathBuf> {
    let name = name_of(&base.path);
    let path = folder.join(format!("{name}.json"));
    if path.exists() {
        let other = read(&path)?.base;
        if other.sha256 != base.sha256 && other.path != base.path {
            return Ok(folder.join(format!("{name}-{}.json", base.sha256.short())));
        }
    }
    Ok(path)
}

/// Brings the file of a base model up to date after a change by hand. Before the first promotion there is none; it is written
/// if the model is where the state says.
pub(crate) fn update(home: &Home, base: Digest, state: &BaseState) -> Result<()> {
    let folder = home.serving();
    let files = if folder.is_dir() { files::list(&folder)? } else { Vec::new() };
    let mut is_there = false;
    for path in files {
        if path.extension().is_some_and(|ending| ending == "json") {
            let old = read(&path)?;
            if old.base.sha256 == base {
                write(path, old.base, state)?;
                is_there = true;
            }
        }
    }
    if !is_there && state.champion.is_some() && state.path.is_absolute() && state.path.exists() {
        publish(home, &BaseModel::of_digest(base, state.path.clone()), state)?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<Content> {
    let bytes = fs::read(path).map_err(io_error(path, "read"))?;
    serde_json::from_slice(&bytes).map_err(|error| Error::Record {
        path: path.to_path_buf(),
        line: None,
        expected: "what should serve (delete the file; the next promotion writes it)",
        found: error.to_string(),
    })
}

fn write(path: PathBuf, base: Base, state: &BaseState) -> Result<Contract> {
    let last = state.history.last();
    let adapter = state
        .champion
        .map(|digest| Adapter { folder: Path::new("adapters").join(digest.to_string()), digest });
    let content = Content {
        version: VERSION,
        base,
        adapter,
        generation: state.generation,
        since: last.map(|change| change.at),
        verdict: last.map(|change| change.reason.clone()).unwrap_or_default(),
    };
    // The link first: who follows the file finds the link done.
    link(&path, content.adapter.as_ref())?;
    durable::write_json(&path, &content)?;
    Ok(Contract { path, content })
}

/// Replaces the link `champion-BASE` beside the file, in one step; without an adapter there is none.
fn link(path: &Path, adapter: Option<&Adapter>) -> Result<()> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let place = path.with_file_name(format!("champion-{name}"));
    let Some(adapter) = adapter else {
        return match fs::remove_file(&place) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(io_error(&place, "remove")(error))
            }
            _ => Ok(()),
        };
    };
    let draft = path.with_file_name(format!(".tmp-champion-{name}"));
    // Left by a process that was killed here.
    let _ = fs::remove_file(&draft);
    std::os::unix::fs::symlink(Path::new("..").join(&adapter.folder), &draft)
        .map_err(io_error(&draft, "create"))?;
    fs::rename(&draft, &place).map_err(io_error(&place, "replace"))
}

/// Runs the program that is told of a change. Returns how it failed.
pub(crate) fn tell(config: &ServingConfig, contract: &Contract) -> Option<String> {
    let [program, arguments @ ..] = config.on_change.as_slice() else { return None };
    let mut command = Command::new(program);
    command.args(arguments).arg(&contract.path);
    let input = serde_json::to_vec(contract).unwrap_or_default();
    let result = program::run(command, &input, config.time_limit.0);
    result.err().map(|error| format!("serving.on_change: {program}: {error}"))
}

/// Asks the endpoint that serves until the champion answers. Returns why it does not.
///
/// A server that has the generation in its `system_fingerprint`, as the crate `serve` has, must be at
/// that of the contract; of others an answer is enough.
pub(crate) fn ask(config: &ServingConfig, contract: &Contract, messages: &Value) -> Option<String> {
    let endpoint = config.endpoint.as_deref()?;
    let begun = Instant::now();
    loop {
        let left = config.time_limit.0.saturating_sub(begun.elapsed());
        let found = match answer(endpoint, messages, left.max(Duration::from_secs(1))) {
            // No problem is a pass.
            Ok(answer) => problem(&answer, contract.content.generation)?,
            Err(error) => error,
        };
        if left <= PAUSE {
            return Some(format!(
                "serving.endpoint: {endpoint}: expected an answer of the new champion, found {found}"
            ));
        }
        std::thread::sleep(PAUSE);
    }
}

/// What is wrong with an answer.
fn problem(answer: &Value, generation: u64) -> Option<String> {
    let message = &answer["choices"][0]["message"];
    let has_text = message["content"].as_str().is_some_and(|text| !text.trim().is_empty());
    if !has_text && message["tool_calls"].as_array().is_none_or(Vec::is_empty) {
        return Some("an empty answer".to_owned());
    }
    let fingerprint = answer["system_fingerprint"].as_str().unwrap_or_default();
    let parts: Vec<&str> = fingerprint.split('_').collect();
    match &parts[..] {
        ["fp", _, _, found] if found.parse() != Ok(generation) => {
            Some(format!("one of generation {found} instead of {generation}"))
        }
        _ => None,
    }
}

fn answer(endpoint: &str, messages: &Value, limit: Duration) -> std::result::Result<Value, String> {
    let agent = ureq::Agent::config_builder().timeout_global(Some(limit)).build().new_agent();
    let mut request = agent.post(format!("{}/chat/completions", endpoint.trim_end_matches('/')));
    if let Ok(token) = std::env::var(TOKEN) {
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    let body =
        json!({ "model": "champion", "messages": messages, "max_tokens": 64, "temperature": 0 });
    let mut response = request.send_json(&body).map_err(|error| error.to_string())?;
    response.body_mut().read_json().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two base models of one name, and one whose files were changed.
    #[test]
    fn every_base_model_has_a_file_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let base = |folder: &str, content: &str| {
            let path = dir.path().join(folder).join("model");
            BaseModel::of_digest(durable::digest(content), path)
        };
        let state = |adapter: &str, generation| {
            let champion = Some(durable::digest(adapter));
            BaseState { champion, generation, ..BaseState::default() }
        };
        let (a, b) = (base("a", "A"), base("b", "B"));
        let first = publish(&home, &a, &state("x", 3)).unwrap();
        let second = publish(&home, &b, &state("y", 5)).unwrap();
        assert!(first.path.ends_with("model.json") && first.path != second.path);
        assert_eq!(publish(&home, &b, &state("y", 5)).unwrap(), second);

        update(&home, b.sha256, &state("z", 6)).unwrap();
        assert_eq!(read(&first.path).unwrap(), first.content);
        let adapter = read(&second.path).unwrap().adapter.unwrap();
        assert_eq!(adapter.digest, durable::digest("z"));

        let changed =
            publish(&home, &base("a", "A with another tokenizer"), &state("w", 1)).unwrap();
        assert_eq!(changed.path, first.path);
    }

    #[test]
    fn answers_of_the_new_champion() {
        let answer = |content: &str, fingerprint: &str| {
            let message = json!({ "content": content });
            json!({ "choices": [{ "message": message }], "system_fingerprint": fingerprint })
        };
        assert_eq!(problem(&answer("Yes.", "fp_a_b_7"), 7), None);
        assert_eq!(problem(&answer("Yes.", "fp_44709d6fcb"), 7), None, "another server");
        assert_eq!(problem(&answer("Yes.", ""), 7), None);
        assert!(problem(&answer("Yes.", "fp_a_b_6"), 7).unwrap().contains("generation 6"));
        assert_eq!(problem(&answer(" \n", "fp_a_b_7"), 7).unwrap(), "an empty answer");
        assert_eq!(problem(&json!({ "error": {} }), 7).unwrap(), "an empty answer");
        let call = json!({ "choices": [{ "message": { "content": null, "tool_calls": [{}] } }] });
        assert_eq!(problem(&call, 7), None);
    }
}
