//! Waiting for points in time more precisely than by the runtime's timer, which counts milliseconds: a record sent half a
//! millisecond late would look like a broker half a millisecond slow.

use std::io;
use std::time::{Duration, Instant};

#[cfg(target_os = "linux")]
mod timer {
    use std::io;
    use std::os::fd::OwnedFd;
    use std::time::Duration;

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
    };
    use tokio::io::unix::AsyncFd;

    /// A timer of the system's.
    pub struct Timer(AsyncFd<OwnedFd>);

    impl Timer {
        #[expect(deprecated, reason = "what replaces it is unsafe; an OwnedFd is open as long as it is there")]
        pub fn new() -> io::Result<Timer> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            Ok(Timer(AsyncFd::new(timerfd_create(TimerfdClockId::Monotonic, flags)?)?))
        }

        pub async fn sleep(&mut self, wait: Duration) -> io::Result<()> {
            let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
            let value = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
            timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &Itimerspec { it_interval: zero, it_value: value })?;
            // Setting it took back what it had to say before.
            self.0.readable().await?.clear_ready();
            let mut expirations = [0; 8];
            match rustix::io::read(&self.0, &mut expirations) {
                Ok(_) | Err(rustix::io::Errno::AGAIN) => Ok(()),
                Err(error) => Err(error.into()),
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod timer {
    use std::io;
    use std::time::Duration;

    pub struct Timer;

    impl Timer {
        pub fn new() -> io::Result<Timer> {
            Ok(Timer)
        }

        pub async fn sleep(&mut self, wait: Duration) -> io::Result<()> {
            tokio::time::sleep(wait).await;
            Ok(())
        }
    }
}

pub struct Pacer {
    timer: timer::Timer,
}

impl Pacer {
    /// Needs a runtime.
    pub fn new() -> io::Result<Pacer> {
        Ok(Pacer { timer: timer::Timer::new()? })
    }

    /// Waits until then. May come back early; nothing is lost if the future is dropped.
    pub async fn until(&mut self, due: Instant) -> io::Result<()> {
        let wait = due.saturating_duration_since(Instant::now());
        if wait < Duration::from_nanos(1) { Ok(()) } else { self.timer.sleep(wait).await }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waits_until_it_is_time() {
        let mut pacer = Pacer::new().unwrap();
        let due = Instant::now() + Duration::from_millis(3);
        while Instant::now() < due {
            pacer.until(due).await.unwrap();
        }
        // What is past is not waited for, and a wait that is given up does not disturb the next one.
        pacer.until(due).await.unwrap();
        let far = Instant::now() + Duration::from_secs(3600);
        let given_up = tokio::time::timeout(Duration::from_millis(1), pacer.until(far)).await;
        assert!(given_up.is_err());
        let due = Instant::now() + Duration::from_millis(1);
        while Instant::now() < due {
            pacer.until(due).await.unwrap();
        }
    }
}
