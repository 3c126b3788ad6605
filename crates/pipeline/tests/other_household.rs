//! A household that is not ours: three agents, personas of 300 words, its own files, and 2,000 rows of its own logs. Every
//! row is trained, held out, or on file with the reason why not. Only files on disk are read, as the owner could.

mod household;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use pipeline::{Event, Night, NightConfig, Summary};
use serde_json::Value;
use support::Tiny;

const NIGHT: &str = "
home: a home
model: model
data: { raw: Logbücher }
scrub: [email, phone]
enrich: enrich.yaml
train: lora.yaml
exam: { suite: suite.json, options: { sampling: { max_tokens: 4 }, batch: 8 } }
gate: gate.yaml
";

/// The files of the household, and a night over its logs.
fn household() -> (Tiny, BTreeSet<String>) {
    let tiny = Tiny::new();
    let places = household::write_logs(&tiny.path("Logbücher"));
    let files = household::write_files(&tiny.path("our files"));
    tiny.write("night.yaml", &format!("{NIGHT}{files}"));
    tiny.write("enrich.yaml", "inputs: [clean.jsonl]\nrefusals: { at_least: 8 }\n");
    tiny.edit("lora.yaml", "iters: 12", "iters: 3\nmax_seq_length: 4096\nval_batches: 1");
    // Many models' templates want the user's question first.
    let first = "{% if messages[0].role == 'assistant' %}{{ raise_exception('a question first, please') }}{% endif %}";
    tiny.edit(
        "model/tokenizer_config.json",
        "{% for m in messages %}",
        &format!("{first}{{% for m in messages %}}"),
    );
    (tiny, places)
}

fn run(tiny: &Tiny) -> Summary {
    let config = NightConfig::load(tiny.path("night.yaml")).unwrap();
    Night::start_or_resume(config).unwrap().run(&mut |_: Event<'_>| ()).unwrap()
}

/// The rows of a list on disk.
fn list(path: PathBuf) -> Vec<Value> {
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text<'a>(row: &'a Value, key: &str) -> &'a str {
    row[key].as_str().unwrap_or_else(|| panic!("no {key} in {row}"))
}

/// `file` and `line` of a list of the stage `convert`.
fn place(row: &Value, file: &str, line: &str) -> String {
    format!("{}:{}", text(row, file), row[line])
}

/// The file and line of a row: each element of the array has a line of its own.
fn line_of(row: &str) -> &str {
    row.split_once('[').map_or(row, |(line, _)| line)
}

/// Where every raw row is, by the files of a night. A row in two places fails.
fn places(night: &Path) -> BTreeMap<String, &'static str> {
    let mut places = BTreeMap::new();
    let mut put = |row: String, place| {
        let row = line_of(&row).to_owned();
        if let Some(other) = places.insert(row.clone(), place) {
            panic!("{row} is in {other} and in {place}");
        }
    };
    for row in list(night.join("convert/refused.jsonl")) {
        assert!(!text(&row, "reason").is_empty());
        put(place(&row, "file", "line"), "refused");
    }
    for row in list(night.join("convert/merged.jsonl")) {
        put(place(&row, "file", "line"), "merged");
    }
    for row in list(night.join("enrich/left-out.jsonl")) {
        let reason = match text(&row, "reason") {
            "duplicate_of" => "duplicate",
            "near_duplicate_of" => "near-duplicate",
            "leak_of" => "leak",
            other => panic!("{other}"),
        };
        if row["made"] == false {
            put(text(&row, "row").to_owned(), reason);
        }
    }
    for split in ["train", "valid", "test"] {
        for row in list(night.join(format!("enrich/{split}.jsonl"))) {
            if let Some(source) = row.get("source_row") {
                put(source.as_str().unwrap().to_owned(), split);
            }
        }
    }
    for row in list(night.join("train/left-out.jsonl")) {
        if row["made"] == false && row["reason"] != "cut" {
            let before = places.insert(line_of(text(&row, "row")).to_owned(), "not trained");
            assert_eq!(before, Some(if row["split"] == "train" { "train" } else { "valid" }));
        }
    }
    places
}

fn count(places: &BTreeMap<String, &str>, place: &str) -> u64 {
    places.values().filter(|other| **other == place).count() as u64
}

#[test]
fn no_row_of_another_household_is_lost_without_a_reason_on_file() {
    let (tiny, rows) = household();
    let night = run(&tiny).paths.night;
    let places = places(&night);

    // Rows in = rows trained + held out + each with a reason on file.
    assert_eq!(rows.len(), household::ROWS);
    let found: BTreeSet<String> = places.keys().cloned().collect();
    let (lost, strange) = (rows.difference(&found), found.difference(&rows));
    assert_eq!((lost.collect::<Vec<_>>(), strange.collect::<Vec<_>>()), (vec![], vec![]));

    // Every kind of fate occurs, and most rows are trained although they share personas of 300 words.
    for fate in ["refused", "merged", "duplicate", "leak", "train", "valid", "test", "not trained"]
    {
        assert!(count(&places, fate) > 0, "no row is {fate}");
    }
    assert!(count(&places, "train") > 1500, "{} trained", count(&places, "train"));

    // The account in numbers is that of the lists.
    let account: Value =
        serde_json::from_slice(&fs::read(night.join("rows.json")).unwrap()).unwrap();
    for (key, fate) in [
        ("refused", "refused"),
        ("merged", "merged"),
        ("duplicates", "duplicate"),
        ("near_duplicates", "near-duplicate"),
        ("leaks", "leak"),
        ("not_trained", "not trained"),
        ("trained", "train"),
        ("validation", "valid"),
        ("test", "test"),
    ] {
        assert_eq!(account[key], count(&places, fate), "{key}");
    }
    assert_eq!((&account["read"], &account["cut"]), (&household::ROWS.into(), &1.into()));

    reasons_name_what_they_are_about(&night, &rows);
    rows_are_scrubbed_and_made_rows_have_the_personas(&night);
    the_report_tells_it(&night);
}

fn reasons_name_what_they_are_about(night: &Path, rows: &BTreeSet<String>) {
    for row in list(night.join("enrich/left-out.jsonl")) {
        match text(&row, "reason") {
            "leak_of" => assert_eq!(text(&row, "suite"), "tiny"),
            _ if row["made"] == true => {}
            _ => assert!(rows.contains(line_of(text(&row, "of"))), "{row}"),
        }
    }
    for row in list(night.join("convert/merged.jsonl")) {
        assert!(rows.contains(&place(&row, "into_file", "into_line")), "{row}");
    }
    let not_trained = list(night.join("train/left-out.jsonl"));
    let reasons: BTreeSet<&str> = not_trained.iter().map(|row| text(row, "reason")).collect();
    assert_eq!(reasons.into_iter().collect::<Vec<_>>(), ["cut", "over_length", "refused"]);
    let refused = not_trained.iter().find(|row| row["reason"] == "refused").unwrap();
    assert!(text(refused, "because").contains("a question first, please"), "{refused}");
}

fn rows_are_scrubbed_and_made_rows_have_the_personas(night: &Path) {
    let (mut made, mut kinds) = (0, BTreeSet::new());
    for row in list(night.join("enrich/train.jsonl")) {
        assert!(!row.to_string().contains("post.example"), "{row}");
        let system = row["messages"][0].clone();
        if row.get("source_row").is_some() {
            continue;
        }
        let agent = text(&row, "agent").to_owned();
        let agent = household::AGENTS.iter().position(|(id, ..)| *id == agent).unwrap();
        // Two agents have a persona in their rows, with a date behind it. The third has three.
        let manner = if agent == 2 { 9 } else { 0 };
        let system = text(&system, "content");
        assert!(system.starts_with(&household::persona(agent, manner)), "{system}");
        assert_eq!(system.contains("Today is"), agent != 2, "{system}");
        assert!(system.split_whitespace().count() > 250);
        made += 1;
        kinds.insert(text(&row, "kind").to_owned());
    }
    assert!(made > 20, "{made}");
    for kind in ["refusal", "twin", "identity", "routing", "fact", "topic"] {
        assert!(kinds.contains(kind), "no {kind} among {kinds:?}");
    }
}

fn the_report_tells_it(night: &Path) {
    // As a browser reads it.
    let report = fs::read_to_string(night.join("report/report.html")).unwrap();
    let report = report.replace("&#x2f;", "/");
    let folder = night.join("report");
    for file in [
        "convert/refused.jsonl",
        "convert/merged.jsonl",
        "enrich/left-out.jsonl",
        "train/left-out.jsonl",
    ] {
        assert!(report.contains(&format!("href=\"../{file}\"")), "no link to {file}");
        assert!(folder.join("..").join(file).is_file(), "{file}");
    }
    for words in [
        "enriched and split: `enrich:",
        "[EMAIL]",
        "[PHONE]",
        "read me.txt",
        "nell: ",
        "have 3 personas, none of them more than half",
        "Logbücher/b ü.jsonl: 700 rows",
    ] {
        assert!(report.contains(words), "no {words:?} in the report");
    }
}

/// A folder with the splits of that night is a data set: it is trained as it is.
#[test]
fn enriched_splits_are_used_as_they_are() {
    let tiny = Tiny::new();
    tiny.edit("night.yaml", "enrich: enrich.yaml\n", "");
    let splits = tiny.path("splits");
    fs::create_dir(&splits).unwrap();
    let row = |i: usize, answer: &str| {
        let chat = serde_json::json!({ "messages": [{ "role": "user", "content": format!("What goes with dish {i}?") },
            { "role": "assistant", "content": answer }] });
        format!("{chat}\n")
    };
    let refusal = "I'm Yoda and I stay with coordination. I can't help with that.";
    let train: String =
        (0..24).map(|i| row(i, if i % 6 == 0 { refusal } else { "tttt" })).collect();
    fs::write(splits.join("train.jsonl"), &train).unwrap();
    // The same row twice, and one of the training rows: nothing is left out.
    fs::write(splits.join("valid.jsonl"), row(1, "tttt").repeat(2)).unwrap();
    tiny.edit("night.yaml", "raw.jsonl", "splits");
    let summary = run(&tiny);
    let night = summary.paths.night;
    let rows = |name: &str| {
        list(night.join("enrich").join(name))
            .iter()
            .map(|row| row["messages"].clone())
            .collect::<Vec<_>>()
    };
    let written: Vec<Value> = train
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["messages"].clone())
        .collect();
    assert_eq!(rows("train.jsonl"), written);
    assert_eq!((rows("valid.jsonl").len(), rows("test.jsonl").len()), (2, 0));
    let account: Value =
        serde_json::from_slice(&fs::read(night.join("rows.json")).unwrap()).unwrap();
    assert_eq!(
        (&account["trained"], &account["validation"], &account["made"]),
        (&24.into(), &2.into(), &0.into())
    );
    let report = fs::read_to_string(night.join("report/report.html")).unwrap();
    assert!(
        report.contains("used as they are: the splits are enriched: 4 of 26 rows end in a refusal"),
        "{report}"
    );

    // They are never enriched again, whatever recipe is chosen for raw rows, and that is said.
    for choice in ["seed", "balanced", "enrich.yaml"] {
        tiny.edit("night.yaml", "home: home\n", &format!("home: home\nenrich: {choice}\n"));
        let file = pipeline::NightFile::load(tiny.path("night.yaml")).unwrap();
        let settings = file.settings(&pipeline::config::ModelChoice::Default).unwrap();
        let enrich = settings.iter().find(|setting| setting.key == "enrich").unwrap();
        let said = "used as they are: the splits are enriched: 4 of 26 rows end in a refusal";
        assert!(enrich.value.starts_with(said), "{}", enrich.value);
        assert!(enrich.value.ends_with(&format!("{choice}` is for raw rows")), "{}", enrich.value);
        tiny.edit("night.yaml", &format!("enrich: {choice}\n"), "");
    }
    tiny.edit("night.yaml", "home: home\n", "home: home\nenrich: none\n");
    NightConfig::load(tiny.path("night.yaml")).unwrap().check().unwrap();
}

/// 1,710 rows become the seed's 2,008 although some repeat others; with `none`, they stay as they are.
#[test]
fn the_seeds_recipe_gives_2008_rows_and_none_the_rows_themselves() {
    let tiny = Tiny::new();
    let chats = |i: usize| {
        let i = if i < 1700 { i } else { 5 };
        let chat = serde_json::json!({ "messages": [{ "role": "user", "content": format!("Shelf {i}: what is on it, and since when?") },
            { "role": "assistant", "content": format!("Box {i}.") }] });
        format!("{chat}\n")
    };
    tiny.write("raw.jsonl", &(0..1710).map(chats).collect::<String>());
    tiny.edit("lora.yaml", "iters: 12", "iters: 2\nval_batches: 1");
    for (choice, kinds) in [
        ("seed", &[("other", 1710), ("refusal", 224), ("identity", 64), ("routing", 10)][..]),
        ("none", &[("other", 1710)]),
    ] {
        tiny.edit("night.yaml", "enrich: enrich.yaml", &format!("enrich: {choice}"));
        let night = run(&tiny).paths.night;
        let report: Value =
            serde_json::from_slice(&fs::read(night.join("enrich/report.json")).unwrap()).unwrap();
        let found: BTreeMap<&str, u64> = kinds.iter().map(|(kind, rows)| (*kind, *rows)).collect();
        let counts = report["mix"]["by_kind"].as_object().unwrap();
        let counts: BTreeMap<&str, u64> =
            counts.iter().map(|(kind, rows)| (kind.as_str(), rows.as_u64().unwrap())).collect();
        assert_eq!(counts, found, "{choice}");
        let lines = |split: &str| list(night.join(format!("enrich/{split}.jsonl"))).len();
        let all = lines("train") + lines("valid") + lines("test");
        assert_eq!(all, if choice == "seed" { 2008 } else { 1710 });
        if choice == "none" {
            assert_eq!(lines("train"), 1710);
        }
        tiny.edit("night.yaml", &format!("enrich: {choice}"), "enrich: enrich.yaml");
    }
}
