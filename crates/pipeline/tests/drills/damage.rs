//! Files that are torn or changed while no night runs.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use pipeline::{Event, Home, Outcome, Registry, StageName};

use crate::support::Tiny;
use crate::{
    Round, champion_and_promotions, completes, nights, rounds, run, undisturbed, until, until_event,
};

/// Changes a file: a bit, a hole of zeros, a lost end, all of it. Returns what was done; `None` if the content is the same.
pub fn damage(round: &mut Round, path: &Path) -> Option<String> {
    let before = fs::read(path).unwrap();
    let mut bytes = before.clone();
    let at = round.draw(bytes.len());
    let what = match round.draw(4) {
        0 => {
            bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 0x55);
            "a byte changed"
        }
        1 => {
            bytes.iter_mut().skip(at).take(64).for_each(|byte| *byte = 0);
            "64 zeros"
        }
        2 => {
            bytes.truncate(at);
            "the end lost"
        }
        _ => {
            fs::remove_file(path).unwrap();
            return Some(format!("{}: deleted", path.display()));
        }
    };
    fs::write(path, &bytes).unwrap();
    (bytes != before).then(|| format!("{}: {what} at {at} of {}", path.display(), before.len()))
}

/// All files below a folder, sorted.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for item in fs::read_dir(folder).unwrap() {
        let path = item.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

/// Any file of an unfinished night but its journal. What was made of a damaged file is made again, or an error names the file.
#[test]
fn a_damaged_file_of_a_night_is_made_again() {
    for mut round in rounds("damaged", 6) {
        let tiny = Tiny::new();
        // A row that is set aside, so that no file is empty. The other rows give the same adapter.
        let rows = fs::read_to_string(tiny.path("raw.jsonl")).unwrap();
        tiny.write("raw.jsonl", &format!("{rows}torn\n"));
        tiny.edit("night.yaml", "data:", "max_refused_share: 0.5\ndata:");
        let event = 1 + round.draw(undisturbed().events - 2);
        if !until_event(&tiny, event) {
            continue;
        }
        let mut files = files(&nights(&tiny)[0]);
        files.retain(|path| !path.ends_with("journal.jsonl"));
        if files.is_empty() {
            continue;
        }
        let path = round.one_of(&files).clone();
        let Some(what) = damage(&mut round, &path) else { continue };
        let what = format!("round {}, event {event}: {what}", round.number);
        // Records of an exam that is not over are not guessed: the message names the file, and without it they are made again.
        if let Err(error) = run(&tiny) {
            let said = error.to_string();
            assert!(error.exit_code() == 2, "{what}: {said}");
            assert!(said.contains(&path.display().to_string()), "{what}: {said}");
            fs::remove_file(&path).unwrap();
        }
        completes(&tiny, &what);
    }
}

/// The files whose digests the journal has are replaced.
#[test]
fn the_stage_of_a_corrupted_result_runs_again() {
    for file in [
        "convert/clean.jsonl",
        "convert/refused.jsonl",
        "enrich/train.jsonl",
        "train/adapters.safetensors",
        "exam/candidate/answers.jsonl",
    ] {
        let tiny = Tiny::new();
        let rows = fs::read_to_string(tiny.path("raw.jsonl")).unwrap();
        tiny.write("raw.jsonl", &format!("{rows}torn\n"));
        tiny.edit("night.yaml", "data:", "max_refused_share: 0.5\ndata:");
        assert!(until(&tiny, |event| matches!(
            event,
            Event::StageBegun { stage: StageName::Gate }
        )));
        let path = nights(&tiny)[0].join(file);
        flip_last_byte(&path);
        let damaged = fs::read(&path).unwrap();
        completes(&tiny, file);
        assert!(fs::read(&path).unwrap() != damaged, "{file}");
    }
}

#[test]
fn a_corrupted_checkpoint_is_dropped() {
    for mut round in rounds("checkpoint", 2) {
        let tiny = Tiny::new();
        assert!(until(&tiny, |event| {
            matches!(event, Event::Progress { stage: StageName::Train, done: 8, .. })
        }));
        let mut checkpoints = files(&nights(&tiny)[0].join("train/checkpoints"));
        checkpoints.retain(|path| path.extension().is_some_and(|e| e == "safetensors"));
        assert_eq!(checkpoints.len(), 2);
        // The newest, or all.
        let spoil = 1 + round.number as usize % 2;
        let damaged: Vec<_> =
            checkpoints.iter().rev().take(spoil).map(|path| damage(&mut round, path)).collect();
        completes(&tiny, &format!("round {}: {damaged:?}", round.number));
    }
}

/// A power cut leaves the beginning of the journal, and perhaps something after it.
#[test]
fn a_torn_journal_is_repaired() {
    for mut round in rounds("journal", 4) {
        let tiny = Tiny::new();
        if !until_event(&tiny, 1 + round.draw(undisturbed().events - 2)) {
            continue;
        }
        let journal = nights(&tiny)[0].join("journal.jsonl");
        let whole = fs::read(&journal).unwrap();
        let first = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        let end = first + round.draw(whole.len() - first + 1);
        let tails: [&[u8]; 4] = [b"", b"{\"v\":1,\"at\":\"2026-", b"\0\0\0\0\0\0\n", b"\xff\xff\n"];
        let tail = *round.one_of(&tails);
        fs::write(&journal, [&whole[..end], tail].concat()).unwrap();
        completes(
            &tiny,
            &format!("round {}: {end} of {} bytes, {tail:?}", round.number, whole.len()),
        );
    }
}

/// Damage before the end of the journal is an error that names the line, or costs no more than work.
#[test]
fn a_damaged_journal_is_named() {
    for mut round in rounds("inside", 2) {
        let tiny = Tiny::new();
        assert!(until(&tiny, |event| matches!(
            event,
            Event::StageBegun { stage: StageName::Gate }
        )));
        let journal = nights(&tiny)[0].join("journal.jsonl");
        let whole = fs::read(&journal).unwrap();
        let mut bytes = whole.clone();
        let at = round.draw(bytes.len() * 2 / 3);
        bytes[at] = *round.one_of(b"\0x}\n");
        fs::write(&journal, &bytes).unwrap();
        let what = format!("round {}: byte {at}", round.number);
        if let Err(error) = run(&tiny) {
            let said = error.to_string();
            assert!(error.exit_code() == 2 && said.contains("journal.jsonl"), "{what}: {said}");
            assert_eq!(fs::read(&journal).unwrap(), bytes, "{what}: the file was overwritten");
            fs::write(&journal, &whole).unwrap();
        }
        completes(&tiny, &what);
    }
}

#[test]
fn a_truncated_registry_is_an_error_and_not_overwritten() {
    let tiny = Tiny::new();
    run(&tiny).unwrap();
    let (champion, _) = champion_and_promotions(&tiny);
    let file = tiny.path("home/registry.json");
    let whole = fs::read(&file).unwrap();
    for mut round in rounds("registry", 4) {
        // But for the newline at its end.
        let length = round.draw(whole.len() - 1);
        fs::write(&file, &whole[..length]).unwrap();
        let error = run(&tiny).unwrap_err().to_string();
        assert!(error.contains("registry.json") && error.contains("registry.last.json"), "{error}");
        assert_eq!(fs::read(&file).unwrap(), whole[..length], "the file was overwritten");
        let registry = Registry::new(&Home::open(tiny.path("home")).unwrap());
        registry.verified(champion.unwrap()).unwrap();
    }
    fs::write(&file, &whole).unwrap();
    assert_eq!(run(&tiny).unwrap().outcome, Outcome::NothingNew);
    assert_eq!(champion_and_promotions(&tiny), (champion, 1));
}

fn flip_last_byte(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    *bytes.last_mut().unwrap() ^= 0x55;
    fs::File::create(path).unwrap().write_all(&bytes).unwrap();
}
