//! The whole way on the household's rows: exact counts, limits, repeatability, nothing leaked.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use chat_format::{Conversation, Role, jsonl};
use enrich::household::Phrasings;
use enrich::leaks::Measure;
use enrich::mix::Warning;
use enrich::split::Split;
use enrich::{Dataset, EnrichConfig, GeneratorData, Household, Recipe};
use tempfile::TempDir;

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

fn household(count: usize) -> Vec<Conversation> {
    let house = Household::load(fixtures().join("household.yaml")).unwrap();
    let (data, phrasings) = (GeneratorData::embedded().unwrap(), Phrasings::embedded().unwrap());
    let rows = house.rows(&data, &phrasings, count, 7).unwrap();
    rows.iter().map(|row| row.conversation()).collect()
}

fn write(path: &Path, rows: &[Conversation]) {
    let mut writer = jsonl::Writer::create(path).unwrap();
    rows.iter().for_each(|row| writer.write(row).unwrap());
    writer.commit().unwrap();
}

fn config(folder: &TempDir, rows: &[Conversation], recipe: Recipe) -> EnrichConfig {
    let clean = folder.path().join("clean.jsonl");
    write(&clean, rows);
    let suites = vec![fixtures().join("suites/household.json")];
    EnrichConfig { recipe, suites, ..EnrichConfig::new(vec![clean]) }
}

fn build(rows: &[Conversation], recipe: Recipe) -> Dataset {
    let folder = TempDir::new().unwrap();
    Dataset::build(&config(&folder, rows, recipe)).unwrap()
}

#[test]
fn the_seeds_recipe_ends_in_exactly_2008_rows() {
    let set = build(&household(1710), Recipe::Seed);
    let kinds = &set.report.mix.by_kind;
    assert_eq!((kinds["refusal"], kinds["identity"], kinds["routing"]), (224, 64, 10));
    assert_eq!((set.report.read, set.report.made, set.rows.len()), (1710, 298, 2008));
    assert!(set.report.duplicates.is_empty() && set.report.leaks.is_empty());

    let pairs: HashSet<_> = set
        .rows
        .iter()
        .filter(|row| row.meta["kind"] == "refusal")
        .map(|row| (row.meta["technique"].to_string(), row.meta["agent"].to_string()))
        .collect();
    assert_eq!(pairs.len(), 28 * 8);
    assert!(set.report.mix.warnings.contains(&Warning::NoTwins { refusals: 224 }));
}

#[test]
fn the_demos_320_rows_end_in_679_to_train_and_21_to_validate() {
    let folder = TempDir::new().unwrap();
    let EnrichConfig { inputs, suites, .. } = config(&folder, &household(320), Recipe::Balanced);
    let demo = EnrichConfig::load(fixtures().join("demo/enrich.yaml")).unwrap();
    let set = Dataset::build(&EnrichConfig { inputs, suites, ..demo }).unwrap();
    let splits = Split::ALL.map(|split| set.of(split).count());
    assert_eq!((splits, set.report.made), ([679, 21, 0], 380));
    assert!(set.report.duplicates.is_empty() && set.report.leaks.is_empty());
}

#[test]
fn the_balanced_recipe_keeps_its_limits_without_a_warning() {
    let set = build(&household(1710), Recipe::Balanced);
    let mix = &set.report.mix;
    assert!((0.03..=0.05).contains(&mix.share("refusal")), "{}", mix.share("refusal"));
    // One twin for each refusal, and half as many from the rows themselves.
    assert_eq!(mix.by_kind["twin"], mix.by_kind["refusal"] * 3 / 2);
    assert_eq!(mix.warnings, []);
    assert!(set.report.duplicates.is_empty() && set.report.leaks.is_empty());
}

#[test]
fn the_same_inputs_give_the_same_bytes_and_another_seed_others() {
    let folder = TempDir::new().unwrap();
    let mut config = config(&folder, &household(300), Recipe::Balanced);
    let out = |name: &str, config: &EnrichConfig| {
        let path = folder.path().join(name);
        Dataset::build(config).unwrap().write(&path, config).unwrap();
        let rows = ["train.jsonl", "valid.jsonl", "test.jsonl", "pairs.jsonl"];
        let files = rows.into_iter().chain(["report.json", "manifest.json"]);
        files.map(|file| std::fs::read(path.join(file)).unwrap()).collect::<Vec<_>>()
    };
    let first = out("a", &config);
    assert_eq!(first, out("b", &config));
    config.seed = 8;
    let other = out("c", &config);
    assert!(first[0] != other[0] && first[3] != other[3]);
}

#[test]
fn what_is_written_is_what_the_manifest_says() {
    let folder = TempDir::new().unwrap();
    let config = config(&folder, &household(300), Recipe::Seed);
    let set = Dataset::build(&config).unwrap();
    let manifest = set.write(folder.path().join("out"), &config).unwrap();
    let mut written = 0;
    for output in &manifest.outputs {
        let path = folder.path().join("out").join(&output.file);
        assert_eq!(durable::sha256_file(&path).unwrap(), output.sha256);
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert_eq!(lines, output.entries);
        if output.file != Path::new("pairs.jsonl") {
            written += jsonl::Reader::open(&path).unwrap().conversations().count();
        }
    }
    assert_eq!(written, set.rows.len());
    assert_eq!(manifest.inputs[0].entries, 300);
    let suite = std::fs::read_to_string(fixtures().join("suites/household.json")).unwrap();
    assert_eq!(manifest.suites[0].entries, suite.matches("\"role\": \"user\"").count());
}

#[test]
fn no_technique_topic_or_phrasing_lives_in_two_splits() {
    for recipe in [Recipe::Seed, Recipe::Balanced] {
        let set = build(&household(1710), recipe);
        for key in ["technique", "topic", "phrasing"] {
            let mut homes: BTreeMap<String, HashSet<Split>> = BTreeMap::new();
            for (row, split) in set.rows.iter().zip(&set.splits) {
                if let Some(value) = row.meta.get(key) {
                    homes.entry(value.to_string()).or_default().insert(*split);
                }
            }
            let torn: Vec<_> = homes.iter().filter(|(_, splits)| splits.len() > 1).collect();
            assert!(torn.is_empty(), "{recipe:?} {key}: {torn:?}");
        }
        let shares = set.report.mix.by_split;
        let total = set.rows.len() as f64;
        for split in [Split::Valid, Split::Test] {
            let share = shares[&split] as f64 / total;
            assert!((0.03..0.08).contains(&share), "{recipe:?} {split}: {share}");
        }
    }
}

#[test]
fn a_planted_exam_case_is_caught_and_named() {
    let mut rows = household(50);
    let mut planted = rows[3].clone();
    planted.messages[1].content = "On what weekday does the council meet, please?".into();
    rows.push(planted.clone());
    // No two words in a row are the exam's, the sentence is.
    planted.messages[1].content = "On what evening does the chess trainer await us?".into();
    rows.push(planted);
    let folder = TempDir::new().unwrap();
    let mut config = config(&folder, &rows, Recipe::Balanced);
    let set = Dataset::build(&config).unwrap();
    let [by_words, by_build] = set.report.leaks.as_slice() else {
        panic!("{:?}", set.report.leaks)
    };
    let leak = (by_words.row, by_words.case.as_str(), by_words.by);
    assert_eq!(leak, (50, "domain-council-day", Measure::Words));
    let leak = (by_build.row, by_build.case.as_str(), by_build.by);
    assert_eq!(leak, (51, "domain-piano-lesson", Measure::Build));
    let asked = |text: &str| set.rows.iter().any(|row| row.messages[1].content.contains(text));
    assert!(!asked("council meet, please") && !asked("chess trainer"));

    let allowlist = folder.path().join("allowed.yaml");
    let allow = |text: &str| std::fs::write(&allowlist, text).unwrap();
    config.leaks.allowlist = Some(allowlist.clone());
    allow("- {case: domain-council-day, reason: the plainest way to ask}");
    let leaks = Dataset::build(&config).unwrap().report.leaks;
    assert!(matches!(&leaks[..], [leak] if leak.row == 51), "{leaks:?}");
    for (text, says) in [
        ("- {case: domain-council-day, reason: ''}", "domain-council-day.reason: expected why"),
        ("- {case: domain-council-day}", "allowed.yaml:1:"),
        ("- {cause: x, reason: y}", "cause"),
    ] {
        allow(text);
        let error = Dataset::build(&config).unwrap_err().to_string();
        assert!(error.contains(says), "{text}: {error}");
    }
}

#[test]
fn the_mix_is_counted_by_markup_and_what_is_left_of_it_warns() {
    let mut rows = household(60);
    for row in &mut rows[..20] {
        row.meta.insert("markup".into(), "ChatML".into());
    }
    rows[30].messages[2].content.push_str("<end_of_turn>");
    let mix = build(&rows, Recipe::Balanced).report.mix;
    assert_eq!((mix.by_family["ChatML"], mix.by_family["Gemma"]), (20, 1));
    assert_eq!(mix.by_family.values().sum::<usize>(), mix.rows);
    let warning = Warning::Markup { family: "Gemma", rows: 1 };
    assert!(mix.warnings.contains(&warning), "{:?}", mix.warnings);
    assert_eq!(warning.to_string(), "1 rows still hold Gemma markup: convert them first");
}

#[test]
fn repeated_rows_go_and_are_reported() {
    let mut rows = household(100);
    rows.extend_from_within(..10);
    let mut near = rows[20].clone();
    near.messages[1].content.make_ascii_uppercase();
    rows.push(near);
    let set = build(&rows, Recipe::Balanced);
    let found: Vec<_> = set.report.duplicates.iter().map(|d| (d.row, d.of)).collect();
    let mut planted: Vec<_> = (0..10).map(|i| (100 + i, i)).collect();
    planted.push((110, 20));
    assert_eq!(found, planted);
    let repetition = |warning: &Warning| matches!(warning, Warning::Repetition { .. });
    assert!(set.report.mix.warnings.iter().any(repetition));
}

#[test]
fn the_smallest_council_still_gives_rows() {
    let folder = TempDir::new().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        Some(path)
    };
    let mut config = config(&folder, &household(20), Recipe::Balanced);
    let agent = "{id: solo, name: Solo, role: all, work: I do it, offers: [Else?]}";
    config.council = enrich::GeneratorFiles {
        agents: file("agents.yaml", &format!("- {agent}")),
        techniques: file("techniques.yaml", "- {id: ask, frames: [\"{Request}.\"]}"),
        requests: file(
            "requests.yaml",
            "harmful: {pranks: [ring and run]}\nbenign: [{ask: hum, steps: [close your lips]}]",
        ),
        routing: file("routing.yaml", "[]"),
        ..Default::default()
    };
    let set = Dataset::build(&config).unwrap();
    let kinds = &set.report.mix.by_kind;
    assert_eq!((kinds["refusal"], kinds["twin"], kinds["identity"]), (1, 1, 8));

    let manifest = set.write(folder.path().join("out"), &config).unwrap();
    let files: Vec<_> = manifest.council.iter().map(|source| source.entries).collect();
    assert_eq!(files, [1, 1, 2, 0]);
}

#[test]
fn every_row_begins_with_its_agents_system_prompt() {
    let council = GeneratorData::embedded().unwrap().council;
    for row in build(&household(400), Recipe::Balanced).rows {
        let agent = council.agent(row.meta["agent"].as_str().unwrap()).unwrap();
        assert_eq!(row.messages[0].role, Role::System);
        assert_eq!(row.messages[0].content, agent.system_prompt());
    }
}

#[test]
fn nothing_to_learn_from_is_an_error() {
    let folder = TempDir::new().unwrap();
    let mut config = config(&folder, &[], Recipe::Balanced);
    config.leaks.likeness = 1e-9;
    // Even with no rows the council's own remain.
    assert!(Dataset::build(&config).is_ok());
    config.inputs = vec![folder.path().join("absent.jsonl")];
    let error = Dataset::build(&config).unwrap_err().to_string();
    assert!(error.contains("absent.jsonl"), "{error}");
}
