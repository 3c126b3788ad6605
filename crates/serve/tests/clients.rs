//! The clients that people use: OpenAI's for Python, LangChain, Instructor, and curl.

mod support;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use serve::{Base, Server};
use support::{Checkpoint, serve};

/// The releases that the tests were written with.
const OPENAI: &[&str] = &["openai==3.57.0"];
const FRAMEWORKS: &[&str] = &["langchain-openai==1.7.4", "instructor==1.17.0"];

/// A Python with these packages; `None`, after a line on stderr, if they cannot be installed.
fn python(packages: &[&str]) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(packages.join("-").replace("==", "-"));
    let python = folder.join("bin/python");
    let complete = folder.join("complete");
    if complete.is_file() {
        return Some(python);
    }
    let run = |program: &Path, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        match output {
            Ok(output) if output.status.success() => true,
            Ok(output) => skipped(packages[0], &String::from_utf8_lossy(&output.stderr)),
            Err(error) => skipped(packages[0], &error.to_string()),
        }
    };
    let folder = folder.to_str()?;
    let installed = run(Path::new("python3"), &["-m", "venv", folder])
        && run(
            &python,
            &[&["-m", "pip", "install", "--quiet", "--retries", "2"], packages].concat(),
        );
    installed.then(|| {
        std::fs::write(complete, "").unwrap();
        python
    })
}

/// Says that a test was skipped, past the capture of the test harness.
fn skipped(what: &str, why: &str) -> bool {
    let why = why.lines().last().unwrap_or_default();
    let _ = writeln!(std::io::stderr(), "skipped: {what}: {why}");
    false
}

fn client(python: &Path, server: &Server, mode: &str) {
    run(python, "openai_client.py", server, &[mode]);
}

fn run(python: &Path, script: &str, server: &Server, arguments: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(script);
    let url = format!("http://{}", server.address());
    let mut command = Command::new(python);
    let output =
        command.arg(script).arg(url).args(arguments).env("NO_PROXY", "*").output().unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {out}{err}");
    print!("{out}");
}

/// One test, because all need the same installation.
#[test]
fn openai_for_python() {
    let Some(python) = python(OPENAI) else { return };
    client(&python, &serve(Checkpoint::saying("on duty.").base(), |_| {}), "tiny");
    let call = "{\"name\": \"scan\", \"arguments\": {\"host\": \"nas\"}}";
    let template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
                    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    client(&python, &serve(Checkpoint::reciting(&[call], template).base(), |_| {}), "tools");
    match support::families::templates() {
        Some(templates) => {
            for family in [support::families::gemma4(), support::families::qwen35()] {
                println!("{}", family.name);
                client(&python, &serve(family.checkpoint(&templates).base(), |_| {}), "family");
            }
        }
        None => _ = skipped(OPENAI[0], "the templates of Gemma 4 and Qwen3.5"),
    }
    match fetch::if_reachable(fetch::demo_model(&mut |_| ())).unwrap() {
        Some(model) => client(&python, &serve(Base::open(model).unwrap(), |_| {}), "real"),
        None => _ = skipped(OPENAI[0], "the real model"),
    }
}

#[test]
fn langchain_and_instructor() {
    let Some(python) = python(FRAMEWORKS) else { return };
    run(&python, "framework_clients.py", &serve(Checkpoint::random(5).base(), |_| {}), &[]);
}

#[test]
fn curl() {
    let server = serve(Checkpoint::saying("on duty.").base(), |_| {});
    let curl = |path: &str, more: &[&str]| {
        let url = format!("http://{}{path}", server.address());
        let output =
            Command::new("curl").args(["-sS", "--noproxy", "*"]).args(more).arg(url).output();
        output.map(|output| String::from_utf8(output.stdout).unwrap())
    };
    let body =
        r#"{"model": "champion", "messages": [{"role": "user", "content": "Are you there?"}]}"#;
    let answer = match curl("/v1/chat/completions", &["-d", body]) {
        Ok(answer) => answer,
        Err(error) => {
            skipped("curl", &error.to_string());
            return;
        }
    };
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(support::text(&answer), "on duty.");
    let body = body.replace('}', "");
    let streamed = format!(r#"{}}}], "stream": true}}"#, body.trim_end_matches(']'));
    let answer = curl("/v1/chat/completions", &["-N", "-d", &streamed]).unwrap();
    assert!(answer.starts_with("data: {") && answer.ends_with("data: [DONE]\n\n"), "{answer}");
    let status = curl("/v1/models", &["-o", "/dev/null", "-w", "%{http_code}"]).unwrap();
    assert_eq!(status, "200");
}
