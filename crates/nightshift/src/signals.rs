//! SIGINT and SIGTERM.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::Context;
use pipeline::Interrupt;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level;

/// From now on the first SIGINT or SIGTERM asks to stop in good order; a second one ends the process at once.
///
/// One thread counts them. Handlers could not: two signals may arrive on two threads at the same moment.
pub(crate) fn interrupt() -> anyhow::Result<Interrupt> {
    let signals = Signals::new([SIGINT, SIGTERM]).context("cannot handle signals")?;
    let number = Arc::new(AtomicUsize::new(0));
    let interrupt = Interrupt::by_signal(Arc::clone(&number));
    thread::spawn(move || count(signals, &number));
    Ok(interrupt)
}

fn count(mut signals: Signals, number: &AtomicUsize) {
    for signal in signals.forever() {
        if number.swap(signal as usize, Ordering::SeqCst) != 0 {
            low_level::exit(128 + signal);
        }
        // The current update may take minutes. On a thread of its own: a reader of stderr who waits
        // must not keep the second signal waiting too.
        thread::spawn(|| errln!("stopping after the current step; a second signal ends at once"));
    }
}
