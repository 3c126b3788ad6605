//! A night that its owner gives up: recorded, kept, and followed by a new one.

mod support;

use std::fs;

use pipeline::{Error, Event, Home, Lock, Night, NightConfig, Outcome, UnfinishedNight};
use support::Tiny;

fn run(tiny: &Tiny) -> pipeline::Result<pipeline::Summary> {
    let config = NightConfig::load(tiny.path("night.yaml")).unwrap();
    Night::start_or_resume(config)?.run(&mut |_: Event<'_>| ())
}

#[test]
fn an_abandoned_night_is_kept_and_the_next_start_begins_another() {
    let tiny = Tiny::new();
    tiny.edit("night.yaml", "gate:", "budgets: { disk: 900TB }\ngate:");
    assert!(matches!(run(&tiny), Err(Error::DiskFull { .. })));
    let home = Home::open(tiny.path("home")).unwrap();
    let night = UnfinishedNight::of(&home).unwrap().unwrap();

    let lock = Lock::acquire(&tiny.path("home/night.lock")).unwrap();
    assert!(matches!(UnfinishedNight::abandon(&home, "no"), Err(Error::Busy { .. })));
    drop(lock);
    let journal = tiny.path("home/nights").join(&night.id).join("journal.jsonl");
    let before = fs::read_to_string(&journal).unwrap();
    let abandoned = UnfinishedNight::abandon(&home, "the rows were\nyesterday's").unwrap();
    assert_eq!(abandoned.as_ref(), Some(&night));
    let after = fs::read_to_string(&journal).unwrap();
    assert!(after.starts_with(&before), "nothing is deleted");
    assert_eq!(after.lines().count(), before.lines().count() + 1, "one line more");
    let page = fs::read_to_string(tiny.path("home/index.html")).unwrap();
    assert!(page.contains("abandoned: the rows were"), "the page of all nights says so");

    assert_eq!(UnfinishedNight::of(&home).unwrap(), None);
    assert_eq!(UnfinishedNight::abandon(&home, "again").unwrap(), None);
    tiny.edit("night.yaml", "budgets: { disk: 900TB }\n", "");
    let summary = run(&tiny).unwrap();
    assert_eq!(summary.outcome, Outcome::Promoted);
    assert!(summary.night.starts_with("0002-"), "{}", summary.night);
}
