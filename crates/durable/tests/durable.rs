//! What a caller relies on: whole files, one-line records, digests that round-trip.

use std::fs;

use durable::{Digest, Error, append_line, digest, sha256_file, write, write_json};

#[test]
fn a_write_replaces_the_whole_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.txt");
    write(&path, "a long first version").unwrap();
    write(&path, "short").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "short");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "a temporary file was left");
}

#[test]
fn a_missing_folder_is_an_error_that_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("no/such/folder/a.txt");
    let error = write(&path, "x").unwrap_err();
    assert_eq!(error.path(), path);
    assert!(error.to_string().contains("no/such/folder/a.txt: cannot write"), "{error}");
}

#[test]
fn a_value_without_json_form_leaves_the_old_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.json");
    write(&path, "old").unwrap();
    let keyed_by_lists = std::collections::BTreeMap::from([(vec![1], 2)]);
    assert!(matches!(write_json(&path, &keyed_by_lists), Err(Error::Json { .. })));
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
}

#[test]
fn a_log_keeps_one_record_a_line_even_after_a_torn_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.jsonl");
    append_line(&path, "first").unwrap();
    // What a crash in the middle of a write leaves.
    fs::write(&path, "first\nseco").unwrap();
    append_line(&path, "third").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "first\nseco\nthird\n");
    for broken in ["a\nb", "a\r"] {
        assert!(matches!(append_line(&path, broken), Err(Error::LineBreak { at: 1, .. })));
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), "first\nseco\nthird\n");
}

#[cfg(unix)]
#[test]
fn files_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    for (name, make) in [
        ("whole", (|p| write(p, "x")) as fn(&std::path::Path) -> durable::Result<()>),
        ("log", |p| append_line(p, "x")),
    ] {
        let path = dir.path().join(name);
        make(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
}

#[test]
fn digests_are_sha256() {
    // FIPS 180-4's own example.
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(digest("abc").to_string(), abc);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("abc");
    write(&path, "abc").unwrap();
    assert_eq!(sha256_file(&path).unwrap().to_string(), abc);

    let read: Digest = abc.parse().unwrap();
    assert_eq!(read, digest("abc"));
    let json = serde_json::to_string(&read).unwrap();
    assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), read);
    let short = &abc[1..];
    let signed = format!("+{short}");
    let long = format!("{abc}0");
    for bad in ["", "abc", short, &signed, &long, &"ä".repeat(32)] {
        assert!(bad.parse::<Digest>().is_err(), "{bad:?}");
    }
}
