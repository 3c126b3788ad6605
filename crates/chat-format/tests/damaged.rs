//! Files that are not what they should be: refused with the place, nothing half-written, and by every reader alike.

use std::fs;
use std::io::Write;
use std::path::Path;

use chat_format::clean::{self, Options, Strictness};
use chat_format::jsonl;
use serde_json::{Value, json};

const GOOD: &str = r#"{"messages":[{"role":"user","content":"q"}]}"#;

/// What the two readers say about a file. The lenient strictness leaves out lines that are not JSON, so it is not used here.
fn refusals(folder: &Path, bytes: &[u8]) -> [String; 2] {
    let (input, output) = (folder.join("raw"), folder.join("clean.jsonl"));
    fs::write(&input, bytes).unwrap();
    let converted = clean::convert(&input, &output, Options::default(), Strictness::Refuse);
    assert_eq!(fs::read_dir(folder).unwrap().count(), 1, "nothing half-written");
    let read = jsonl::Reader::open(&input).and_then(|rows| rows.collect::<Result<Vec<_>, _>>());
    [converted.unwrap_err().to_string(), read.unwrap_err().to_string()]
}

#[test]
fn what_is_not_json_is_refused_with_line_and_column() {
    let folder = tempfile::tempdir().unwrap();
    let deep = "[".repeat(200);
    let text = |inside: &[u8]| [b"{\"text\": \"", inside, b"\"}"].concat();
    // The row, and the column behind what is wrong.
    let many: Vec<String> = (0..50).chain([40]).map(|key| format!("\"k{key}\": 0")).collect();
    let many = format!("{{{}}}", many.join(", "));
    let cases: [(&[u8], u64, &str); 28] = [
        (b"{", 1, "the end of the row inside an object"),
        (b"{\"a\": 1,}", 9, "a comma with nothing behind it"),
        (b"{\"a\": 01}", 8, "\"01\" where a value should be"),
        (b"{\"a\": 1e999}", 11, "a number that is too large"),
        (b"{\"a\": -}", 8, "\"-\" where a value should be"),
        (b"{\"a\": NaN}", 7, "NaN, which JSON has no way to write"),
        (b"{\"a\": -Infinity}", 8, "-Infinity, which JSON has no way to write"),
        (b"{\"a\" 1}", 6, "no `:` after a key"),
        (b"{\"a\": 1 \"b\": 2}", 9, "neither `,` nor `}` after a value"),
        (b"{'a': 1}", 2, "a key that is not in double quotes"),
        (b"{a: 1}", 2, "a key that is not in double quotes"),
        (b"{\"a\": tru}", 10, "\"tru\" where a value should be"),
        (b"{} x", 4, "more text behind the value: \"x\""),
        (b"{}\x0c", 3, "more text behind the value: \"\\u{c}\""),
        (b"{\"a\": \"b", 8, "the end of the row inside a string"),
        (&text(b"a\tb"), 12, "control character inside a string"),
        (&text(b"\\x"), 12, "a backslash that begins no escape"),
        (&text(b"\\u12"), 16, "a backslash that begins no escape"),
        (&text(b"\\ud800"), 17, "half of an emoji"),
        (&text(b"\\udc00 low"), 16, "half of an emoji"),
        (&text(b"caf\xe9"), 14, "bytes that are not UTF-8"),
        (deep.as_bytes(), 128, "nested too deeply"),
        // Most parsers keep one of the values, and the first digits of the number.
        (b"{\"a\": 1, \"b\": 2, \"a\": 1}", 24, "the key \"a\" twice in one object"),
        (b"{\"a\": 1, \"\\u0061\": 2}", 21, "the key \"a\" twice in one object"),
        (b"{\"c\": [{\"a\": {}, \"a\": {}}]}", 25, "the key \"a\" twice in one object"),
        (many.as_bytes(), 500, "the key \"k40\" twice in one object"),
        (b"{\"a\": 18446744073709551616}", 26, "a number beyond 64 bits"),
        (b"{\"a\": -9223372036854775809}", 26, "a number beyond 64 bits"),
    ];
    let mut wrong = Vec::new();
    for (row, column, reason) in cases {
        let shown = String::from_utf8_lossy(row);
        let file = [GOOD.as_bytes(), b"\n\n", row, b"\n", GOOD.as_bytes(), b"\n"].concat();
        let place = format!("raw:3:{column}: expected JSON, found ");
        for refusal in refusals(folder.path(), &file) {
            if !refusal.contains(&place) || !refusal.contains(reason) {
                wrong.push(format!("{shown}: {refusal}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A row of a call whose arguments are this text, cleaned.
fn arguments(text: &str) -> Value {
    let call = json!({ "function": { "name": "pay", "arguments": text } });
    let turn = json!({ "role": "assistant", "tool_calls": [call] });
    let row = json!({ "messages": [{ "role": "user", "content": "q" }, turn] });
    let (chat, _) = clean::row(row, Options::default()).unwrap();
    chat.messages[1].tool_calls[0].arguments.clone()
}

#[test]
fn arguments_are_decoded_only_if_nothing_of_them_is_lost() {
    let whole = r#"{"n": 18446744073709551615, "m": -9223372036854775808, "x": 0.1}"#;
    assert_eq!(arguments(whole), json!({ "n": u64::MAX, "m": i64::MIN, "x": 0.1 }));
    assert_eq!(arguments(r#"{"n": 6.02e23, "m": -1e300}"#), json!({ "n": 6.02e23, "m": -1e300 }));
    for kept in
        [r#"{"n": 18446744073709551616}"#, r#"{"n": 1, "n": 2}"#, r#"{"o": {"n": 1, "n": 2}}"#]
    {
        assert_eq!(arguments(kept), json!(kept));
    }
}

/// A file with one row of every kind that cannot be read: under the lenient strictness it is read to its end, and each of
/// these rows is set aside with its place, the reason and its own bytes.
#[test]
fn odd_lines_are_set_aside_and_the_others_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (input, output, aside) = (path("raw.jsonl"), path("clean.jsonl"), path("refused.jsonl"));
    let chat =
        |words: &str| format!("{{\"messages\":[{{\"role\":\"user\",\"content\":\"{words}\"}}]}}");
    // The row, its field, and a part of the reason.
    let odd: [(Vec<u8>, &str, &str); 7] = [
        (chat(r"wave \ud83d").into(), "", "half of an emoji"),
        (chat(r"wave \ud83d ").into(), "", "half of an emoji"),
        (
            format!("{},\"score\":NaN}}", &GOOD[..GOOD.len() - 1]).into(),
            "",
            "NaN, which JSON has no way to write",
        ),
        (
            format!("{},\"score\":-Infinity}}", &GOOD[..GOOD.len() - 1]).into(),
            "",
            "-Infinity, which JSON has no way to write",
        ),
        (b"{\"text\": \"caf\xe9\"}".to_vec(), "", "bytes that are not UTF-8"),
        (
            br#"{"messages":[{"role":"narrator","content":"x"}]}"#.to_vec(),
            "messages[0].role",
            "narrator",
        ),
        // The last line, cut off.
        (GOOD.as_bytes()[..GOOD.len() - 9].to_vec(), "", "the end of the row inside"),
    ];
    let file: Vec<Vec<u8>> =
        odd.iter().map(|(row, ..)| [GOOD.as_bytes(), b"\n", row].concat()).collect();
    fs::write(&input, file.join(&b"\n"[..])).unwrap();
    let converter = clean::Converter::new(Options::default()).refused(&aside);
    let report = converter.convert(&input, &output).unwrap();
    assert_eq!((report.rows, report.written, report.refused), (14, 7, 7));
    assert_eq!(report.refused_share(), 0.5);
    assert_eq!(jsonl::Reader::open(&output).unwrap().count(), 7);
    let entries: Vec<_> =
        jsonl::Reader::open(&aside).unwrap().map(|row| row.unwrap().value).collect();
    assert_eq!(entries.len(), 7);
    for (index, ((row, field, reason), entry)) in odd.iter().zip(&entries).enumerate() {
        assert_eq!(entry["file"], input.display().to_string());
        assert_eq!(entry["line"], 2 * index + 2);
        assert_eq!(entry["field"], *field);
        assert!(entry["reason"].as_str().unwrap().contains(reason), "{entry}");
        match entry.get("text") {
            Some(text) => assert_eq!(text.as_str().unwrap().as_bytes(), row),
            None => assert_eq!(entry["base64"], "eyJ0ZXh0IjogImNhZukifQ=="),
        }
    }
    // The file is refused as a whole where that is wanted, and neither file is touched.
    let (clean, refused) = (fs::read(&output).unwrap(), fs::read(&aside).unwrap());
    fs::write(&input, &odd[0].0).unwrap();
    let strict = converter.strictness(Strictness::Refuse);
    let error = strict.convert(&input, &output).unwrap_err().to_string();
    assert!(error.contains("raw.jsonl:1:") && error.contains("half of an emoji"), "{error}");
    assert_eq!((fs::read(&output).unwrap(), fs::read(&aside).unwrap()), (clean, refused));
}

#[test]
fn lists_of_messages_and_objects_over_several_lines_are_rows() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("raw"), folder.path().join("clean.jsonl"));
    let list = r#"[{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]"#;
    let pretty = |text: &str| {
        serde_json::to_string_pretty(&serde_json::from_str::<serde_json::Value>(text).unwrap())
            .unwrap()
    };
    let object = format!("{{\"messages\": {list}}}");
    let cases = [
        ("a list a line", format!("{list}\n{list}\n"), 2),
        ("one list", list.to_owned(), 1),
        ("one list over several lines", pretty(list), 1),
        ("a list of lists", format!("[{list},\n{list}]"), 2),
        ("one object over several lines", pretty(&object), 1),
        ("two objects over several lines", format!("{0}\n{0}\n", pretty(&object)), 2),
        ("a list of objects", format!("[{object}, {object}]"), 2),
        // The first line was cut off; the others are rows all the same.
        ("a torn first line", format!("{}\n{object}\n{object}\n", &object[..30]), 2),
    ];
    for (name, text, rows) in cases {
        fs::write(&input, text).unwrap();
        let report = clean::convert(&input, &output, Options::default(), Strictness::LeaveOut);
        assert_eq!(report.unwrap().written, rows, "{name}");
        let expected = format!("{object}\n").repeat(rows as usize);
        assert_eq!(fs::read_to_string(&output).unwrap(), expected, "{name}");
    }
}

#[test]
fn other_encodings_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let units = GOOD.encode_utf16();
    for utf16 in [
        [&[0xff, 0xfe][..], &units.clone().flat_map(u16::to_le_bytes).collect::<Vec<_>>()].concat(),
        [&[0xfe, 0xff][..], &units.clone().flat_map(u16::to_be_bytes).collect::<Vec<_>>()].concat(),
    ] {
        for refusal in refusals(folder.path(), &utf16) {
            assert!(refusal.contains("raw:1:1: expected JSON, found UTF-16"), "{refusal}");
        }
    }
}

fn gzip(text: &str) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(text.as_bytes()).unwrap();
    gzip.finish().unwrap()
}

fn zstd(text: &str) -> Vec<u8> {
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};
    compress_to_vec(text.as_bytes(), CompressionLevel::Fastest)
}

/// Rows that do not shrink to nothing.
fn rows(count: u32) -> String {
    let word = |n: u32| n.wrapping_mul(2_654_435_761) ^ (n << 7);
    let row = |n| {
        format!(
            "{{\"messages\":[{{\"role\":\"user\",\"content\":\"{} {}\"}}]}}\n",
            word(n),
            word(n + 1)
        )
    };
    (0..count).map(row).collect()
}

#[test]
fn damaged_archives_say_how_far_they_could_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let text = rows(20_000);
    for (format, whole) in [("gzip", gzip(&text)), ("zstd", zstd(&text))] {
        let cut = whole[..whole.len() * 2 / 3].to_vec();
        // The checksum at the end notices what decodes all the same.
        let (mut flipped, last) = (whole.clone(), whole.len() - 2);
        flipped[last] ^= 1;
        let garbage = [&whole[..], b"and more"].concat();
        for damaged in [cut, flipped, garbage] {
            for refusal in refusals(folder.path(), &damaged) {
                let (place, rest) =
                    refusal.split_once(&format!(": damaged {format} after ")).expect(&refusal);
                let line: u64 = place.rsplit(':').nth(1).unwrap().parse().unwrap();
                let bytes: usize = rest.split_once(" bytes of text: ").unwrap().0.parse().unwrap();
                assert!(bytes <= text.len(), "{refusal}");
                let lines = text.as_bytes()[..bytes].iter().filter(|&&byte| byte == b'\n').count();
                assert!(line <= lines as u64 + 1, "{refusal}");
            }
        }
        fs::write(folder.path().join("raw"), &whole).unwrap();
        let read = jsonl::Reader::open(folder.path().join("raw")).unwrap().count();
        assert_eq!(read, 20_000, "{format}");
    }
}

#[test]
fn frames_that_only_note_sizes_are_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("raw");
    let note = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
    let (first, second) = (zstd(&rows(2)), zstd(&rows(3)));
    fs::write(&path, [&first[..], &note, &second, &note].concat()).unwrap();
    assert_eq!(jsonl::Reader::open(&path).unwrap().map(Result::unwrap).count(), 5);
}

/// Rows longer than a block, line ends of either kind, blank lines anywhere, no line end at the end.
#[test]
fn rows_come_out_whole_whatever_their_length() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("raw"), folder.path().join("clean.jsonl"));
    let lengths = [1, 5 << 20, 70_000, 3, 9 << 20, 12];
    let row = |&length: &usize| {
        format!("{{\"messages\":[{{\"role\":\"user\",\"content\":\"{}\"}}]}}", "x".repeat(length))
    };
    let text = lengths.iter().map(row).collect::<Vec<_>>().join("\r\n \n\n");
    fs::write(&input, format!("\u{feff}\n{text}")).unwrap();
    let report = clean::convert(&input, &output, Options::default(), Strictness::Refuse).unwrap();
    assert_eq!(report.rows, lengths.len() as u64);
    let read = jsonl::Reader::open(&output).unwrap().conversations();
    let found: Vec<usize> = read.map(|chat| chat.unwrap().messages[0].content.len()).collect();
    assert_eq!(found, lengths);
}

/// A line of 100 MB is set aside with its beginning, in bounded memory, and the lines after it are read.
#[test]
fn endless_lines_are_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for (long, ends) in [(100 << 20, true), ((64 << 20) + 1, true), (100 << 20, false)] {
        let mut file = std::io::BufWriter::new(fs::File::create(path("raw")).unwrap());
        writeln!(file, "{GOOD}").unwrap();
        file.write_all(&vec![b'x'; long]).unwrap();
        if ends {
            write!(file, "\n{{}}\n{GOOD}").unwrap();
        }
        drop(file);
        let converter = clean::Converter::new(Options::default()).refused(path("aside"));
        let report = converter.convert(path("raw"), path("clean")).unwrap();
        assert_eq!((report.written, report.refused), if ends { (2, 2) } else { (1, 1) });
        assert_eq!(report.refusals.last().unwrap().line, if ends { 3 } else { 2 });
        let reason = &report.refusals[0].reason;
        assert!(
            reason.contains(&format!("found one of {long}, of which the first 1000")),
            "{reason}"
        );
        let aside = jsonl::Reader::open(path("aside")).unwrap().next().unwrap().unwrap().value;
        assert_eq!(aside["text"], "x".repeat(1000));
    }
}
