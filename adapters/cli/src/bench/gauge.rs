//! What the system says of this process: the CPU it took, the memory it holds, where it may run. Where a system does not say it,
//! there is no figure, and never a guess.

use std::io;
use std::time::Duration;

/// The CPU time that this process has taken, in user mode and in the kernel.
#[cfg(unix)]
#[expect(clippy::unnecessary_wraps, reason = "other systems do not say it")]
pub(crate) fn cpu_time() -> Option<Duration> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Some(Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0)))
}

/// The CPU time that this process has taken, in user mode and in the kernel.
#[cfg(not(unix))]
pub(crate) const fn cpu_time() -> Option<Duration> {
    None
}

/// The bytes of memory that this process holds (`VmRSS`).
pub(crate) fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1_024)
}

/// Keeps this process, and those that it starts from here on, on one core. Returns which one.
///
/// # Errors
///
/// What the system says, or that it cannot.
#[cfg(target_os = "linux")]
pub(crate) fn pin() -> io::Result<usize> {
    use rustix::thread::CpuSet;
    let allowed = rustix::thread::sched_getaffinity(None)?;
    // The first core is where most systems take their interrupts.
    let last = (0..CpuSet::MAX_CPU).rev().find(|core| allowed.is_set(*core));
    let core = last.ok_or_else(|| io::Error::other("no core is allowed"))?;
    let mut one = CpuSet::new();
    one.set(core);
    rustix::thread::sched_setaffinity(None, &one)?;
    Ok(core)
}

/// Keeps this process, and those that it starts from here on, on one core. Returns which one.
///
/// # Errors
///
/// What the system says, or that it cannot.
#[cfg(not(target_os = "linux"))]
pub(crate) fn pin() -> io::Result<usize> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "only Linux is asked to"))
}

/// Lets this process, and those that it starts from here on, open as many files as it is allowed to. Returns how many, where
/// there is a limit.
#[cfg(unix)]
pub(crate) fn raise_open_files() -> Option<u64> {
    use rustix::process::Resource;
    use rustix::process::Rlimit;
    let Rlimit { current, maximum } = rustix::process::getrlimit(Resource::Nofile);
    match rustix::process::setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(_) => current,
    }
}

/// Lets this process, and those that it starts from here on, open as many files as it is allowed to. Returns how many, where
/// there is a limit.
#[cfg(not(unix))]
pub(crate) const fn raise_open_files() -> Option<u64> {
    None
}
