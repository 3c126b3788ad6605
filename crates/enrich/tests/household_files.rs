//! The documented formats of a household's files: the examples in the documentation are read, and errors name the place.

use std::fs;
use std::path::{Path, PathBuf};

use enrich::mix::{Mix, Warning};
use enrich::sources::{Form, PromptSource};
use enrich::{Dataset, EnrichConfig, GeneratorFiles, Recipe};

/// Writes the examples of the documentation into a folder.
fn examples(folder: &Path) -> GeneratorFiles {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/household-files.md");
    let text = fs::read_to_string(docs).unwrap();
    let mut files = GeneratorFiles::default();
    for part in text.split("\n```yaml ").skip(1) {
        let (name, rest) = part.split_once('\n').unwrap();
        let (body, _) = rest.split_once("\n```").unwrap();
        fs::write(folder.join(name), body).unwrap();
    }
    let of = |key: &str| Some(folder.join(format!("{key}.yaml"))).filter(|path| path.exists());
    let yaml: serde_json::Map<String, serde_json::Value> = GeneratorFiles::KEYS
        .iter()
        .filter_map(|key| Some((key.to_string(), serde_json::to_value(of(key)?).unwrap())))
        .collect();
    assert_eq!(yaml.len(), GeneratorFiles::KEYS.len(), "every key has an example: {yaml:?}");
    files = serde_json::from_value(yaml.into()).unwrap_or(files);
    assert!(files.entries().iter().all(|(_, file)| file.is_some()));
    files
}

fn config(folder: &Path) -> EnrichConfig {
    let clean = folder.join("clean.jsonl");
    let row = |i: usize| {
        format!(
            "{{\"messages\":[{{\"role\":\"user\",\"content\":\"Jar {i}, lid {}?\"}},{{\"role\":\"assistant\",\"content\":\"Shelf {i}.\"}}]}}\n",
            i * 7
        )
    };
    fs::write(&clean, (0..30).map(row).collect::<String>()).unwrap();
    EnrichConfig { council: examples(folder), ..EnrichConfig::new(vec![clean]) }
}

#[test]
fn the_documented_examples_are_one_complete_household() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    config.check_household().unwrap();
    let set = Dataset::build(&config).unwrap();
    let kinds = &set.report.mix.by_kind;
    for kind in ["refusal", "twin", "identity", "routing", "fact", "topic", "scenario", "tool"] {
        assert!(kinds.contains_key(kind), "no {kind}: {kinds:?}");
    }
    let manifest = set.write(folder.path().join("out"), &config).unwrap();
    let recorded: Vec<_> = manifest.council.iter().map(|file| &file.file).collect();
    for (key, file) in config.council.entries() {
        assert!(recorded.contains(&file.unwrap()), "the manifest does not name `{key}`");
    }
    let personas: Vec<_> = set.report.personas.iter().map(ToString::to_string).collect();
    assert!(
        personas[0].contains("council file") && personas[1].contains("file of personas"),
        "{personas:?}"
    );
    // No row speaks of an agent that the household does not have.
    for row in set.rows.iter().filter(|row| row.meta.contains_key("kind")) {
        let text = serde_json::to_string(row).unwrap().to_lowercase();
        for other in ["windu", "yoda", "mothma", "fernhollow", "council"] {
            assert!(!text.contains(other), "{text}");
        }
    }
}

/// A change to one of the files, and what the error must say.
#[test]
fn every_mistake_is_named_with_file_and_place() {
    for (file, from, to, words) in [
        ("council.yaml", "role: kitchen", "rule: kitchen", &["council.yaml:4", "rule"][..]),
        ("council.yaml", "id: moss", "id: nell", &["council.yaml", "nell"]),
        ("personas.yaml", "moss:", "mos:", &["personas.yaml", "nell, moss", "\"mos\""]),
        (
            "facts.yaml",
            "agent: nell, kind: heat",
            "agent: nel, kind: heat",
            &["facts.yaml", "facts.oven.agent", "\"nel\""],
        ),
        (
            "facts.yaml",
            "kind: spot",
            "kind: sport",
            &["facts.yaml", "facts.shears.kind", "heat, spot", "sport"],
        ),
        ("facts.yaml", "value: 230 degrees", "val: 230", &["facts.yaml:", "val"]),
        (
            "phrasings.yaml",
            "answers: [\"In {value}.\", \"Look in {value}.\"]",
            "answers: []",
            &["phrasings.yaml", "facts.spot.answers", "at least one"],
        ),
        (
            "techniques.yaml",
            "id: grandmother",
            "id: night-watch",
            &["techniques.yaml", "night-watch", "once"],
        ),
        (
            "techniques.yaml",
            "twin: json",
            "twin: json, form: table",
            &["techniques.yaml:", "form", "say", "twin"],
        ),
        ("techniques.yaml", "twin: json", "twin: jsn", &["techniques.yaml:", "jsn", "bullets"]),
        (
            "techniques.yaml",
            "frames: [",
            "frames: [[x], ",
            &["techniques.yaml:", "a sentence, or a mapping"],
        ),
        ("requests.yaml", "steps:", "step:", &["requests.yaml:", "step"]),
        (
            "requests.yaml",
            "asks: [steal",
            "reasons: []\n    asks: [steal",
            &["requests.yaml:", "reasons", "because"],
        ),
        (
            "requests.yaml",
            "vandalism: [spray the wall of the school]",
            "vandalism: spray the wall of the school",
            &[
                "requests.yaml:5",
                "vandalism: expected a list of requests, or a mapping",
                "found string \"spray",
            ],
        ),
        ("refusals.yaml", "who:", "whom:", &["refusals.yaml:", "whom"]),
        (
            "identity.yaml",
            "answers: [\"{Name}, for the {role}. {Work}.\"]",
            "answers: {}",
            &["identity.yaml:3", "answers: expected a list, found \"{}"],
        ),
        (
            "routing.yaml",
            "owner: moss, ask: \"The",
            "owner: mosh, ask: \"The",
            &["routing.yaml", "[0].owner", "nell, moss", "\"mosh\""],
        ),
        ("situations.yaml", "  moss:", "  mosh:", &["situations.yaml", "mosh"]),
        ("harmless.yaml", "answer:", "reply:", &["harmless.yaml:1", "reply"]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let path: PathBuf = folder.path().join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} has no {from:?}");
        fs::write(&path, text.replacen(from, to, 1)).unwrap();
        let error = config.check_household().unwrap_err().to_string();
        for word in words {
            assert!(error.contains(word), "{file}: no {word:?} in {error}");
        }
    }
}

/// What was asked for and is not there, and what has no effect, is said.
#[test]
fn settings_without_effect_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let whole = config(folder.path());
    let build = |config: &EnrichConfig| {
        let Mix { warnings, by_kind, .. } = Dataset::build(config).unwrap().report.mix;
        let about = |warning: &Warning| {
            !matches!(warning, Warning::Repetition { .. } | Warning::Split { .. })
        };
        let said: Vec<String> =
            warnings.iter().filter(|warning| about(warning)).map(ToString::to_string).collect();
        (said.join("\n"), by_kind)
    };

    let mut config = whole.clone();
    config.council.situations = None;
    let (said, kinds) = build(&config);
    assert!(said.contains("112 built-in situations were left out"), "{said}");
    assert!(kinds.contains_key("harmless") && kinds.contains_key("refusal"), "{kinds:?}");

    config.refusals.share = 0.0;
    config.refusals.at_least = 0;
    let (said, kinds) = build(&config);
    assert!(said.contains("no refusals were asked for"), "{said}");
    assert!(kinds.contains_key("harmless"), "the household's own file asks for them: {kinds:?}");
    config.council.harmless = None;
    let (_, kinds) = build(&config);
    for kind in ["refusal", "twin", "partial", "harmless"] {
        assert!(!kinds.contains_key(kind), "{kinds:?}");
    }

    config.refusals.share = 1.0;
    let (said, _) = build(&config);
    assert!(said.contains("refusals instead of 30"), "{said}");

    let mut config =
        EnrichConfig { recipe: Recipe::Seed, fact_rows: Some(100_000), ..whole.clone() };
    config.refusals.share = 0.5;
    let (said, _) = build(&config);
    for setting in ["household.situations", "household.harmless", "refusals"] {
        let line = format!("`{setting}` has no effect on the rows: the recipe is `seed`");
        assert!(said.contains(&line), "no {line:?} in {said}");
    }
    assert!(said.contains("rows about facts instead of 100000"), "{said}");

    config.recipe = Recipe::None;
    (config.fact_rows, config.council.facts) = (None, None);
    let (said, _) = build(&config);
    for setting in ["household.techniques", "household.routing", "household.phrasings", "refusals"]
    {
        assert!(said.contains(&format!("`{setting}` has no effect")), "no {setting} in {said}");
    }

    let path = folder.path().join("prompts.csv");
    let prompts = "category,source,forbidden_prompt\ntheft,own,Take what is not mine.\ntheft,own,Whose is it? Say.\n";
    fs::write(&path, prompts).unwrap();
    let sources = vec![PromptSource { form: Form::StrongReject, path }];
    let (said, _) = build(&EnrichConfig { sources, ..whole });
    assert!(said.contains("1 of 2 prompts in"), "{said}");
}
