//! Two starts in one home.

use std::process::Output;
use std::thread;

use crate::support::Tiny;
use crate::{champion_and_promotions, child, nights, rounds, undisturbed};

/// The second starts at a random moment of the first.
#[test]
fn two_nights_at_once() {
    let mut refusals = 0;
    for mut round in rounds("starters", 2) {
        let tiny = Tiny::new();
        // In the first round they start together, where the lock is not there yet.
        let later = match round.number {
            0 => 0.0,
            _ => round.draw(1000) as f64 / 1000.0,
        };
        let first = child::start(&tiny);
        thread::sleep(undisturbed().length.mul_f64(later));
        let second = child::start(&tiny);
        let ended: Vec<Output> =
            [first, second].map(|night| night.wait_with_output().unwrap()).into();
        let (done, refused): (Vec<_>, Vec<_>) = ended.iter().partition(|o| o.status.success());
        let what = format!("round {}, later by {later}: {ended:?}", round.number);
        assert!(!done.is_empty() && done.len() == nights(&tiny).len(), "{what}");
        for refused in &refused {
            let said = String::from_utf8_lossy(&refused.stderr);
            assert!(said.contains("in use by"), "{what}");
            assert_eq!(refused.status.code(), Some(2), "{what}");
        }
        refusals += refused.len();
        let expected = (Some(undisturbed().champion), 1);
        assert_eq!(champion_and_promotions(&tiny), expected, "{what}");
    }
    assert!(refusals > 0, "no two starts met");
}
