//! Memory of this process and of the machine, as the operating system reports it.

use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};

/// Resident memory (RSS) of this process in bytes; `None` if the system does not report it.
pub fn resident_memory() -> Option<u64> {
    let this = sysinfo::get_current_pid().ok()?;
    let mut system = System::new().ok()?;
    let wanted = ProcessRefreshKind::nothing().with_memory();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[this]), false, wanted);
    system.process(this).map(|process| process.memory())
}

/// Physical memory of the machine in bytes; `None` if the system does not report it.
pub fn physical_memory() -> Option<u64> {
    let mut system = System::new().ok()?;
    system.refresh_memory();
    Some(system.total_memory())
}
