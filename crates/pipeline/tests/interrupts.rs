//! A night that is asked to stop: it stops in good order wherever it is, and the next start goes on from there.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pipeline::{Error, Event, Interrupt, Night, NightConfig, Outcome, Result, StageName, Summary};
use support::Tiny;

const SIGTERM: usize = 15;

fn start(tiny: &Tiny) -> Night {
    let config = NightConfig::load(tiny.path("night.yaml")).unwrap();
    Night::start_or_resume(config).unwrap()
}

/// Runs a night that is asked to stop at the first event for which `when` is true.
fn stopped(tiny: &Tiny, when: impl Fn(&Event<'_>) -> bool) -> Result<Summary> {
    let number = Arc::new(AtomicUsize::new(0));
    let night = start(tiny).interrupted_by(Interrupt::by_signal(Arc::clone(&number)));
    night.run(&mut |event: Event<'_>| {
        if when(&event) {
            number.store(SIGTERM, Ordering::Relaxed);
        }
    })
}

#[test]
fn every_stage_stops_and_the_next_start_finishes_the_night() {
    let undisturbed = start(&Tiny::new()).run(&mut |_: Event<'_>| ()).unwrap();
    // A stage is begun when the request comes; the last one has nothing after it that could be left out.
    for stage in StageName::ALL {
        let tiny = Tiny::new();
        let begun =
            |event: &Event<'_>| matches!(event, Event::StageBegun { stage: s } if *s == stage);
        match stopped(&tiny, begun) {
            Err(Error::Interrupted { signal: 15 }) => {}
            Ok(_) if [StageName::Report, StageName::Prefer].contains(&stage) => continue,
            other => panic!("{stage}: {other:?}"),
        }
        let summary = start(&tiny).run(&mut |_: Event<'_>| ()).unwrap();
        assert_eq!(summary.outcome, Outcome::Promoted, "{stage}");
        assert_eq!(
            summary.paths.adapter.file_name(),
            undisturbed.paths.adapter.file_name(),
            "{stage}"
        );
        assert_eq!(std::fs::read_dir(tiny.path("home/nights")).unwrap().count(), 1, "{stage}");
    }
}

/// The updates done before the signal are not repeated: their checkpoint is saved.
#[test]
fn training_stops_after_the_current_update_with_its_checkpoint() {
    let tiny = Tiny::new();
    let at = |wanted: u64| move |event: &Event<'_>| matches!(event, Event::Progress { stage: StageName::Train, done, .. } if *done == wanted);
    let error = stopped(&tiny, at(5)).unwrap_err();
    assert_eq!(error.exit_code(), 143);
    assert_eq!(
        error.to_string(),
        "stopped by SIGTERM; the progress is saved, start again to resume"
    );

    let mut updates = Vec::new();
    let summary = start(&tiny)
        .run(&mut |event: Event<'_>| match event {
            Event::Progress { stage: StageName::Train, done, .. } if done > 0 => updates.push(done),
            _ => {}
        })
        .unwrap();
    assert_eq!(updates.first(), Some(&6), "{updates:?}");
    assert_eq!(summary.outcome, Outcome::Promoted);
}
