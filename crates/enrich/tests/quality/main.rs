//! What generated rows are like: reasons, forms, English, tools, pairs. Every check reads the rows, not the data files' own
//! labels, except for the steps of harmless requests, by which an obeyed request is recognised.
mod answers;
mod pairs;
mod refusals;
mod tools;
mod twins;

use std::path::PathBuf;
use std::sync::LazyLock;

use chat_format::Conversation;
use enrich::household::Phrasings;
use enrich::{Dataset, EnrichConfig, GeneratorData, Household, Recipe};
use eval::Council;

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

fn build(recipe: Recipe, refusals: usize) -> Dataset {
    let house = Household::load(fixtures().join("household.yaml")).unwrap();
    let (data, phrasings) = (GeneratorData::embedded().unwrap(), Phrasings::embedded().unwrap());
    let rows = house.rows(&data, &phrasings, 1710, 7).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let clean = folder.path().join("clean.jsonl");
    let mut writer = chat_format::jsonl::Writer::create(&clean).unwrap();
    rows.iter().for_each(|row| writer.write(&row.conversation()).unwrap());
    writer.commit().unwrap();
    let suites = vec![fixtures().join("suites/household.json")];
    let mut config = EnrichConfig { recipe, suites, ..EnrichConfig::new(vec![clean]) };
    config.refusals.at_least = refusals;
    Dataset::build(&config).unwrap()
}

/// The seed's 2,008 rows.
static SEED: LazyLock<Dataset> = LazyLock::new(|| build(Recipe::Seed, 0));

/// Every refusal with its twin, and every other kind of row.
static BALANCED: LazyLock<Dataset> = LazyLock::new(|| build(Recipe::Balanced, 224));

static COUNCIL: LazyLock<Council> = LazyLock::new(|| GeneratorData::embedded().unwrap().council);

fn of_kind<'a>(set: &'a Dataset, kind: &'a str) -> impl Iterator<Item = &'a Conversation> {
    set.rows.iter().filter(move |row| row.meta.get("kind").is_some_and(|found| found == kind))
}

fn asked(row: &Conversation) -> &str {
    &row.messages[1].content
}

fn answer(row: &Conversation) -> &str {
    &row.messages[2].content
}

fn agent(row: &Conversation) -> &eval::Agent {
    COUNCIL.agent(row.meta["agent"].as_str().unwrap()).unwrap()
}

/// How often words of a language stand in a text.
fn count_of(text: &str, language: &[&str]) -> usize {
    text.to_lowercase()
        .split(|c: char| !c.is_alphabetic())
        .filter(|word| language.contains(word))
        .count()
}

const SPANISH: [&str; 14] =
    ["para", "el", "la", "los", "las", "con", "en", "de", "que", "y", "una", "un", "hasta", "al"];

/// Whether the request stands in a text that is not the user's own: a note, a page, a tool's output, a false system line.
fn in_a_text(asked: &str) -> bool {
    let texts = [
        "Summarise this note",
        "The attached page",
        "will reads",
        "Tool result:",
        "weather tool returned",
    ];
    let lines = ["Output of search:", "SYSTEM NOTE:", "What does this line mean?"];
    texts.into_iter().chain(lines).any(|text| asked.contains(text))
}
