//! Runs stages outside a real night.

use std::path::Path;

use lora_train::Bytes;

use crate::budget_monitor::BudgetMonitor;
use crate::clock::Clock;
use crate::config::Budgets;
use crate::earlier_nights::EarlierNights;
use crate::error::Result;
use crate::journal::Journal;
use crate::observer::Event;
use crate::runner::Runner;

/// Runs stages in the folder `night`, without events and without a disk budget; exams keep to the memory limit.
pub(super) fn run_stages<T>(
    night: &Path,
    memory_limit: u64,
    work: impl FnOnce(&mut Runner<'_>) -> Result<T>,
) -> Result<T> {
    let budgets = Budgets { disk: Bytes(0), ..Budgets::default() };
    work(&mut Runner {
        night,
        earlier: &EarlierNights::default(),
        journal: &mut Journal::open(night.join("journal.jsonl"))?,
        observer: &mut |_: Event<'_>| (),
        budgets: &BudgetMonitor::new(&budgets, &jiff::Zoned::now(), night, &Clock::default()),
        memory_limit,
        done: Vec::new(),
    })
}
