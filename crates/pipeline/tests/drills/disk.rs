//! Full disks.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use pipeline::{Error, Event, Outcome, StageName};

use crate::child::{self, Filling};
use crate::support::Tiny;
use crate::{completes, rounds, undisturbed, watched};

/// A small tmpfs, mounted on a folder until it is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(path: PathBuf) -> Option<Self> {
        fs::create_dir(&path).unwrap();
        let mount = ["-t", "tmpfs", "-o", "size=24m,mode=700", "tmpfs"];
        let run = Command::new("mount").args(mount).arg(&path).output();
        match run {
            Ok(run) if run.status.success() => Some(Self(path)),
            other => {
                let why = other.map_or_else(|e| e.to_string(), |o| format!("{:?}", o.status));
                let _ = writeln!(std::io::stderr(), "skipped: no tmpfs can be mounted ({why})");
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// At any event, up to the last byte or with a little left.
#[test]
fn the_disk_fills_up() {
    let mut full = 0;
    for mut round in rounds("full", 8) {
        let tiny = Tiny::new();
        let Some(disk) = SmallDisk::mount(tiny.path("home")) else { return };
        // The default disk budget would stop the night before the disk is full.
        tiny.edit("night.yaml", "gate:", "budgets: { disk: 0 }\ngate:");
        let at = round.draw(undisturbed().events);
        let filling = Filling { at, free: *round.one_of(&[0, 0, 100, 5_000, 100_000]) };
        let output = child::night(&tiny, filling).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let what = format!("round {}: {filling:?}: {said}", round.number);
        match output.status.code() {
            Some(2) => {
                full += 1;
                assert!(said.contains("No space left") && said.contains("home"), "{what}");
            }
            // What was left was enough.
            code => assert_eq!(code, Some(0), "{what}"),
        }
        fs::remove_file(disk.0.join("filler")).unwrap();
        completes(&tiny, &what);
    }
    assert!(full > 0, "no disk was too full");
}

#[test]
fn a_nearly_full_disk_stops_training_at_a_checkpoint() {
    for mut round in rounds("nearly", 1) {
        let update = 1 + round.draw(11) as u64;
        let tiny = Tiny::new();
        let Some(disk) = SmallDisk::mount(tiny.path("home")) else { return };
        tiny.edit("night.yaml", "gate:", "budgets: { disk: 4MB }\ngate:");
        let filler = disk.0.join("filler");
        let error = watched(&tiny, &mut |event| {
            if matches!(event, Event::Progress { stage: StageName::Train, done, .. } if done == update)
            {
                fs::write(&filler, vec![0; 20 << 20]).unwrap();
            }
        })
        .unwrap_err();
        assert!(matches!(error, Error::DiskFull { .. }), "update {update}: {error}");
        fs::remove_file(&filler).unwrap();
        let mut first = None;
        let summary = watched(&tiny, &mut |event| {
            if let Event::Progress { stage: StageName::Train, done, .. } = event {
                first = first.or((done > 0).then_some(done));
            }
        })
        .unwrap();
        assert_eq!(first, Some(update + 1), "it resumed from the checkpoint of the update");
        assert_eq!(summary.outcome, Outcome::Promoted);
        completes(&tiny, &format!("update {update}"));
    }
}
