//! The snippets of the book and of the front page: commands parse, files are files.

use std::path::{Path, PathBuf};

use lora_train::TrainConfig;
use pipeline::config::NightFile;
use regex::Regex;

use super::repository;

/// A fenced block of a page.
struct Snippet {
    /// File and line.
    place: String,
    /// The words after the fence.
    kind: String,
    text: String,
}

/// The pages below `folder`.
fn pages(folder: &Path, found: &mut Vec<PathBuf>) {
    for item in std::fs::read_dir(folder).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() {
            pages(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "md") {
            found.push(path);
        }
    }
}

fn snippets() -> Vec<Snippet> {
    let mut files = vec![repository("README.md"), repository("crates/nightshift/README.md")];
    pages(&repository("docs"), &mut files);
    files.sort();
    let mut found = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let mut open: Option<Snippet> = None;
        for (index, line) in text.lines().enumerate() {
            match (line.trim_start().strip_prefix("```"), &mut open) {
                (Some(_), Some(_)) => found.extend(open.take()),
                (Some(kind), None) => {
                    let place = format!("{}:{}", path.display(), index + 1);
                    open = Some(Snippet { place, kind: kind.to_owned(), text: String::new() });
                }
                (None, Some(snippet)) => snippet.text += &format!("{line}\n"),
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{}: a block is not closed", path.display());
    }
    found
}

/// The words of a command: up to a comment or an operator of the shell, without variables before it.
fn words(line: &str) -> Vec<String> {
    let word = Regex::new(r#"'[^']*'|"[^"]*"|\$\([^)]*\)|[^\s'"]+"#).unwrap();
    let words = word.find_iter(line).map(|word| word.as_str().trim_matches(['\'', '"']).to_owned());
    let operators = ["#", "|", ">", "&&", "&", ";"];
    words.take_while(|word| !operators.contains(&word.as_str())).collect()
}

#[test]
fn commands_of_the_book_parse() {
    let mut checked = 0;
    for snippet in snippets().iter().filter(|snippet| snippet.kind == "sh") {
        for line in snippet.text.replace("\\\n", " ").lines() {
            // Each part of `a && b`, from the program's name on.
            for part in line.split("&& ") {
                let words = words(part);
                let Some(start) = words.iter().position(|word| word == "nightshift") else {
                    continue;
                };
                if words[..start].iter().any(|word| !word.contains('=') && !word.starts_with("$("))
                {
                    continue;
                }
                let parsed = nightshift::command().try_get_matches_from(&words[start..]);
                let told = parsed.err().filter(|error| error.use_stderr());
                assert!(told.is_none(), "{}: {part}\n{}", snippet.place, told.unwrap());
                checked += 1;
            }
        }
    }
    assert!(checked > 30, "only {checked} commands were found");
}

/// A whole night's file with the keys of `fragment` in place of its own.
fn completed(fragment: &str) -> String {
    let own = |key: &str| fragment.lines().any(|line| line.starts_with(&format!("{key}:")));
    let mut keys = vec![("model", "demo"), ("exam", "{ suite: exam.json }")];
    if !own("models") {
        keys.extend([("data", "{ raw: chats }"), ("train", "lora.yaml")]);
    }
    let missing = keys.into_iter().filter(|(key, _)| !own(key));
    missing.fold(fragment.to_owned(), |text, (key, value)| format!("{text}{key}: {value}\n"))
}

#[test]
fn files_of_the_book_are_accepted() {
    let (mut nights, mut trainings) = (0, 0);
    for Snippet { place, kind, text } in snippets() {
        match kind.as_str() {
            "yaml" => {
                let night = NightFile::from_yaml(&completed(&text), &place);
                assert!(night.is_ok(), "{place}: {}", night.unwrap_err());
                nights += 1;
            }
            "yaml training" => {
                let recipe = TrainConfig::from_yaml(&text, &place);
                assert!(recipe.is_ok(), "{place}: {}", recipe.unwrap_err());
                trainings += 1;
            }
            "json" => {
                let value = serde_json::from_str::<serde_json::Value>(&text);
                assert!(value.is_ok(), "{place}: {}", value.unwrap_err());
            }
            // Files of a household have their name there; a test of `enrich` reads them.
            named if named.starts_with("yaml ") => {
                assert!(named.ends_with(".yaml"), "{place}: {named}")
            }
            "sh" | "text" | "toml" | "rust,no_run" => {}
            other => panic!("{place}: expected a block of a known kind, found {other:?}"),
        }
    }
    assert!(
        nights > 5 && trainings > 1,
        "{nights} nights and {trainings} training files were found"
    );
}
