//! SIGINT and SIGTERM.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use pipeline::Interrupt;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// From now on the first SIGINT or SIGTERM asks to stop in good order; a second one ends the process at once.
pub(crate) fn interrupt() -> anyhow::Result<Interrupt> {
    let (number, again) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first signal finds `again` false, and sets it.
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&again))
            .and_then(|_| flag::register(signal, Arc::clone(&again)))
            .and_then(|_| flag::register_usize(signal, Arc::clone(&number), signal as usize))
            .context("cannot handle signals")?;
    }
    let interrupt = Interrupt::by_signal(number);
    announce(interrupt.clone());
    Ok(interrupt)
}

/// Says that a signal has arrived: the current update may take minutes.
fn announce(interrupt: Interrupt) {
    thread::spawn(move || {
        while interrupt.signal().is_none() {
            thread::sleep(Duration::from_millis(100));
        }
        errln!("stopping after the current step; a second signal ends at once");
    });
}
