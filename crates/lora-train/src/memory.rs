//! Memory of this process, of the machine and of the device that computes.

use mlx_rs::{Device, DeviceType};
use models::train_support::recommended_memory;
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

/// Memory in bytes of the device that computes: of a CPU that of the machine, of a GPU Metal's recommended working set
/// (Metal swaps above it) or what MLX may allocate. `None` if nobody reports it.
pub fn device_memory() -> Option<u64> {
    match Device::try_default().and_then(|device| device.get_type()).ok()? {
        DeviceType::Cpu => physical_memory(),
        DeviceType::Gpu => {
            let limit = || mlx_rs::memory::memory_limit().ok().map(|bytes| bytes as u64);
            recommended_memory().or_else(limit)
        }
    }
}
