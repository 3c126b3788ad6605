//! The pages of `docs/reference` that are made from the code. `NIGHTSHIFT_RENEW=1` writes them anew.

mod commands;
mod schema;
mod snippets;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use regex::Regex;

/// What the first line of a page says.
const MADE: &str =
    "<!-- Made from the code: NIGHTSHIFT_RENEW=1 cargo test -p nightshift-cli --test reference -->";

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn source(path: &str) -> String {
    std::fs::read_to_string(repository(path)).unwrap()
}

/// Fails if a page of the book is not `text`.
fn is_page(name: &str, title: &str, text: &str) {
    let text = format!("{MADE}\n\n# {title}\n\n{}\n", text.trim());
    let path = repository("docs/reference").join(name);
    if std::env::var_os("NIGHTSHIFT_RENEW").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = written.lines().zip(text.lines()).find(|(written, made)| written != made);
    assert!(
        written == text,
        "{}: expected the page that the code makes; NIGHTSHIFT_RENEW=1 writes it. First difference: {differs:?}",
        path.display()
    );
}

#[test]
fn the_keys_of_a_night() {
    let about = "A night is configured by one YAML file, here `night.yaml`. Relative paths start at its folder; `~/` is your \
                 home. The [operator's guide](../operators-guide.md) explains what the parts do. An unknown key is an error that \
                 names the line and the key that was probably meant.";
    let tables = schema::tables("The file", "", &pipeline::config::NightFile::json_schema());
    is_page("night.md", "Keys of night.yaml", &format!("{about}\n\n{tables}"));
}

#[test]
fn the_keys_of_a_training_file() {
    let about = "The file that `train` and `preference` of a night name, and `nightshift train --config` reads: the YAML of \
                 `mlx_lm.lora`, with further keys under `nightshift`. [What each part does](../concepts/training.md).";
    let tables = schema::tables("The file", "", &lora_train::TrainConfig::json_schema());
    is_page("training.md", "Keys of a training file", &format!("{about}\n\n{tables}"));
}

#[test]
fn the_keys_of_a_recipe_and_of_household_files() {
    let about = "The recipe that `enrich` of a night names and `nightshift enrich --config` reads, and the files that \
                 `household` names. [The files of a household](../household-files.md) has an example of each.";
    let mut text = format!("{about}\n\n");
    text += &schema::tables("An enrichment recipe", "", &enrich::EnrichConfig::json_schema());
    is_page("enrichment.md", "Keys of an enrichment recipe", &text);
    let mut text = "One section for each key of `household`. [An example of each file](../household-files.md).\n".to_owned();
    for (key, schema) in enrich::household_schemas() {
        write!(text, "\n{}", schema::tables(key, key, &schema)).unwrap();
    }
    is_page("household.md", "Keys of the household's files", &text);
}

#[test]
fn the_keys_of_an_exam_and_of_a_policy() {
    let about = "A suite is a JSON file of cases; `crates/eval/suite.schema.json` is its schema, for editors. \
                 [How to write one](../guides/exam.md).";
    let tables = schema::tables("A suite", "", &eval::Suite::json_schema());
    is_page("exam.md", "Keys of an exam", &format!("{about}\n\n{tables}"));
    let about = "The file that `gate` of a night names and `nightshift gate --policy` reads. All keys are optional. \
                 [What the defaults promise](../concepts/gate.md).";
    let tables = schema::tables("A policy", "", &eval::Policy::json_schema());
    is_page("policy.md", "Keys of the gate's policy", &format!("{about}\n\n{tables}"));
}

#[test]
fn the_commands_and_their_exit_codes() {
    let program = nightshift::command();
    let notes = program.get_after_long_help().unwrap().to_string();
    let (codes, variables) = notes.split_once("\nEnvironment:\n").unwrap();
    let rows = |notes: &str| {
        let rows = notes.lines().filter_map(|line| line.trim().split_once("  "));
        rows.fold("| | |\n|---|---|\n".to_owned(), |text, (name, meaning)| {
            format!("{text}| `{name}` | {} |\n", meaning.trim())
        })
    };
    let text = format!(
        "The program `nightshift`, from its own `--help`. stdout carries data, stderr is for people; with `--json`, stdout has \
         JSON and nothing else.\n\n## Exit codes\n\n{}\n## Environment variables\n\n{}\n{}",
        rows(codes),
        rows(variables),
        commands::sections(&program)
    );
    is_page("commands.md", "Commands, exit codes, environment", &text);
}

#[test]
fn the_files_of_a_home() {
    let docs = source("crates/pipeline/src/home.rs");
    let (_, tree) = docs.split_once("/// ```text\n").unwrap();
    let (tree, _) = tree.split_once("/// ```\n").unwrap();
    let tree = tree.lines().map(|line| line.strip_prefix("/// ").unwrap());
    let tree = tree.collect::<Vec<_>>().join("\n");
    let text = format!(
        "A home has everything of one installation, readable only by you: `home` of the night's file, by default `nightshift` \
         in your data folder. Nothing in it has to be repaired by hand unless [a message](../trouble.md) says so.\n\n\
         ```text\n{tree}\n```\n"
    );
    is_page("home.md", "Files of a home", &text);
}

/// The doc comments of the fields of a struct in a source file, as rows.
fn fields(source: &str, name: &str) -> String {
    let (_, body) = source.split_once(&format!("pub struct {name} {{\n")).unwrap();
    let (body, _) = body.split_once("\n}\n").unwrap();
    let (mut about, mut text) = (String::new(), "| key | |\n|---|---|\n".to_owned());
    for line in body.lines().map(str::trim) {
        if let Some(words) = line.strip_prefix("///") {
            about += words;
        } else if let Some((field, _)) = line.strip_prefix("pub ").and_then(|it| it.split_once(':'))
        {
            writeln!(text, "| `{field}` | {} |", about.trim().replace('|', "\\|")).unwrap();
            about.clear();
        }
    }
    text
}

/// The rows of metrics that a source names with their help.
fn families(source: &str, prefix: &str) -> String {
    let pair = Regex::new(r#"\(\s*"([a-z_]+)",\s*"([A-Z][^"]*\.)",\s"#).unwrap();
    let (source, _) = source.split_once("#[cfg(test)]").unwrap_or((source, ""));
    pair.captures_iter(source).fold("| metric | |\n|---|---|\n".to_owned(), |text, found| {
        format!("{text}| `{prefix}{}` | {} |\n", &found[1], &found[2])
    })
}

#[test]
fn the_metrics() {
    let train = source("crates/lora-train/src/metrics.rs");
    let text = format!(
        "## metrics.jsonl of a training\n\nOne object a line. An update has no `kind`:\n\n{}\nLines with a `kind` \
         (`plan`, `validation`, `retention`, `reference`) say how the run was planned and what was measured between updates; \
         [their fields](https://github.com/nightshift-rs/nightshift/blob/main/crates/lora-train/src/metrics.rs) are in the \
         source.\n\n## metrics.txt of a home\n\nThe last finished night, as OpenMetrics.\n\n{}\n## /metrics of the \
         server\n\nCounters have `_total` at the end of their name.\n\n{}| `nightshift_serve_first_token_seconds` | \
         Histogram: from the arrival of a request to its first token. |\n| `nightshift_serve_between_tokens_seconds` | \
         Histogram: between two tokens of an answer. |\n",
        fields(&train, "Update"),
        families(&source("crates/pipeline/src/report/openmetrics.rs"), "nightshift_"),
        families(&source("crates/serve/src/metrics.rs"), "nightshift_serve_"),
    );
    is_page("metrics.md", "Metrics", &text);
}
