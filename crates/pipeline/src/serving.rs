//! What should serve: `serving/BASE.json` for any server, a link to the adapter, the program that is
//! told, and a question to the endpoint that serves.

use std::cell::Cell;
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
use crate::files::private_dir;
use crate::home::Home;
use crate::program;
use crate::registry::{BaseState, name_of};

const VERSION: u32 = 1;
/// The variable with the server's token, as the crate `serve` reads it.
const TOKEN: &str = "NIGHTSHIFT_SERVE_TOKEN";
/// A server that follows the file looks at it twice a second.
pub(crate) const PAUSE: Duration = Duration::from_millis(500);

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
    /// What a night examines by the server's weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    candidate: Option<Adapter>,
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
    publish_beside(home, base, state, None)
}

/// Says that a server should serve the adapter in `folder`, which is below the home, as `candidate` too.
pub(crate) fn publish_candidate(
    home: &Home,
    base: &BaseModel,
    state: &BaseState,
    (digest, folder): (Digest, &Path),
) -> Result<Contract> {
    let folder = folder.strip_prefix(home.path()).unwrap_or(folder).to_path_buf();
    publish_beside(home, base, state, Some(Adapter { folder, digest }))
}

fn publish_beside(
    home: &Home,
    base: &BaseModel,
    state: &BaseState,
    candidate: Option<Adapter>,
) -> Result<Contract> {
    let folder = home.serving();
    private_dir(&folder)?;
    let absolute = std::path::absolute(&base.path).unwrap_or_else(|_| base.path.clone());
    let base = Base { path: absolute, sha256: base.sha256 };
    write(file_for(&folder, &base.path, base.sha256)?, base, state, candidate)
}

/// The file that says what serves on a base model, which may not be written yet: the one in `folder` (`serving` of a home)
/// that names the model's digest; else `NAME.json`, or `NAME-DIGEST.json` where that one is of another model.
///
/// # Errors
/// If the folder or `NAME.json` cannot be read.
pub fn file_for(folder: &Path, model: &Path, digest: Digest) -> Result<PathBuf> {
    let files = if folder.is_dir() { files::list(folder)? } else { Vec::new() };
    // A damaged file of another model is no reason to refuse this one.
    let is_of_model = |path: &PathBuf| {
        path.extension().is_some_and(|ending| ending == "json")
            && read(path).is_ok_and(|content| content.base.sha256 == digest)
    };
    if let Some(path) = files.into_iter().find(is_of_model) {
        return Ok(path);
    }
    let name = name_of(model);
    let path = folder.join(format!("{name}.json"));
    let is_of_other = path.exists() && read(&path)?.base.path != model;
    Ok(if is_of_other { folder.join(format!("{name}-{}.json", digest.short())) } else { path })
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
                write(path, old.base, state, None)?;
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

fn write(
    path: PathBuf,
    base: Base,
    state: &BaseState,
    candidate: Option<Adapter>,
) -> Result<Contract> {
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
        candidate,
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
    let input = serde_json::to_vec(contract).unwrap_or_default();
    let path = Some(contract.path.as_path());
    run("on_change", &config.on_change, path, &input, config.time_limit.0)
}

/// Runs a program of the key `serving.KEY`, if there is one. Returns how it failed.
fn run(
    key: &str,
    program: &[String],
    argument: Option<&Path>,
    input: &[u8],
    limit: Duration,
) -> Option<String> {
    let [program, arguments @ ..] = program else { return None };
    let mut command = Command::new(program);
    command.args(arguments).args(argument);
    let result = program::run(command, input, limit);
    result.err().map(|error| format!("serving.{key}: {program}: {error}"))
}

/// A server that has yielded its memory to the night. Dropped, it is started again.
#[derive(Debug)]
pub(crate) struct Paused<'a> {
    config: &'a ServingConfig,
    resumed: Cell<bool>,
}

/// Pauses the server, if the configuration says how.
///
/// # Errors
/// [`Error::Server`] if the program fails.
pub(crate) fn pause(config: &ServingConfig) -> Result<Paused<'_>> {
    // Dropped by an error too: half a pause is taken back.
    let paused = Paused { config, resumed: Cell::new(false) };
    match run("pause", &config.pause, None, &[], config.time_limit.0) {
        None => Ok(paused),
        Some(problem) => Err(Error::Server(problem)),
    }
}

impl Paused<'_> {
    /// Starts the server again, once.
    ///
    /// # Errors
    /// [`Error::Server`] if the program fails.
    pub fn resume(&self) -> Result<()> {
        if self.resumed.replace(true) {
            return Ok(());
        }
        match run("resume", &self.config.resume, None, &[], self.config.time_limit.0) {
            None => Ok(()),
            Some(problem) => Err(Error::Server(problem)),
        }
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.resume() {
            tracing::error!("{error}");
        }
    }
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
    let body =
        json!({ "model": "champion", "messages": messages, "max_tokens": 64, "temperature": 0 });
    post(endpoint, "chat/completions", &body, limit)
}

/// The reply to a request at a path below the endpoint, or why there is none.
pub(crate) fn post(
    endpoint: &str,
    path: &str,
    body: &Value,
    limit: Duration,
) -> std::result::Result<Value, String> {
    let agent = ureq::Agent::config_builder()
        .timeout_global(Some(limit))
        .http_status_as_error(false)
        .build()
        .new_agent();
    let mut request = agent.post(format!("{}/{path}", endpoint.trim_end_matches('/')));
    if let Ok(token) = std::env::var(TOKEN) {
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    let mut response = request.send_json(body).map_err(|error| error.to_string())?;
    let status = response.status();
    if status.is_success() {
        return response.body_mut().read_json().map_err(|error| error.to_string());
    }
    let error: Value = response.body_mut().read_json().unwrap_or_default();
    let message = error["error"]["message"].as_str().unwrap_or_default();
    Err(format!("status {}: {message}", status.as_u16()))
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

        // Found by their digests, wherever the models are now, and beside damaged files.
        fs::write(home.serving().join("broken.json"), "{").unwrap();
        let find = |path: &str, digest| file_for(&home.serving(), Path::new(path), digest).unwrap();
        assert_eq!(find("/elsewhere/renamed", b.sha256), second.path);
        assert_eq!(find("/elsewhere/model", changed.content.base.sha256), first.path);
        let third = durable::digest("C");
        assert!(find("/elsewhere/model", third).ends_with(format!("model-{}.json", third.short())));
        assert!(find("/elsewhere/new.gguf", third).ends_with("new.json"));
    }

    /// By hand, by the end of a night that failed, or because it could not be paused.
    #[test]
    fn a_paused_server_is_started_again_once() {
        let dir = tempfile::tempdir().unwrap();
        let told = dir.path().join("told");
        let script = |text: &str| {
            let script = format!("echo {text} >> \"$0\"; test {text} != fail");
            ["sh".into(), "-c".into(), script, told.display().to_string()].to_vec()
        };
        let config = |pause: &str, resume: &str| {
            let (pause, resume) = (script(pause), script(resume));
            ServingConfig { pause, resume, ..ServingConfig::default() }
        };
        let works = config("pause", "resume");
        pause(&works).unwrap().resume().unwrap();
        drop(pause(&works).unwrap());
        let error = pause(&config("fail", "resume")).unwrap_err().to_string();
        assert!(error.starts_with("serving.pause: sh: exit status: 1"), "{error}");
        let broken = config("pause", "fail");
        let error = pause(&broken).unwrap().resume().unwrap_err().to_string();
        assert!(error.starts_with("serving.resume: sh: exit status: 1"), "{error}");
        drop(pause(&ServingConfig::default()).unwrap());
        let lines = fs::read_to_string(&told).unwrap();
        let expected = "pause resume pause resume fail resume pause fail";
        assert_eq!(lines.split_whitespace().collect::<Vec<_>>().join(" "), expected);
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
