//! Memory of this process, of the machine and of the device that computes, and the limit within which MLX works.

use mlx_rs::{Device, DeviceType};
use models::train_support::recommended_memory;
use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};

use crate::Result;
use crate::config::TrainConfig;

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

/// By default, memory is limited to one part in this many, for the sake of other programs.
const DEFAULT_SHARE: u64 = 2;

/// The memory in bytes that MLX may use with this configuration: `nightshift.memory_limit`, or half of the machine's on a
/// CPU, or all of a GPU's.
///
/// # Errors
/// If MLX has no device.
pub fn limit(config: &TrainConfig) -> Result<u64> {
    if let Some(limit) = config.nightshift.memory_limit {
        return Ok(limit.0);
    }
    let all = device_memory().unwrap_or(u64::MAX);
    Ok(match Device::try_default()?.get_type()? {
        DeviceType::Cpu => all / DEFAULT_SHARE,
        DeviceType::Gpu => all,
    })
}

/// Sets MLX's memory limit, and restores the previous one when dropped.
///
/// MLX allocates the outputs of operations well before it computes them. Above the limit it waits
/// until running operations have released memory.
#[derive(Debug)]
pub struct MemoryLimit {
    before: usize,
}

impl MemoryLimit {
    /// Sets the limit in bytes.
    ///
    /// # Errors
    /// If MLX refuses it.
    pub fn new(bytes: u64) -> Result<Self> {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        Ok(Self { before: mlx_rs::memory::set_memory_limit(bytes)? })
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        // Setting the limit succeeded before, and a destructor cannot report an error.
        let _ = mlx_rs::memory::set_memory_limit(self.before);
    }
}
