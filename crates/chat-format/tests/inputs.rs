//! Several files and folders as one input.

use std::fs;
use std::path::Path;

use chat_format::clean::{Converter, Inputs, Options, SkipReason, Strictness};
use chat_format::jsonl;
use proptest::prelude::*;

fn row(words: &str) -> String {
    format!("{{\"messages\":[{{\"role\":\"user\",\"content\":\"{words}\"}}]}}\n")
}

/// Writes files under `folder`, each with one row that holds its name.
fn write(folder: &Path, names: &[&str]) {
    for name in names {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, row(name)).unwrap();
    }
}

/// The names under `folder`, and why the others were skipped.
fn found(folder: &Path, inputs: &Inputs) -> (Vec<String>, Vec<(String, SkipReason)>) {
    let name =
        |path: &Path| path.strip_prefix(folder).unwrap().to_str().unwrap().replace('\\', "/");
    let files = inputs.files.iter().map(|file| name(&file.path)).collect();
    (files, inputs.skipped.iter().map(|skipped| (name(&skipped.path), skipped.reason)).collect())
}

#[test]
fn folders_are_searched_in_the_order_of_names_and_name_what_they_skip() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let rows = ["a/2.jsonl", "a/B.JSON", "a/10.ndjson.gz", "b.jsonl", "a/b/1.json.zst"];
    write(root, &rows);
    write(root, &[".DS_Store", "a/._2.jsonl", ".git/x.jsonl", "a/notes.txt", "a/README", "jsonl"]);
    let inputs = Inputs::find([root]).unwrap();
    let (files, skipped) = found(root, &inputs);
    assert_eq!(files, ["a/10.ndjson.gz", "a/2.jsonl", "a/B.JSON", "a/b/1.json.zst", "b.jsonl"]);
    use SkipReason::{Hidden, UnknownEnding};
    let expected = [
        (".DS_Store", Hidden),
        (".git", Hidden),
        ("a/._2.jsonl", Hidden),
        ("a/README", UnknownEnding),
        ("a/notes.txt", UnknownEnding),
        ("jsonl", UnknownEnding),
    ];
    assert_eq!(skipped, expected.map(|(name, reason)| (name.to_owned(), reason)));
    // Whoever names a file means it; a file is read once.
    let named = [root.join("a/notes.txt"), root.join(".DS_Store"), root.join("b.jsonl")];
    let inputs = Inputs::find(named.iter().chain([&root.join("a/.."), &root.join("b.jsonl")]));
    let inputs = inputs.unwrap();
    assert_eq!(inputs.files.len(), 7);
    assert_eq!([&inputs.files[0].path, &inputs.files[1].path], [&named[0], &named[1]]);
    let repeated = inputs.skipped.iter().filter(|it| it.reason == SkipReason::Repeated);
    assert_eq!(repeated.count(), 2);
}

#[test]
fn rows_of_several_files_keep_their_order_and_their_places() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    write(folder.path(), &["in/1.jsonl", "in/2/3.json", "last"]);
    fs::write(path("in/2/4.jsonl"), format!("{}\n{{\"x\": 1}}\n{{", row("4"))).unwrap();
    fs::write(path("in/5.jsonl"), "").unwrap();
    let (output, aside) = (path("in/clean.jsonl"), path("in/refused.jsonl"));
    let converter = Converter::new(Options::default()).refused(&aside);
    // The second time, the output of the first is in the folder.
    for skipped in [0, 2] {
        let inputs = Inputs::find([path("in"), path("last")]).unwrap();
        let report = converter.convert_all(inputs, &output).unwrap();
        assert_eq!((report.rows, report.written, report.refused), (6, 4, 2));
        assert_eq!(report.skipped.len(), skipped, "{:?}", report.skipped);
        assert!(report.skipped.iter().all(|skipped| skipped.reason == SkipReason::Output));
        let rows: Vec<(&Path, u64)> =
            report.files.iter().map(|file| (file.file.as_path(), file.written)).collect();
        let names = ["in/1.jsonl", "in/2/3.json", "in/2/4.jsonl", "in/5.jsonl", "last"].map(path);
        let expected = names.iter().map(|name| name.as_path()).zip([1, 1, 1, 0, 1]);
        assert_eq!(rows, expected.collect::<Vec<_>>());
        let places: Vec<(&Path, u64)> =
            report.refusals.iter().map(|row| (row.file.as_path(), row.line)).collect();
        assert_eq!(places, [(names[2].as_path(), 3), (names[2].as_path(), 4)]);
        let chats = jsonl::Reader::open(&output).unwrap().conversations();
        let words: Vec<String> =
            chats.map(|chat| chat.unwrap().messages.remove(0).content).collect();
        assert_eq!(words, ["in/1.jsonl", "in/2/3.json", "4", "last"]);
        let entries = jsonl::Reader::open(&aside).unwrap().map(|row| row.unwrap().value);
        let places: Vec<_> =
            entries.map(|entry| (entry["file"].clone(), entry["line"].clone())).collect();
        let file = serde_json::json!(names[2].display().to_string());
        assert_eq!(places, [(file.clone(), 3.into()), (file, 4.into())]);
    }
    let strict = converter.strictness(Strictness::Refuse);
    let error = strict.convert(path("in"), path("other")).unwrap_err().to_string();
    assert!(error.contains("4.jsonl:3: expected `messages`"), "{error}");
    assert!(!path("other").exists());
}

#[test]
fn folders_without_rows_say_what_they_hold() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let error = Inputs::find([root]).unwrap_err().to_string();
    assert!(
        error.contains("expected files of rows") && error.contains("an empty folder"),
        "{error}"
    );
    write(root, &[".DS_Store", "a.txt", "b.txt", "c.txt", "d.txt"]);
    let error = Inputs::find([root]).unwrap_err().to_string();
    let expected = "found \".DS_Store\" (hidden), \"a.txt\" (no known ending), \
                    \"b.txt\" (no known ending) and 2 more";
    assert!(error.contains(expected), "{error}");
    let error = Inputs::find([root.join("none.jsonl")]).unwrap_err().to_string();
    assert!(error.contains("none.jsonl: "), "{error}");
}

#[cfg(unix)]
#[test]
fn links_are_followed_but_not_in_circles() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write(root, &["in/a.jsonl", "in/b/c.jsonl", "else/d.jsonl"]);
    symlink(root.join("in"), root.join("in/b/up")).unwrap();
    symlink(root.join("else"), root.join("in/b/x")).unwrap();
    symlink(root.join("in/a.jsonl"), root.join("in/z.jsonl")).unwrap();
    let status = std::process::Command::new("mkfifo").arg(root.join("in/p.jsonl")).status();
    let piped = status.is_ok_and(|status| status.success());
    let (files, skipped) = found(&root.join("in"), &Inputs::find([root.join("in")]).unwrap());
    assert_eq!(files, ["a.jsonl", "b/c.jsonl", "b/x/d.jsonl"]);
    use SkipReason::{LinkLoop, NotAFile, Repeated};
    let mut expected = vec![("b/up", LinkLoop), ("p.jsonl", NotAFile), ("z.jsonl", Repeated)];
    expected.retain(|(_, reason)| piped || *reason != NotAFile);
    let expected: Vec<_> =
        expected.into_iter().map(|(name, reason)| (name.to_owned(), reason)).collect();
    assert_eq!(skipped, expected);
    // A broken link is data that is missing.
    symlink(root.join("gone.jsonl"), root.join("in/gone.jsonl")).unwrap();
    let error = Inputs::find([root.join("in")]).unwrap_err().to_string();
    assert!(error.contains("gone.jsonl"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// The order of creation, which many file systems list files in, changes nothing.
    #[test]
    fn the_order_is_that_of_the_names(
        names in prop::collection::btree_set("[a-c]{1,2}(/[a-c0-9]{1,2}){0,2}\\.(jsonl|json|txt)", 1..12),
        seed in any::<u64>(),
    ) {
        let names: Vec<String> = names.into_iter().collect();
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut mixed: Vec<&str> = names.iter().map(String::as_str).collect();
        write(one.path(), &mixed);
        mixed.sort_by_key(|name| name.bytes().fold(seed, |sum, byte| {
            (sum ^ u64::from(byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17)
        }));
        write(other.path(), &mixed);
        let (first, second) = (Inputs::find([one.path()]), Inputs::find([other.path()]));
        match (first, second) {
            (Ok(first), Ok(second)) => {
                let all = found(one.path(), &first);
                prop_assert_eq!(&all, &found(other.path(), &second));
                prop_assert_eq!(all.0.len() + all.1.len(), names.len());
            }
            (first, second) => prop_assert!(first.is_err() && second.is_err()),
        }
    }
}
