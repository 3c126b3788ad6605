//! Nights that are killed.

use std::os::unix::process::ExitStatusExt;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::Tiny;
use crate::{champion_and_promotions, child, completes, nights, rounds, undisturbed};

#[test]
fn killed_at_random_moments() {
    // The moments are spread over the night and the start of the child process.
    let span = undisturbed().length + Duration::from_millis(300);
    let (mut killed, mut all) = (0, 0);
    for mut round in rounds("killed", 3) {
        let moment = span.mul_f64(round.draw(1000) as f64 / 1000.0);
        let tiny = Tiny::new();
        let mut night = child::start(&tiny);
        thread::sleep(moment);
        night.kill().unwrap();
        let status = night.wait().unwrap();
        (killed, all) = (killed + usize::from(status.signal() == Some(9)), all + 1);
        let what = format!("round {}: killed after {moment:?}: {status}", round.number);
        let before = nights(&tiny).len();
        completes(&tiny, &what);
        let over = status.success() || before == 1 && nights(&tiny).len() == 2;
        assert_eq!(nights(&tiny).len(), if over { 2 } else { 1 }, "{what}");
    }
    assert!(killed > 0 || all == 0, "no night was caught alive");
}

#[test]
fn a_night_completes_after_repeated_kills() {
    for mut round in rounds("repeatedly", 1) {
        let tiny = Tiny::new();
        let mut kills = 0;
        let first = undisturbed().length.mul_f64(0.1 + round.draw(400) as f64 / 1000.0);
        let last = loop {
            let mut night = child::start(&tiny);
            let (begun, patience) = (Instant::now(), first * (1 + kills));
            let ended = loop {
                if let Some(status) = night.try_wait().unwrap() {
                    break Some(status);
                }
                // A night that has its outcome is over, and the next start would begin another one.
                let over = || nights(&tiny).iter().any(|it| it.join("summary.json").exists());
                if begun.elapsed() > patience && !over() {
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
        assert!(last.success() && kills > 0, "round {}: {kills} kills, then {last}", round.number);
        assert_eq!(champion_and_promotions(&tiny), (Some(undisturbed().champion), 1));
        assert_eq!(nights(&tiny).len(), 1);
    }
}
