//! The hub's protocol, spoken by a server in this process: whole downloads, broken ones, lies.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What a server has, and what it was asked.
#[derive(Clone, Default)]
struct Hub {
    files: Arc<BTreeMap<&'static str, Vec<u8>>>,
    /// Drops the connection after so many bytes of a body.
    breaks_after: Arc<Mutex<Option<usize>>>,
    /// Sends other bytes than it has on record.
    lies: bool,
    /// Answers every request with this status.
    status: Option<u16>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Hub {
    fn new() -> Self {
        let weights: Vec<u8> = (0..200_000u32).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect();
        let files = [
            ("config.json", b"{}".to_vec()),
            ("tokenizer.json", b"{\"tokens\":[]}".to_vec()),
            ("model.safetensors", weights),
            ("README.md", b"not wanted".to_vec()),
            ("../evil.json", b"not wanted either".to_vec()),
        ];
        Self { files: Arc::new(files.into_iter().collect()), ..Self::default() }
    }

    /// Serves for as long as the test process lives; the address.
    fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let hub = self.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let hub = hub.clone();
                std::thread::spawn(move || hub.answer(stream.unwrap()));
            }
        });
        address
    }

    fn answer(&self, mut stream: TcpStream) {
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let request = lines.next().unwrap().unwrap();
        let headers: Vec<_> = lines.map_while(Result::ok).take_while(|l| !l.is_empty()).collect();
        let header = |name: &str| {
            let found = headers.iter().find_map(|line| {
                line.split_once(": ").filter(|(key, _)| key.eq_ignore_ascii_case(name))
            });
            found.map(|(_, value)| value.to_owned())
        };
        let path = request.split(' ').nth(1).unwrap();
        self.requests.lock().unwrap().push(format!(
            "{path} {} {}",
            header("range").unwrap_or_default(),
            header("authorization").unwrap_or_default()
        ));
        if let Some(status) = self.status {
            write!(
                stream,
                "HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
            .unwrap();
            return;
        }
        let revision = path.strip_prefix("/api/models/house/tiny/revision/");
        if revision.is_some_and(|revision| ["main", COMMIT].contains(&revision)) {
            let files: Vec<_> =
                self.files.keys().map(|name| serde_json::json!({ "rfilename": name })).collect();
            let body = serde_json::json!({ "sha": COMMIT, "siblings": files }).to_string();
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            )
            .unwrap();
            return;
        }
        let name = path.strip_prefix(&format!("/house/tiny/resolve/{COMMIT}/"));
        let Some((name, bytes)) = name.and_then(|name| self.files.get_key_value(name)) else {
            write!(
                stream,
                "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
            .unwrap();
            return;
        };
        let range = header("range").unwrap();
        let (from, to) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
        let from: usize = from.parse().unwrap();
        let to = to.parse().map_or(bytes.len(), |last: usize| last + 1);
        let mut body = bytes[from..to].to_vec();
        // Large files are called by their SHA-256, small ones by something else.
        let etag = match *name {
            "model.safetensors" => durable::digest(bytes).to_string(),
            _ => format!("{:040x}", bytes.len()),
        };
        write!(
            stream,
            "HTTP/1.1 206 Partial Content\r\nETag: \"{etag}\"\r\nX-Repo-Commit: {COMMIT}\r\n\
             Content-Range: bytes {from}-{}/{}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            to - 1,
            bytes.len(),
            body.len()
        )
        .unwrap();
        if self.lies && body.len() > 1 {
            body[1] ^= 1;
        }
        if let Some(after) = self.breaks_after.lock().unwrap().filter(|after| *after < body.len()) {
            body.truncate(after);
        }
        let _ = stream.write_all(&body);
    }

    fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}

/// Fetches in another process, since the settings are environment variables: this test binary, asked for
/// the test `child`.
fn fetch(endpoint: &str, home: &Path, what: &str) -> Output {
    fetch_with(&[("HF_ENDPOINT", endpoint), ("HF_HOME", home.to_str().unwrap())], what)
}

/// The same with any variables. `what` is the network, and after a space the revision or `file NAME`.
fn fetch_with(variables: &[(&str, &str)], what: &str) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture"]);
    for name in ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"]
    {
        command.env_remove(name);
    }
    let variables = variables.iter().copied();
    command.env("FETCH_HUB", what).env("HF_TOKEN", "hf_secret").envs(variables).output().unwrap()
}

/// The process that [`fetch_with`] starts. In any other it has nothing to do.
#[test]
fn child() {
    if let Ok(what) = std::env::var("FETCH_HUB") {
        fetch_here(&what);
    }
}

/// Fetches in this process and prints the result.
fn fetch_here(what: &str) {
    let (network, what) = what.split_once(' ').unwrap_or((what, "main"));
    let network = match network {
        "offline" => fetch::Network::Offline,
        "environment" => fetch::Network::from_env(),
        _ => fetch::Network::Allowed,
    };
    let file = what.strip_prefix("file ");
    let revision = if file.is_some() { "main" } else { what };
    let model = fetch::HubModel::new("house/tiny", revision, network).unwrap();
    let mut last = String::new();
    let mut tell = |name: &str, now: fetch::Progress| {
        last = format!("{name} {}/{}", now.bytes, now.total);
    };
    let folder = match file {
        Some(file) => model.file(file, &mut tell),
        None => model.folder(&mut tell),
    };
    match folder {
        Ok(folder) => println!("\nfolder={}\nlast={last}", folder.display()),
        Err(error) => println!("\nerror={error}"),
    }
}

fn said(output: &Output, key: &str) -> Option<String> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().find_map(|line| Some(line.strip_prefix(&format!("{key}="))?.to_owned()))
}

#[test]
fn a_model_arrives_whole_and_is_there_without_a_network() {
    let hub = Hub::new();
    let (address, home) = (hub.serve(), tempfile::tempdir().unwrap());
    let before = said(&fetch(&address, home.path(), "offline"), "error").unwrap();
    assert!(
        before.contains("house/tiny@main is not complete in")
            && before.contains("config.json missing"),
        "{before}"
    );
    assert!(hub.requests().is_empty(), "offline asks nobody");

    let first = fetch(&address, home.path(), "online");
    let folder = said(&first, "folder").unwrap_or_else(|| panic!("{first:?}"));
    for (name, bytes) in hub.files.iter() {
        let found = std::fs::read(Path::new(&folder).join(name)).ok();
        let wanted = !name.contains("evil") && !name.ends_with(".md");
        assert_eq!(found.as_ref(), wanted.then_some(bytes), "{name}");
    }
    assert_eq!(said(&first, "last").unwrap(), "config.json 2/2", "it comes last");
    let requests = hub.requests();
    assert!(requests.iter().all(|request| request.ends_with("Bearer hf_secret")), "{requests:?}");

    let again = fetch(&address, home.path(), "online");
    assert_eq!(said(&again, "folder").as_ref(), Some(&folder));
    assert_eq!(hub.requests().len(), 1, "only what there is was asked");
    assert_eq!(said(&fetch(&address, home.path(), "offline"), "folder"), Some(folder));
}

#[test]
fn a_broken_download_goes_on_where_it_stopped() {
    let hub = Hub::new();
    let (address, home) = (hub.serve(), tempfile::tempdir().unwrap());
    *hub.breaks_after.lock().unwrap() = Some(150_000);
    let output = fetch(&address, home.path(), "online");
    let folder = said(&output, "folder").unwrap_or_else(|| panic!("{output:?}"));
    let weights = std::fs::read(Path::new(&folder).join("model.safetensors")).unwrap();
    assert!(weights == hub.files["model.safetensors"]);
    let resumed = hub.requests().into_iter().filter(|request| request.contains("bytes=150000-"));
    assert_eq!(resumed.count(), 1);
}

#[test]
fn other_bytes_than_the_hub_has_on_record_are_not_used() {
    let hub = Hub { lies: true, ..Hub::new() };
    let (address, home) = (hub.serve(), tempfile::tempdir().unwrap());
    let error = said(&fetch(&address, home.path(), "online"), "error").unwrap();
    assert!(error.starts_with("house/tiny@main: model.safetensors: expected SHA-256"), "{error}");
    let offline = said(&fetch(&address, home.path(), "offline"), "error").unwrap();
    assert!(offline.contains("is not complete"), "{offline}");
}

#[test]
fn names_that_could_leave_the_cache_are_refused() {
    for (repo, revision) in
        [("tiny", "main"), ("a/b/c", "main"), ("../b", "main"), ("a/b", "../x"), ("a/b", "")]
    {
        let error = fetch::HubModel::new(repo, revision, fetch::Network::Allowed).unwrap_err();
        assert!(error.to_string().starts_with("expected a model as OWNER/NAME"), "{error}");
    }
}

/// A cache as the hub's own tools leave it: a commit, and a branch that points to it.
fn cached_by_another_program(cache: &Path) -> String {
    let model = cache.join("models--house--tiny");
    let snapshot = model.join("snapshots").join(COMMIT);
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::create_dir_all(model.join("refs")).unwrap();
    std::fs::write(model.join("refs/main"), COMMIT).unwrap();
    for (name, bytes) in Hub::new().files.iter().filter(|(name, _)| !name.contains("..")) {
        std::fs::write(snapshot.join(name), bytes).unwrap();
    }
    snapshot.display().to_string()
}

#[test]
fn the_cache_of_the_hubs_own_tools_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let text = |path: &str| folder.path().join(path).display().to_string();
    let expected = cached_by_another_program(&folder.path().join("home/hub"));
    let (home, cache) = (text("home"), text("home/hub"));
    for variables in [
        vec![("HF_HOME", home.as_str())],
        vec![("HF_HUB_CACHE", &cache)],
        vec![("HUGGINGFACE_HUB_CACHE", &cache)],
        vec![("HF_HUB_CACHE", &cache), ("HF_HOME", "/nowhere")],
    ] {
        for revision in ["main", COMMIT] {
            let output = fetch_with(&variables, &format!("offline {revision}"));
            assert_eq!(
                said(&output, "folder").as_ref(),
                Some(&expected),
                "{variables:?} {revision}"
            );
        }
    }
    let offline = [("HF_HOME", home.as_str()), ("HF_HUB_OFFLINE", "TRUE")];
    assert_eq!(said(&fetch_with(&offline, "environment main"), "folder").as_ref(), Some(&expected));
    let other = fetch_with(&[("HF_HOME", home.as_str())], "offline dev");
    assert!(said(&other, "error").unwrap().contains("house/tiny@dev is not complete"));
}

#[test]
fn a_hub_that_does_not_answer_leaves_the_copy_in_the_cache() {
    let home = tempfile::tempdir().unwrap();
    let expected = cached_by_another_program(&home.path().join("hub"));
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut endpoints = vec![(format!("http://{nobody}"), true)];
    for (status, copy) in [(500, true), (503, true), (401, true), (429, true), (404, false)] {
        endpoints.push((Hub { status: Some(status), ..Hub::new() }.serve(), copy));
    }
    for (endpoint, copy) in endpoints {
        for revision in ["main", COMMIT] {
            let output = fetch(&endpoint, home.path(), &format!("online {revision}"));
            let folder = said(&output, "folder");
            assert_eq!(folder.as_ref(), copy.then_some(&expected), "{endpoint} {output:?}");
        }
        let empty = tempfile::tempdir().unwrap();
        let output = fetch(&endpoint, empty.path(), "online");
        assert!(said(&output, "error").unwrap().starts_with("house/tiny@main: "), "{output:?}");
    }
}

#[test]
fn what_another_program_has_fetched_is_not_downloaded_again() {
    let hub = Hub::new();
    let (address, home) = (hub.serve(), tempfile::tempdir().unwrap());
    let expected = cached_by_another_program(&home.path().join("hub"));
    std::fs::remove_file(Path::new(&expected).join("tokenizer.json")).unwrap();
    let output = fetch(&address, home.path(), &format!("online {COMMIT}"));
    assert_eq!(said(&output, "folder"), Some(expected));
    let requests = hub.requests();
    let files = requests.iter().filter(|request| request.contains("/resolve/"));
    assert!(files.clone().all(|file| file.contains("tokenizer.json")), "{requests:?}");
    assert!(files.count() > 0, "{requests:?}");
    let again = Hub { status: Some(500), ..Hub::new() }.serve();
    let whole = fetch(&again, home.path(), "online");
    assert!(said(&whole, "folder").is_some(), "{whole:?}");
}

#[test]
fn all_parts_of_a_split_file_are_fetched() {
    let home = tempfile::tempdir().unwrap();
    let expected = cached_by_another_program(&home.path().join("hub"));
    let name = |part: u32| format!("m-{part:05}-of-00002.gguf");
    std::fs::write(Path::new(&expected).join(name(1)), "GGUF").unwrap();
    let what = format!("offline file {}", name(1));
    let missing = said(&fetch("http://nowhere", home.path(), &what), "error").unwrap();
    assert!(missing.contains(&format!("{} missing", name(2))), "{missing}");
    std::fs::write(Path::new(&expected).join(name(2)), "GGUF").unwrap();
    let first = said(&fetch("http://nowhere", home.path(), &what), "folder");
    assert_eq!(first, Some(Path::new(&expected).join(name(1)).display().to_string()));
}
