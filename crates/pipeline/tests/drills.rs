//! Fault injection. After each drill the next start completes, or refuses with the reason: never two
//! promotions, never a lost champion, never a silent skip. `docs/drills.md` lists the drills.
//!
//! `NIGHTSHIFT_DRILLS=50 cargo test --release -p nightshift-pipeline --test drills` kills fifty nights.
#![cfg(unix)]

mod support;

use std::env;
use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use durable::Digest;
use pipeline::registry::{Action, BaseRegistry};
use pipeline::{Error, Event, Home, Night, NightConfig, Outcome, Registry, StageName, Summary};
use support::Tiny;

/// Environment variable of a child process: the stage at whose start it fills its disk, and the
/// configuration.
const CHILD: &str = "NIGHT_DRILL_CHILD";

fn run(tiny: &Tiny) -> pipeline::Result<Summary> {
    watched(tiny, &mut |_| ())
}

fn watched(tiny: &Tiny, watch: &mut dyn FnMut(Event<'_>)) -> pipeline::Result<Summary> {
    let config = NightConfig::load(tiny.path("night.yaml"))?;
    Night::start_or_resume(config)?.run(&mut |event: Event<'_>| watch(event))
}

fn registry(tiny: &Tiny) -> BaseRegistry {
    Registry::new(&Home::open(tiny.path("home")).unwrap())
        .find(tiny.path("model").to_str())
        .unwrap()
}

/// The champion, after a check of its content, and the number of promotions.
fn champion_and_promotions(tiny: &Tiny) -> (Option<Digest>, usize) {
    let registry = registry(tiny);
    let state = registry.state().unwrap();
    state.champion.map(|champion| registry.verified(champion).unwrap());
    let promotions = state.history.iter().filter(|c| c.action == Action::Promote).count();
    (state.champion, promotions)
}

/// The adapter that an undisturbed night promotes, and the duration of the night.
fn undisturbed() -> (Digest, Duration) {
    let tiny = Tiny::new();
    let begun = Instant::now();
    assert_eq!(run(&tiny).unwrap().outcome, Outcome::Promoted);
    (champion_and_promotions(&tiny).0.unwrap(), begun.elapsed())
}

/// Whether the summary of a night is there.
fn has_outcome(tiny: &Tiny) -> bool {
    let Ok(nights) = fs::read_dir(tiny.path("home/nights")) else { return false };
    nights.flatten().any(|night| night.path().join("summary.json").exists())
}

fn child(tiny: &Tiny, fills_at: &str) -> Child {
    let task = format!("{fills_at} {}", tiny.path("night.yaml").display());
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "child_of_a_drill", "--nocapture", "--quiet"])
        .env(CHILD, task)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn child_of_a_drill() {
    let Ok(task) = env::var(CHILD) else { return };
    let (fills_at, config) = task.split_once(' ').unwrap();
    let config = NightConfig::load(config).unwrap();
    let home = config.home.clone().unwrap();
    let result = Night::start_or_resume(config).and_then(|night| {
        night.run(&mut |event: Event<'_>| {
            if let Event::StageBegun { stage } = event
                && stage.as_str() == fills_at
            {
                fill(&home.join("filler"));
            }
        })
    });
    if let Err(error) = result {
        // Not captured by the test harness: the parent reads it.
        let _ = writeln!(std::io::stderr(), "{error}");
        std::process::exit(error.exit_code().into());
    }
}

/// Writes until the disk is full, in decreasing block sizes.
fn fill(path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    for size in [1 << 20, 1 << 12, 1] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
}

#[test]
fn killed_at_random_moments() {
    let drills = env::var("NIGHTSHIFT_DRILLS").map_or(3, |n| n.parse::<u64>().unwrap());
    let (champion, length) = undisturbed();
    // The moments are spread over the night and the start of the child process.
    let span = (length + Duration::from_millis(300)).as_millis() as u64;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut killed = 0;
    for drill in 0..drills {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let moment = Duration::from_millis(span * drill / drills + (state >> 33) % (span / drills));
        let tiny = Tiny::new();
        let mut night = child(&tiny, "never");
        thread::sleep(moment);
        night.kill().unwrap();
        let status = night.wait().unwrap();
        killed += u64::from(status.signal() == Some(9));
        let what = format!("drill {drill}: killed after {moment:?}: {status}");

        let before = fs::read_dir(tiny.path("home/nights")).map_or(0, Iterator::count);
        let summary = run(&tiny).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(champion_and_promotions(&tiny), (Some(champion), 1), "{what}");
        // If the night had finished before the kill, this is the next one, for which nothing is new.
        let over = summary.night.starts_with("0002-");
        assert_eq!(summary.outcome == Outcome::NothingNew, over, "{what}");
        let nights = fs::read_dir(tiny.path("home/nights")).unwrap().count();
        assert_eq!(nights, if over { 2 } else { before.max(1) }, "{what}");
    }
    assert!(killed > 0 || drills == 0, "no night was caught alive");
}

#[test]
fn a_night_completes_after_repeated_kills() {
    let (champion, length) = undisturbed();
    let tiny = Tiny::new();
    let mut kills = 0;
    let last = loop {
        let mut night = child(&tiny, "never");
        let begun = Instant::now();
        let patience = length / 3 * (1 + kills) / 2;
        let ended = loop {
            if let Some(status) = night.try_wait().unwrap() {
                break Some(status);
            }
            // A night that has its outcome is over, and the next start would begin another one.
            if begun.elapsed() > patience && !has_outcome(&tiny) {
                night.kill().unwrap();
                night.wait().unwrap();
                break None;
            }
            thread::sleep(Duration::from_millis(5));
        };
        match ended {
            Some(status) => break status,
            None => kills += 1,
        }
    };
    assert!(last.success() && kills > 0, "{kills} kills, then {last}");
    assert_eq!(champion_and_promotions(&tiny), (Some(champion), 1));
    assert_eq!(fs::read_dir(tiny.path("home/nights")).unwrap().count(), 1);
}

#[test]
fn two_nights_at_once() {
    let tiny = Tiny::new();
    let nights = [child(&tiny, "never"), child(&tiny, "never")];
    let ended: Vec<Output> = nights.map(|night| night.wait_with_output().unwrap()).into();
    let (done, refused): (Vec<_>, Vec<_>) = ended.iter().partition(|o| o.status.success());
    assert_eq!((done.len(), refused.len()), (1, 1), "{ended:?}");
    let said = String::from_utf8_lossy(&refused[0].stderr);
    assert!(said.contains("in use by"), "{said}");
    assert_eq!(refused[0].status.code(), Some(2));
    assert_eq!(champion_and_promotions(&tiny).1, 1);
    assert_eq!(fs::read_dir(tiny.path("home/nights")).unwrap().count(), 1);
}

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

#[test]
fn the_disk_fills_up_in_each_stage() {
    let (champion, _) = undisturbed();
    // The tiny night has no preference phase.
    for stage in StageName::ALL.into_iter().filter(|stage| *stage != StageName::Prefer) {
        let tiny = Tiny::new();
        let Some(disk) = SmallDisk::mount(tiny.path("home")) else { return };
        // The default disk budget would stop the night before the disk is full.
        tiny.edit("night.yaml", "gate:", "budgets: { disk: 0 }\ngate:");
        let output = child(&tiny, stage.as_str()).wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{stage}: {said}");
        assert!(said.contains("No space left") && said.contains("home"), "{stage}: {said}");

        fs::remove_file(disk.0.join("filler")).unwrap();
        let summary = run(&tiny).unwrap_or_else(|error| panic!("{stage}: {error}"));
        assert_eq!(summary.outcome, Outcome::Promoted, "{stage}");
        assert!(summary.night.starts_with("0001-"), "{stage}");
        assert_eq!(champion_and_promotions(&tiny), (Some(champion), 1), "{stage}");
    }
}

#[test]
fn a_nearly_full_disk_stops_training_at_a_checkpoint() {
    let tiny = Tiny::new();
    let Some(disk) = SmallDisk::mount(tiny.path("home")) else { return };
    tiny.edit("night.yaml", "gate:", "budgets: { disk: 4MB }\ngate:");
    let filler = disk.0.join("filler");
    let error = watched(&tiny, &mut |event| {
        if matches!(event, Event::Progress { stage: StageName::Train, done: 5, .. }) {
            fs::write(&filler, vec![0; 20 << 20]).unwrap();
        }
    })
    .unwrap_err();
    assert!(matches!(error, Error::DiskFull { .. }), "{error}");
    fs::remove_file(&filler).unwrap();
    let mut first = None;
    let summary = watched(&tiny, &mut |event| {
        if let Event::Progress { stage: StageName::Train, done, .. } = event {
            first = first.or((done > 0).then_some(done));
        }
    })
    .unwrap();
    assert_eq!(first, Some(6), "it resumed from the checkpoint of update 5");
    assert_eq!(summary.outcome, Outcome::Promoted);
}

/// Runs a night up to an event and abandons it there by a panic.
fn until(tiny: &Tiny, stop: impl Fn(&Event<'_>) -> bool) {
    let stopped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        watched(tiny, &mut |event| {
            if stop(&event) {
                std::panic::resume_unwind(Box::new("end of the drill"));
            }
        })
    }));
    assert!(stopped.is_err(), "the night ended before the event");
}

fn flip_last_byte(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    *bytes.last_mut().unwrap() ^= 0x55;
    fs::write(path, bytes).unwrap();
}

fn night_dir(tiny: &Tiny) -> PathBuf {
    fs::read_dir(tiny.path("home/nights")).unwrap().next().unwrap().unwrap().path()
}

#[test]
fn a_corrupted_checkpoint_is_dropped() {
    let (champion, _) = undisturbed();
    for (what, spoil) in [("newest", 1), ("all", usize::MAX)] {
        let tiny = Tiny::new();
        until(&tiny, |event| {
            matches!(event, Event::Progress { stage: StageName::Train, done: 8, .. })
        });
        let folder = night_dir(&tiny).join("train/checkpoints");
        let mut checkpoints: Vec<_> =
            fs::read_dir(folder).unwrap().map(|item| item.unwrap().path()).collect();
        checkpoints.retain(|path| path.extension().is_some_and(|e| e == "safetensors"));
        checkpoints.sort();
        assert_eq!(checkpoints.len(), 2);
        checkpoints.iter().rev().take(spoil).for_each(|path| flip_last_byte(path));
        run(&tiny).unwrap();
        assert_eq!(champion_and_promotions(&tiny), (Some(champion), 1), "{what}");
    }
}

#[test]
fn a_corrupted_journal_tail_is_removed() {
    let (champion, _) = undisturbed();
    for tail in [&b"{\"v\":1,\"at\":\"2026-"[..], b"\0\0\0\0\0\0\n", b"\xff\xff\n"] {
        let tiny = Tiny::new();
        until(&tiny, |event| matches!(event, Event::StageBegun { stage: StageName::Exam }));
        let journal = night_dir(&tiny).join("journal.jsonl");
        let mut file = fs::OpenOptions::new().append(true).open(journal).unwrap();
        file.write_all(tail).unwrap();
        assert_eq!(run(&tiny).unwrap().outcome, Outcome::Promoted);
        assert_eq!(champion_and_promotions(&tiny), (Some(champion), 1));
    }
}

#[test]
fn the_stage_of_a_corrupted_result_runs_again() {
    let (champion, _) = undisturbed();
    for file in [
        "convert/clean.jsonl",
        "convert/refused.jsonl",
        "enrich/train.jsonl",
        "train/adapters.safetensors",
        "exam/candidate/answers.jsonl",
    ] {
        let tiny = Tiny::new();
        // A row that is set aside, so that no file is empty. The other rows give the same adapter.
        let rows = fs::read_to_string(tiny.path("raw.jsonl")).unwrap();
        tiny.write("raw.jsonl", &format!("{rows}torn\n"));
        tiny.edit("night.yaml", "data:", "max_refused_share: 0.5\ndata:");
        until(&tiny, |event| matches!(event, Event::StageBegun { stage: StageName::Gate }));
        let path = night_dir(&tiny).join(file);
        flip_last_byte(&path);
        let damaged = fs::read(&path).unwrap();
        let summary = run(&tiny).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_eq!(summary.outcome, Outcome::Promoted, "{file}");
        assert!(fs::read(&path).unwrap() != damaged, "{file}");
        assert_eq!(champion_and_promotions(&tiny), (Some(champion), 1), "{file}");
    }
}

#[test]
fn a_corrupted_champion_is_an_error_until_it_is_rolled_back() {
    let tiny = Tiny::new();
    run(&tiny).unwrap();
    let (champion, _) = champion_and_promotions(&tiny);
    let folder = registry(&tiny).folder(champion.unwrap());
    flip_last_byte(&folder.join("adapters.safetensors"));
    let error = run(&tiny).unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    assert!(error.to_string().contains(&champion.unwrap().to_string()), "{error}");
    let state = registry(&tiny).state().unwrap();
    assert_eq!((state.champion, state.history.len()), (champion, 1), "the registry is unchanged");
    // After the rollback the night resumes against the base model. Its adapter is the same and replaces
    // the damaged copy.
    registry(&tiny).rollback("damaged").unwrap();
    let summary = run(&tiny).unwrap();
    assert!(summary.night.starts_with("0002-") && summary.scores.champion.is_none());
    assert_eq!(champion_and_promotions(&tiny), (champion, 2));
}

#[test]
fn a_truncated_registry_is_an_error_and_not_overwritten() {
    let tiny = Tiny::new();
    run(&tiny).unwrap();
    let (champion, _) = champion_and_promotions(&tiny);
    let file = tiny.path("home/registry.json");
    let whole = fs::read(&file).unwrap();
    for length in [0, 1, whole.len() / 2, whole.len() - 2] {
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

#[test]
fn a_read_only_home_is_an_error_with_its_path() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;

    let tiny = Tiny::new();
    let home = tiny.path("home");
    fs::create_dir(&home).unwrap();
    for (path, mode) in [(tiny.path("."), 0o755), (home.clone(), 0o555)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "child_of_a_drill", "--nocapture", "--quiet"]);
    command.env(CHILD, format!("never {}", tiny.path("night.yaml").display()));
    if fs::write(home.join("probe"), "").is_ok() {
        // Root can write to read-only folders, so the night runs as nobody.
        fs::remove_file(home.join("probe")).unwrap();
        command.uid(65534);
    }
    let Ok(output) = command.output() else {
        let _ =
            writeln!(std::io::stderr(), "skipped: the user nobody may not run this test binary");
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("home") && said.contains("denied"), "{said}");
    assert_eq!(fs::read_dir(&home).unwrap().count(), 0);
}
