//! What the system says of this process. Where it does not say it, nothing is held against anybody.

use std::fmt;

/// How many files and sockets are open.
pub(crate) fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

/// The memory that the process holds, measured again and again.
#[derive(Default)]
pub(crate) struct Memory {
    /// Kilobytes.
    samples: Vec<u64>,
}

impl Memory {
    pub(crate) fn measure(&mut self) {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        self.samples.extend(line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok()));
    }

    /// The medians of the second fifth, when all has warmed up, and of the last one.
    fn medians(&self) -> (u64, u64) {
        let fifth = self.samples.len() / 5;
        let median = |samples: &[u64]| {
            let mut sorted = samples.to_vec();
            sorted.sort_unstable();
            sorted.get(sorted.len() / 2).copied().unwrap_or(0)
        };
        (median(&self.samples[fifth..2 * fifth]), median(&self.samples[self.samples.len() - fifth..]))
    }

    /// Whether it holds no more in the end than once it had warmed up: a twentieth and two megabytes are noise. A soak of less
    /// than half a minute has too few samples to tell.
    pub(crate) fn is_flat(&self) -> bool {
        let (warm, last) = self.medians();
        last <= warm + warm / 20 + 2_048
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (warm, last) = self.medians();
        let max = self.samples.iter().max().copied().unwrap_or(0);
        write!(f, "{warm} kB once warm, {last} kB last, {max} kB at most")
    }
}
