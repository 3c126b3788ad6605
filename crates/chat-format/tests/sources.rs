//! Every row of several files is accounted for: clean with its place, refused with its place, or merged with its place.

use std::collections::BTreeSet;
use std::fs;

use chat_format::clean::{Converter, Inputs, MARKUP, Options, Origin, SOURCE_ROW};
use chat_format::jsonl;
use proptest::prelude::*;
use serde_json::{Value, json};

#[derive(Clone, Debug)]
enum Line {
    Chat(u8, u8),
    Marked(u8),
    Named(u8),
    Torn,
    Wizard,
    Blank,
}

impl Line {
    fn text(&self) -> String {
        let turn = |role: &str, text: String| json!({ "role": role, "content": text });
        match self {
            Line::Chat(about, rounds) => {
                let round = |n: u8| {
                    [
                        turn("user", format!("{about}, part {n}?")),
                        turn("assistant", "Ja \"so\".".into()),
                    ]
                };
                let turns: Vec<_> = (0..=*rounds).flat_map(round).collect();
                json!({ "messages": turns }).to_string()
            }
            Line::Marked(about) => {
                let text = format!(
                    "<|im_start|>user\n{about}?<|im_end|>\n<|im_start|>assistant\nJa.<|im_end|>"
                );
                json!({ "text": text, "kind": "marked" }).to_string()
            }
            Line::Named(about) => {
                let turns = [
                    turn("user", format!("{about}: \"source_row\":")),
                    turn("assistant", "Ja.".into()),
                ];
                json!({ "messages": turns, SOURCE_ROW: "elsewhere:1", "z": 1 }).to_string()
            }
            Line::Torn => r#"{"messages": [{"role": "user", "con"#.to_owned(),
            Line::Wizard => r#"{"messages": [{"role": "wizard", "content": "Hm"}]}"#.to_owned(),
            Line::Blank => String::new(),
        }
    }
}

fn lines() -> impl Strategy<Value = Vec<Line>> {
    let line = prop_oneof![
        4 => (0..4_u8, 0..3_u8).prop_map(|(about, rounds)| Line::Chat(about, rounds)),
        2 => (0..9_u8).prop_map(Line::Marked),
        1 => (0..9_u8).prop_map(Line::Named),
        1 => Just(Line::Torn),
        1 => Just(Line::Wizard),
        1 => Just(Line::Blank),
    ];
    prop::collection::vec(line, 0..12)
}

fn read(path: &std::path::Path) -> Vec<Value> {
    jsonl::Reader::open(path).unwrap().map(|row| row.unwrap().value).collect()
}

/// How the rows of a file are laid out.
#[derive(Debug, Clone, Copy)]
enum Layout {
    Lines,
    /// An array on one line.
    Array,
    /// An array with an element a line.
    Indented,
}

/// The text of a file, and the place of each of its rows.
fn file(lines: &[Line], layout: Layout) -> (String, Vec<String>) {
    if let Layout::Lines = layout {
        let rows = lines.iter().enumerate().filter(|(_, line)| !matches!(line, Line::Blank));
        let places = rows.map(|(line, _)| (line + 1).to_string()).collect();
        return (lines.iter().map(|line| line.text() + "\n").collect(), places);
    }
    let element = |line: &Line| match line {
        Line::Blank => None,
        // Where a cut element ends is another question.
        Line::Torn => Some("{\"score\": NaN}".to_owned()),
        _ => Some(line.text()),
    };
    let elements: Vec<String> = lines.iter().filter_map(element).collect();
    let place = |element: usize| match layout {
        Layout::Indented => format!("{}[{element}]", element + 2),
        _ => format!("1[{element}]"),
    };
    let places = (0..elements.len()).map(place).collect();
    match layout {
        Layout::Indented => (format!("[\n  {}\n]\n", elements.join(",\n  ")), places),
        _ => (format!("[{}]", elements.join(", ")), places),
    }
}

/// The place that an entry of a list names: in an array with the element, which a problem's field begins with.
fn place(entry: &Value, line: &str, element: &str) -> String {
    let named = entry.get(element).map(|element| format!("[{element}]"));
    let field = entry.get("field").and_then(Value::as_str).filter(|field| field.starts_with('['));
    let in_field = field.map(|field| format!("{}]", field.split(']').next().unwrap()));
    format!("{}{}", entry[line], named.or(in_field).unwrap_or_default())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]
    /// Every row is written, set aside or merged, and named by its place to the element.
    #[test]
    fn no_row_is_lost(
        files in prop::collection::vec(
            (lines(), prop::sample::select(vec![Layout::Lines, Layout::Array, Layout::Indented])),
            1..4,
        ),
        keep in any::<bool>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let logs = folder.path().join("my logs ü");
        fs::create_dir(&logs).unwrap();
        let mut expected = BTreeSet::new();
        for (index, (lines, layout)) in files.iter().enumerate() {
            let name = format!("{index}.jsonl");
            let (text, places) = file(lines, *layout);
            fs::write(logs.join(&name), text).unwrap();
            expected.extend(places.iter().map(|place| format!("my logs ü/{name}:{place}")));
        }
        let at = |name: &str| folder.path().join(name);
        let origin = if keep { Origin::Keep } else { Origin::Forget };
        let converter = Converter::new(Options::default().origin(origin))
            .refused(at("refused.jsonl"))
            .merge_grown(["agent"])
            .merged(at("merged.jsonl"))
            .sources(folder.path());
        let inputs = Inputs::find([&logs]).unwrap();
        converter.convert_all(inputs, at("clean.jsonl")).unwrap();

        let mut places = Vec::new();
        for row in read(&at("clean.jsonl")) {
            let named = row.as_object().unwrap().keys().filter(|key| *key == SOURCE_ROW).count();
            prop_assert_eq!(named, 1);
            prop_assert!(row.get(MARKUP).is_none() || keep);
            places.push(row[SOURCE_ROW].as_str().unwrap().to_owned());
        }
        for row in read(&at("refused.jsonl")).into_iter().chain(read(&at("merged.jsonl"))) {
            places.push(format!("{}:{}", row["file"].as_str().unwrap(), place(&row, "line", "element")));
            let into = row.get("into_file").map(|file| {
                format!("{}:{}", file.as_str().unwrap(), place(&row, "into_line", "into_element"))
            });
            prop_assert!(into.is_none_or(|into| expected.contains(&into)));
        }
        let once: BTreeSet<String> = places.iter().cloned().collect();
        prop_assert_eq!(once.len(), places.len());
        prop_assert_eq!(once, expected);
    }
}
