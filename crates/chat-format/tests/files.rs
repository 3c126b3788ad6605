//! Files of raw rows: lines, arrays, archives, and rows that cannot be read.

#[path = "common/chats.rs"]
mod chats;

use std::io::Write;

use chat_format::clean::{self, Options, Origin, Strictness};
use chat_format::{Role, jsonl};
use proptest::prelude::*;
use serde_json::{Value, json};

use chats::{content, turns};

#[test]
fn the_seed_example_byte_for_byte() {
    let before = r#"{"messages": [{"role": "user", "content": "<|im_start|>system\nYou are windu...<|im_end|>\n<|im_start|>user\nScan the network<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\nRunning scan...<|im_end|>"}]}"#;
    let after = r#"{"messages": [{"role": "system", "content": "You are windu..."}, {"role": "user", "content": "Scan the network"}, {"role": "assistant", "content": "Running scan..."}]}"#;
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("raw.jsonl"), folder.path().join("clean.jsonl"));
    std::fs::write(&input, before).unwrap();
    let report = clean::convert(&input, &output, Options::default(), Strictness::Refuse).unwrap();
    assert_eq!(std::fs::read_to_string(&output).unwrap(), format!("{after}\n"));
    assert_eq!((report.rows, report.written, report.refused), (1, 1, 0));
    assert_eq!(report.notes.families["ChatML"], 1);
    assert_eq!(report.notes.removed["<|im_start|>"], 3);
    assert_eq!(report.notes.reasoning, 1);
}

/// One row over several buffers and lines, in an array.
#[test]
fn arrays_and_compressed_files_are_read_like_lines() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows");
    let row = |n: usize| json!({"messages": [{"role": "user", "content": format!("}}]\\\"{n} {}", "x".repeat(300_000))}]});
    let rows = [row(1), row(2), row(3)];
    let lines = rows.iter().map(|row| format!("{row}\n")).collect::<String>();
    let array = serde_json::to_string_pretty(&rows).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(lines.as_bytes()).unwrap();
    let zstd = |text: &str| {
        use ruzstd::encoding::{CompressionLevel, compress_to_vec};
        compress_to_vec(text.as_bytes(), CompressionLevel::Fastest)
    };
    let (first, rest) = lines.split_at(lines.find('\n').unwrap() + 1);
    let cases = [
        ("lines", lines.clone().into_bytes()),
        ("array", array.into_bytes()),
        ("gzip", gzip.finish().unwrap()),
        ("zstd of two frames", [zstd(first), zstd(rest)].concat()),
    ];
    for (name, bytes) in cases {
        std::fs::write(&path, &bytes).unwrap();
        let read: Vec<Value> =
            jsonl::Reader::open(&path).unwrap().map(|row| row.unwrap().value).collect();
        assert_eq!(read, rows, "{name}");
        if name != "lines" {
            std::fs::write(&path, &bytes[..bytes.len() - 20]).unwrap();
            let last = jsonl::Reader::open(&path).unwrap().last().unwrap();
            assert!(last.unwrap_err().to_string().contains("rows"), "{name} cut short");
        }
    }
}

/// An element that is odd or not JSON, and an array that is not closed: an error that names the place. The others are read.
#[test]
fn broken_arrays_say_where() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.json");
    for (text, expected, read) in [
        ("[{}", "rows.json:1: expected `]`, the end of the array, found the end of the file", 1),
        (
            "[{\"a\": \"",
            "rows.json:1: `[0]`: expected JSON, found the end of the row inside a str",
            0,
        ),
        ("[{}] x", "rows.json:1:1: expected JSON, found \"x\" where a value should be", 1),
        ("[{\"a\":\n oops}]", "rows.json:2: `[0]`: expected JSON, found \"oops\" where a value", 0),
        ("[{}, oops, 1]", "rows.json:1: `[1]`: expected JSON, found \"oops\" where a value", 2),
        (
            "[\n{\"a\":1},\n{]}\n,{\"a\":2}]",
            "rows.json:3: `[1]`: expected JSON, found a key that is not in double",
            2,
        ),
        (
            "[\n{\"a\":1},\n{\"a\":[1},\n{\"a\":2}]",
            "rows.json:3: `[1]`: expected JSON, found neither `,` nor `]`",
            2,
        ),
        // Nothing tells where the next element would begin.
        (
            "[1 2]",
            "rows.json:1:1: expected JSON, found text that is no element, and none before it",
            0,
        ),
    ] {
        std::fs::write(&path, text).unwrap();
        let rows: Vec<_> = jsonl::Reader::open(&path).unwrap().collect();
        let error = rows.iter().find_map(|row| row.as_ref().err()).unwrap().to_string();
        assert!(error.contains(expected), "{text}: {error}");
        assert_eq!(rows.iter().filter(|row| row.is_ok()).count(), read, "{text}");
    }
    // Commas too few or too many, and arrays that follow each other, lose nothing.
    for text in ["[{\"a\":1} {\"a\":2}]", "[{\"a\":1},,{\"a\":2},]", "[{\"a\":1}] [{\"a\":2}]"] {
        std::fs::write(&path, text).unwrap();
        let rows: Vec<_> =
            jsonl::Reader::open(&path).unwrap().map(|row| row.unwrap().value).collect();
        assert_eq!(rows, [json!({"a": 1}), json!({"a": 2})], "{text}");
    }
}

/// An export over many lines that was edited by hand: a quotation mark too many costs one row, also without the end of the file.
#[test]
fn one_row_of_an_indented_array_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let row = |n: usize| json!({"id": n, "messages": [{"id": n, "role": "user", "content": format!("say w{n} twice")}]});
    let rows: Vec<Value> = (0..6).map(row).collect();
    let pretty = serde_json::to_string_pretty(&rows).unwrap();
    let broken = pretty.replace("w2", "\"w2").replace("w4", "\\ w4");
    for text in [&broken[..], &broken[..broken.len() - 40]] {
        std::fs::write(path("rows.json"), text).unwrap();
        let converter = clean::Converter::new(Options::default()).refused(path("refused"));
        let report = converter.convert(path("rows.json"), path("clean")).unwrap();
        let read: Vec<_> = jsonl::Reader::open(path("clean"))
            .unwrap()
            .map(|row| row.unwrap().value["id"].clone())
            .collect();
        let whole = text.len() == broken.len();
        assert_eq!(read, if whole { vec![0, 1, 3, 5] } else { vec![0, 1, 3] });
        let refused: Vec<_> =
            report.refusals.iter().map(|refusal| (refusal.line, &refusal.field[..])).collect();
        let all = [(22, "[2]"), (42, "[4]"), (52, "[5]")];
        assert_eq!(refused, all[..if whole { 2 } else { 3 }]);
    }
}

/// What an array may hold in place of a row, and whether its end can be seen.
const ODD: [(&str, bool); 8] = [
    ("null", true),
    ("17", true),
    ("\"a text, [with] {brackets}\"", true),
    ("oops", true),
    (r#"{"messages":[{"role":"user","content":NaN}]}"#, true),
    (r#"{"messages":[{"role":"user","content":"q"]}"#, false),
    (r#"{"messages":[{"role":"user","content":"he said "hi"}]}"#, false),
    (r#"{"messages":[{"role":"user","content":"#, false),
];

proptest! {
    /// Whatever is wrong with an element, the others are read, and it is named: its index, and its own text.
    #[test]
    fn an_array_loses_its_odd_elements_alone(
        elements in prop::collection::vec(prop::option::weighted(0.3, prop::sample::select(&ODD[..])), 1..30),
        between in prop::sample::select(vec![",", ",\n", "\n,\n  ", " , "]),
    ) {
        // The form of a row is seen in the first one.
        let row = |n: usize| format!(r#"{{"messages":[{{"role":"user","content":"q{n}"}}]}}"#);
        let (mut texts, mut good, mut odd) = (vec![row(0)], vec![row(0)], Vec::new());
        let (mut index, mut open) = (1, false);
        for (n, element) in elements.iter().enumerate() {
            let (text, closed) = element.map_or((row(n), true), |(odd, closed)| (odd.to_owned(), closed));
            texts.push(text.clone());
            // Behind an element without an end, only what begins as the first row does is seen as another one.
            if open && !text.starts_with(r#"{"messages":"#) {
                continue;
            }
            match element {
                None => good.push(text),
                Some(_) => odd.push((index, text)),
            }
            (index, open) = (index + 1, !closed);
        }
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("rows.json"), format!("[{}]\n", texts.join(between))).unwrap();
        let converter = clean::Converter::new(Options::default()).refused(path("refused"));
        let report = converter.convert(path("rows.json"), path("clean")).unwrap();

        let read = |name| jsonl::Reader::open(path(name)).unwrap().map(|row| row.unwrap().value);
        let good: Vec<Value> = good.iter().map(|row| serde_json::from_str(row).unwrap()).collect();
        prop_assert_eq!(read("clean").collect::<Vec<_>>(), good);
        prop_assert_eq!(report.refused as usize, odd.len());
        for (entry, (index, text)) in read("refused").zip(odd) {
            let field = entry["field"].as_str().unwrap();
            prop_assert!(field.starts_with(&format!("[{index}]")), "{entry}");
            prop_assert!(entry["text"].as_str().unwrap().starts_with(&text), "{entry}");
        }
    }
}

#[test]
fn a_file_with_bad_rows() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("raw.jsonl"), folder.path().join("clean.jsonl"));
    let good = r#"{"messages":[{"role":"user","content":"q"}]}"#;
    std::fs::write(&input, format!("\u{feff}{good}\r\n\n   \n{{\"x\":1}}\n{good}\n")).unwrap();
    let convert = |strictness| clean::convert(&input, &output, Options::default(), strictness);

    let error = convert(Strictness::Refuse).unwrap_err().to_string();
    assert!(error.contains("raw.jsonl:4: expected `messages`"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing half-written");

    let report = convert(Strictness::LeaveOut).unwrap();
    assert_eq!((report.rows, report.written, report.refusals[0].line), (3, 2, 4));

    // Once, a line that is not JSON ended the file under either strictness.
    std::fs::write(&input, format!("{good}\n{{\"messages\": [}}\n")).unwrap();
    let error = convert(Strictness::Refuse).unwrap_err().to_string();
    assert!(error.contains("raw.jsonl:2:15: expected JSON"), "{error}");
    let report = convert(Strictness::LeaveOut).unwrap();
    assert_eq!((report.written, report.refused), (1, 1));
    assert!(report.refusals[0].reason.contains("(column 15)"), "{:?}", report.refusals);
}

#[test]
fn a_file_may_mix_families_and_rows_may_keep_theirs() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("raw.jsonl"), folder.path().join("clean.jsonl"));
    let rows = [
        ("ChatML", "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\na<|im_end|>"),
        ("Gemma 4", "<bos><|turn>user\nq<turn|>\n<|turn>model\na<turn|>\n"),
        ("Gemma", "<start_of_turn>user\nq<end_of_turn>\n<start_of_turn>model\na<end_of_turn>"),
        ("Llama 2 and Mistral", "<s>[INST] q [/INST] a</s>"),
        ("ChatML", "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\na<|im_end|>"),
    ];
    let lines = rows.map(|(_, text)| content(text).to_string());
    std::fs::write(&input, lines.join("\n")).unwrap();
    for origin in [Origin::Forget, Origin::Keep] {
        let options = Options::default().origin(origin);
        let report = clean::convert(&input, &output, options, Strictness::Refuse).unwrap();
        assert_eq!(report.notes.families["ChatML"], 2);
        assert_eq!(report.notes.families.len(), 4);
        let chats = jsonl::Reader::open(&output).unwrap().conversations().map(Result::unwrap);
        for (chat, (family, _)) in chats.zip(rows) {
            assert_eq!(turns(&chat), [(Role::User, "q"), (Role::Assistant, "a")]);
            let kept = (origin == Origin::Keep).then_some(family);
            assert_eq!(chat.meta.get("markup").and_then(Value::as_str), kept);
        }
    }
}
