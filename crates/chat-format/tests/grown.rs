//! Logs that grow: rows that are the beginning of longer ones.

use std::fs;
use std::path::Path;

use chat_format::clean::{Converter, Inputs, Options, Report};
use chat_format::jsonl;
use proptest::prelude::*;
use serde_json::{Value, json};

/// A conversation of these words, the user's first.
fn row(words: &[&str]) -> Value {
    let message = |(index, text): (usize, &&str)| {
        let role = if index % 2 == 0 { "user" } else { "assistant" };
        json!({"role": role, "content": text})
    };
    json!({"messages": words.iter().enumerate().map(message).collect::<Vec<_>>()})
}

fn with(mut row: Value, key: &str, value: Value) -> Value {
    row[key] = value;
    row
}

/// Converts each list of rows as a file of its own.
fn convert(folder: &Path, files: &[&[Value]], same: &[&str]) -> (Report, Vec<Value>) {
    let input = folder.join("in");
    let _ = fs::remove_dir_all(&input);
    fs::create_dir(&input).unwrap();
    for (index, rows) in files.iter().enumerate() {
        let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
        fs::write(input.join(format!("{index:03}.jsonl")), lines).unwrap();
    }
    let output = folder.join("clean.jsonl");
    let converter = Converter::new(Options::default()).merge_grown(same.iter().copied());
    let report = converter.convert_all(Inputs::find([input]).unwrap(), &output).unwrap();
    assert_eq!(fs::read_dir(folder).unwrap().count(), 2, "the temporary file has no name");
    let rows = jsonl::Reader::open(output).unwrap().map(|row| row.unwrap().value).collect();
    (report, rows)
}

#[test]
fn a_conversation_that_is_logged_with_every_turn_is_one_row() {
    let folder = tempfile::tempdir().unwrap();
    let turns = ["Is the NAS up?", "Yes.", "And the camera?", "No.", "Why?", "No power."];
    let logged: Vec<Value> = (1..=3).map(|round| row(&turns[..2 * round])).collect();
    let other = row(&["Is the NAS up?", "Yes.", "Thanks", "Bye."]);
    let odd = json!({"messages": []});
    let files: [&[Value]; 2] =
        [&[logged[1].clone(), odd, logged[2].clone()], &[other.clone(), logged[0].clone()]];
    let (report, rows) = convert(folder.path(), &files, &[]);
    assert_eq!(rows, [logged[2].clone(), other]);
    assert_eq!((report.rows, report.written, report.refused, report.merged), (5, 2, 1, 2));
    let counts: Vec<_> = report.files.iter().map(|file| (file.written, file.merged)).collect();
    assert_eq!(counts, [(1, 1), (1, 1)]);
    let places: Vec<String> = report.merges.iter().map(|merge| merge.to_string()).collect();
    assert!(places[0].ends_with("000.jsonl:3") && places[0].contains("000.jsonl:1 into "));
    assert!(places[1].ends_with("000.jsonl:3") && places[1].contains("001.jsonl:2 into "));
}

#[test]
fn merged_rows_of_arrays_are_named_by_their_elements() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (short, long) = (row(&["q", "a"]), row(&["q", "a", "r", "b"]));
    fs::write(path("export.json"), json!([short, row(&["other"]), short, long]).to_string())
        .unwrap();
    let converter =
        Converter::new(Options::default()).merge_grown(["agent"]).merged(path("merged.jsonl"));
    let report = converter.convert(path("export.json"), path("clean.jsonl")).unwrap();
    let places: Vec<String> = report.merges.iter().map(|merge| merge.to_string()).collect();
    let file = path("export.json").display().to_string();
    assert_eq!(places, [0, 2].map(|element| format!("{file}:1[{element}] into {file}:1[3]")));
    let listed = jsonl::Reader::open(path("merged.jsonl")).unwrap().map(|row| row.unwrap().value);
    let entry = |element: u64| {
        json!({"file": file, "line": 1, "element": element, "into_file": file, "into_line": 1,
            "into_element": 3})
    };
    assert_eq!(listed.collect::<Vec<_>>(), [entry(0), entry(2)]);
}

#[test]
fn rows_that_differ_in_more_than_their_end_stay() {
    let folder = tempfile::tempdir().unwrap();
    let (short, long) = (row(&["q", "a"]), row(&["q", "a", "r", "b"]));
    let tools = json!([{"type": "function", "function": {"name": "scan"}}]);
    let kept = [
        (short.clone(), row(&["q", "a."])),
        (short.clone(), row(&["q", "a. ", "r", "b"])),
        // Rows that are equal are left to the search for duplicates.
        (short.clone(), short.clone()),
        (with(short.clone(), "tools", tools.clone()), long.clone()),
        (with(short.clone(), "agent", json!("windu")), with(long.clone(), "agent", json!("yoda"))),
        (with(short.clone(), "agent", json!("windu")), long.clone()),
    ];
    for (short, long) in &kept {
        let (report, rows) = convert(folder.path(), &[&[short.clone(), long.clone()]], &["agent"]);
        assert_eq!((report.merged, rows), (0, vec![short.clone(), long.clone()]));
    }
    // Escapes and the order of keys are no difference, and keys that go with a merged row are named.
    let (input, output) = (folder.path().join("in/000.jsonl"), folder.path().join("clean.jsonl"));
    let text = r#"{"messages": [{"content": "\u0071", "role": "user"}, {"role": "assistant", "content": "a"}], "id": 7}"#;
    fs::write(&input, format!("{text}\n{long}\n")).unwrap();
    let converter = Converter::new(Options::default());
    let report = converter.clone().merge_grown(["agent"]).convert(&input, &output).unwrap();
    assert_eq!((report.merged, report.written), (1, 1));
    assert_eq!(report.notes.ignored, [("id of merged rows".to_owned(), 1)].into());
    // Nothing is merged unless that is wanted.
    assert_eq!(converter.convert(&input, &output).unwrap().written, 2);
}

#[test]
fn equal_rows_go_into_the_longest_row_that_begins_with_them() {
    // Once, every longer row was compared with every equal one: this many took minutes.
    const ROWS: usize = 20_000;
    let folder = tempfile::tempdir().unwrap();
    let short = (0..ROWS).map(|_| row(&["q"]));
    let long = (0..ROWS).map(|index| row(&["q", &format!("a{index}")]));
    let longest = row(&["q", "a", "r", "b"]);
    let rows: Vec<Value> = short.chain(long).chain([longest]).collect();
    let (report, written) = convert(folder.path(), &[&rows], &[]);
    assert_eq!(report.merged, ROWS as u64);
    assert_eq!(written, rows[ROWS..]);
    assert!(report.merges.iter().all(|merge| merge.into_line == 2 * ROWS as u64 + 1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Exactly the rows that are the beginning of no longer row are written, in their order.
    #[test]
    fn the_longest_rows_remain(
        files in prop::collection::vec(prop::collection::vec(prop::collection::vec(0..2_usize, 1..5), 0..8), 1..4),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let words = |row: &Vec<usize>| row.iter().map(|&word| ["so", "no"][word]).collect::<Vec<_>>();
        let files: Vec<Vec<Vec<&str>>> =
            files.iter().map(|rows| rows.iter().map(words).collect()).collect();
        let all: Vec<&Vec<&str>> = files.iter().flatten().collect();
        let grown = |short: &Vec<&str>| all.iter().any(|long| long.len() > short.len() && long.starts_with(short));
        let expected: Vec<Value> = all.iter().filter(|words| !grown(words)).map(|words| row(words)).collect();
        let rows: Vec<Vec<Value>> =
            files.iter().map(|rows| rows.iter().map(|words| row(words)).collect()).collect();
        let rows: Vec<&[Value]> = rows.iter().map(Vec::as_slice).collect();
        let (report, written) = convert(folder.path(), &rows, &[]);
        prop_assert_eq!(report.written + report.merged, report.rows);
        prop_assert_eq!(report.written as usize, written.len());
        prop_assert_eq!(written, expected);
    }
}
