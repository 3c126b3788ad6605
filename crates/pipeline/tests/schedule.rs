//! Schedules: the files against golden ones, and the calls of the system's program. No test touches the
//! timers of this machine.

use std::cell::RefCell;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use pipeline::schedule::{
    self, CommandOutput, Environment, JOBS, JobCommand, LABEL, Manager, Schedule, StartTime, System,
};

fn schedule() -> Schedule {
    let variables = [("HF_HOME", "/data/5 % $x \"y\""), ("SANCTUM_TRAIN_MODEL", "qwen")];
    let variables = variables.map(|(name, value)| (name.into(), value.into()));
    Schedule::new("/opt/night shift/nightshift", "/home/luke/100 %/night.yaml")
        .unwrap()
        .with_environment(Environment::of(variables).unwrap())
}

#[test]
fn files_are_as_recorded() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/schedule");
    for (system, count) in [(System::Launchd, 3), (System::Systemd, 6)] {
        let files = schedule().files(system).unwrap();
        assert_eq!(files.len(), count);
        for file in files {
            if std::env::var_os("NIGHTSHIFT_RENEW").is_some() {
                fs::write(golden.join(&file.name), &file.text).unwrap();
            }
            let recorded = fs::read_to_string(golden.join(&file.name)).unwrap_or_default();
            assert_eq!(file.text, recorded, "{}:\n{}", file.name, file.text);
        }
    }
}

#[test]
fn a_plist_reads_back() {
    let hours = [("preflight", 22), ("night", 1), ("night", 1)];
    let files = schedule().files(System::Launchd).unwrap();
    for (file, (command, hour)) in files.iter().zip(hours) {
        let agent = plist::Value::from_reader_xml(file.text.as_bytes()).unwrap();
        let agent = agent.as_dictionary().unwrap();
        let words = agent["ProgramArguments"].as_array().unwrap();
        let words: Vec<_> = words.iter().map(|word| word.as_string().unwrap()).collect();
        let expected =
            ["/opt/night shift/nightshift", command, "--config", "/home/luke/100 %/night.yaml"];
        assert_eq!(words[..4], expected);
        let variables = agent["EnvironmentVariables"].as_dictionary().unwrap();
        assert_eq!(variables["HF_HOME"].as_string(), Some("/data/5 % $x \"y\""));
        assert_eq!(agent["WorkingDirectory"].as_string(), Some("/home/luke/100 %"));
        // Not confined to the efficiency cores, and never started again because of its exit code.
        assert_eq!(agent["ProcessType"].as_string(), Some("Standard"));
        assert!(!agent.contains_key("KeepAlive"));
        let times = &agent["StartCalendarInterval"];
        let first = times.as_array().map_or(times, |times| &times[0]);
        assert_eq!(first.as_dictionary().unwrap()["Hour"], hour.into());
    }
}

/// Every date has a night, whatever the clocks of the place do: one of the night's times exists on it.
#[test]
fn every_date_of_every_time_zone_has_a_night() {
    let nights = JOBS.iter().filter(|job| job.command == JobCommand::Night);
    let times: Vec<StartTime> = nights.flat_map(|job| job.times).copied().collect();
    let (mut zones, mut gaps) = (0, 0);
    for name in jiff::tz::db().available() {
        let zone = jiff::tz::TimeZone::get(name.as_str()).unwrap();
        zones += 1;
        let mut date = jiff::civil::date(2026, 1, 1);
        while date < jiff::civil::date(2032, 1, 1) {
            let skipped = |time: &&StartTime| {
                let at = date.at(time.hour, time.minute, 0, 0);
                matches!(
                    zone.to_ambiguous_timestamp(at).offset(),
                    jiff::tz::AmbiguousOffset::Gap { .. }
                )
            };
            let missing = times.iter().filter(skipped).count();
            gaps += missing;
            assert!(missing < times.len(), "{} has no night on {date}", name.as_str());
            date = date.tomorrow().unwrap();
        }
    }
    if zones == 0 {
        let _ = writeln!(std::io::stderr(), "skipped: no time zone database");
        return;
    }
    assert!(zones > 100 && gaps > 0, "{zones} zones, {gaps} times that do not exist");
}

/// What systemd itself says of the night in which London has no one o'clock.
#[test]
fn systemd_starts_a_night_in_london_when_summer_time_begins() {
    let units = schedule().files(System::Systemd).unwrap();
    let timers = units.iter().filter(|unit| unit.name.ends_with(".timer"));
    let timers = timers.filter(|unit| !unit.name.contains("preflight"));
    let times: Vec<String> = timers
        .flat_map(|unit| unit.text.lines().filter_map(|line| line.strip_prefix("OnCalendar=")))
        .map(str::to_owned)
        .collect();
    assert_eq!(times.len(), 4);
    let run = Command::new("systemd-analyze")
        .args(["calendar", "--base-time=2027-03-27 23:00:00"])
        .args(&times)
        .env("TZ", "Europe/London")
        .env("LC_ALL", "C")
        .output();
    let Some(run) = run.ok().filter(|run| run.status.success()) else {
        let _ =
            writeln!(std::io::stderr(), "skipped: no systemd-analyze to ask for the next start");
        return;
    };
    let said = String::from_utf8_lossy(&run.stdout);
    let next: Vec<&str> = said.lines().filter(|line| line.contains("Next elapse")).collect();
    assert_eq!(next.len(), 4, "{said}");
    let tonight = next.iter().filter(|line| line.contains("2027-03-28")).count();
    assert_eq!(tonight, 2, "{said}");
}

#[test]
fn systemd_accepts_the_units() {
    let folder = tempfile::tempdir().unwrap();
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        // Not captured by the test harness, so that the skipped check is visible.
        let _ = writeln!(std::io::stderr(), "skipped: no systemd-analyze to verify units with");
        return;
    }
    // `verify` requires that the programs exist.
    let program = folder.path().join("nightshift");
    std::os::unix::fs::symlink("/bin/sh", &program).unwrap();
    let config = folder.path().join("100 % $HOME").join("night.yaml");
    fs::create_dir(config.parent().unwrap()).unwrap();
    let mut paths = vec![];
    let environment = Environment::of([("HF_HOME".into(), "/a %b \"c\" $D".into())]).unwrap();
    let schedule = Schedule::new(program, config).unwrap().with_environment(environment);
    for file in schedule.files(System::Systemd).unwrap() {
        let path = folder.path().join(&file.name);
        fs::write(&path, &file.text).unwrap();
        paths.push(path);
    }
    let run =
        Command::new("systemd-analyze").args(["verify", "--user"]).args(paths).output().unwrap();
    let said = String::from_utf8_lossy(&run.stderr);
    let ours: Vec<_> = said.lines().filter(|line| line.contains(LABEL)).collect();
    assert!(ours.is_empty(), "{said}");
}

#[test]
fn relative_paths_are_refused() {
    for (program, config) in [("nightshift", "/n.yaml"), ("/nightshift", "n.yaml")] {
        let error = Schedule::new(program, config).unwrap_err().to_string();
        assert!(error.contains("absolute"), "{error}");
    }
}

/// A fake system that records calls and loaded jobs.
#[derive(Default)]
struct Fake {
    calls: RefCell<Vec<String>>,
    loaded: RefCell<Vec<String>>,
}

impl Fake {
    fn manager(&self, system: System) -> Manager<'_> {
        Manager::with(system, |program, arguments| {
            let last = *arguments.last().unwrap();
            let job = last.rsplit('/').next().unwrap();
            let job = job.trim_end_matches(".timer").trim_end_matches(".plist").to_owned();
            self.calls.borrow_mut().push(format!("{program} {}", arguments.join(" ")));
            let mut loaded = self.loaded.borrow_mut();
            let verb = arguments.iter().find(|word| !word.starts_with("--")).unwrap();
            let (success, output) = match *verb {
                "enable" | "bootstrap" => {
                    loaded.push(job);
                    (true, String::new())
                }
                "disable" | "bootout" => {
                    loaded.retain(|held| *held != job);
                    (true, String::new())
                }
                "print" => (loaded.contains(&job), "\tstate = waiting\n".to_owned()),
                "show" => {
                    let unit = arguments[2].trim_end_matches(".timer");
                    let state =
                        if loaded.iter().any(|l| l == unit) { "active" } else { "inactive" };
                    (true, format!("ActiveState={state}\nNextElapseUSecRealtime=Mon 01:00\n"))
                }
                "daemon-reload" => (true, String::new()),
                _ if program == "id" => (true, "501\n".to_owned()),
                _ => (false, "what?".to_owned()),
            };
            Ok(CommandOutput { success, output })
        })
    }
}

#[test]
fn install_is_idempotent_and_remove_leaves_nothing() {
    for (system, detail) in [(System::Launchd, "waiting"), (System::Systemd, "next Mon 01:00")] {
        let (fake, folder) = (Fake::default(), tempfile::tempdir().unwrap());
        let mut manager = fake.manager(system);
        for _ in 0..2 {
            schedule().install(&mut manager, folder.path()).unwrap();
            let status = manager.status().unwrap();
            assert!(status.iter().all(|job| job.loaded && job.detail == detail), "{status:?}");
        }
        // Without any configuration.
        schedule::remove(&mut manager, folder.path()).unwrap();
        let status = manager.status().unwrap();
        assert!(status.iter().all(|job| !job.loaded), "{status:?}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        drop(manager);
        let calls = fake.calls.into_inner();
        assert!(!calls.iter().any(|call| call.contains("kickstart")), "{calls:#?}");
    }
}

#[test]
fn a_failing_command_is_quoted() {
    let mut manager = Manager::with(System::Systemd, |_, _| {
        Ok(CommandOutput { success: false, output: "Failed to connect to bus\n".to_owned() })
    });
    let error = schedule().install(&mut manager, tempfile::tempdir().unwrap().path()).unwrap_err();
    let expected = "`systemctl --user daemon-reload`: Failed to connect to bus";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn whether_jobs_run_without_a_login_is_asked() {
    for (says, expected) in [("Linger=yes\n", Some(true)), ("Linger=no\n", Some(false)), ("", None)]
    {
        let mut manager = Manager::with(System::Systemd, |program, arguments| {
            let output = if program == "id" { "501\n" } else { says };
            assert!(program == "id" || arguments == ["show-user", "501", "--property=Linger"]);
            Ok(CommandOutput { success: true, output: output.to_owned() })
        });
        assert_eq!(manager.lingers(), expected);
    }
}

#[test]
fn the_installed_program_is_read_back() {
    for system in [System::Launchd, System::Systemd] {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(schedule::installed_program(system, folder.path()).unwrap(), None);
        for path in ["/opt/night shift/nightshift", "/a \"b\" 5 % $HOME\\c/nightshift"] {
            let schedule = Schedule::new(path, "/night.yaml").unwrap();
            for file in schedule.files(system).unwrap() {
                fs::write(folder.path().join(&file.name), &file.text).unwrap();
            }
            let found = schedule::installed_program(system, folder.path()).unwrap();
            assert_eq!(found.as_deref(), Some(Path::new(path)));
        }
        for name in [format!("{LABEL}.plist"), format!("{LABEL}.service")] {
            fs::write(folder.path().join(name), "something else").unwrap();
        }
        let error = schedule::installed_program(system, folder.path()).unwrap_err().to_string();
        assert!(error.contains("expected a job that `schedule install` wrote"), "{error}");
    }
}

/// The examples are programs of their own: `nightly`, with `preflight` beside it.
#[test]
fn the_examples_can_be_scheduled_too() {
    let schedule = Schedule::new("/opt/examples/nightly", "/night.yaml").unwrap();
    let files = schedule.files(System::Systemd).unwrap();
    let starts = files.iter().flat_map(|file| file.text.lines());
    let starts: Vec<_> = starts.filter_map(|line| line.strip_prefix("ExecStart=")).collect();
    let expected = [
        r#""/opt/examples/preflight" "--config" "/night.yaml" "--notify""#,
        r#""/opt/examples/nightly" "--config" "/night.yaml" "--once-a-day""#,
        r#""/opt/examples/nightly" "--config" "/night.yaml" "--once-a-day""#,
    ];
    assert_eq!(starts, expected);
}
