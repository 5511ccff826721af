//! The processor time of this process.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// What was used from the start of the process on.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuTime {
    pub total: Duration,
    /// How much of it the system worked for us, as far as the system tells.
    pub system: Option<Duration>,
}

impl CpuTime {
    pub fn now() -> CpuTime {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        let total = Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0));
        CpuTime { total, system: system_ticks().map(|ticks| Duration::from_millis(ticks * 10)) }
    }

    pub fn since(self, earlier: CpuTime) -> CpuTime {
        CpuTime {
            total: self.total.saturating_sub(earlier.total),
            system: self.system.zip(earlier.system).map(|(now, then)| now.saturating_sub(then)),
        }
    }
}

/// Hundredths of a second, as Linux counts them for programs.
fn system_ticks() -> Option<u64> {
    const SYSTEM: usize = 12;
    let status = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program, in parentheses, may contain anything.
    let (_, fields) = status.rsplit_once(')')?;
    fields.split_whitespace().nth(SYSTEM)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_takes_time() {
        let before = CpuTime::now();
        let mut number = 1u64;
        while CpuTime::now().since(before).total < Duration::from_millis(5) {
            number = std::hint::black_box(number.wrapping_mul(3));
        }
        let used = CpuTime::now().since(before);
        assert!(used.system.is_none_or(|system| system <= used.total + Duration::from_millis(20)));
        assert_eq!(before.since(CpuTime::now()).total, Duration::ZERO);
    }
}
