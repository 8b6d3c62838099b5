//! Work that may wait gives way to work that somebody waits for.

use std::time::Duration;

/// Lets the calling thread, and the threads that it starts from now on, run only when no other wants the processor
/// (`SCHED_IDLE`, sched(7)): it cannot go back. Whoever wakes takes the processor from it at once, which nice 19 does not give:
/// there a thread runs to the end of its slice of some milliseconds. Where the system knows no such policy, nothing happens.
pub fn lowest() {
    #[cfg(target_os = "linux")]
    if let Err(error) = idle() {
        tracing::warn!(%error, "work in the background is not put behind the rest");
    }
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "no crate that is here wraps the call")]
fn idle() -> std::io::Result<()> {
    let none = libc::sched_param { sched_priority: 0 };
    // SAFETY: it only reads `none`; 0 is the calling thread.
    match unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const none) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// How long the calling thread has had a processor, without the time in which it waited or gave way to others. Where the
/// system does not tell that, how long it has been since the first time that somebody asked. Only differences mean anything.
#[must_use]
pub fn worked() -> Duration {
    #[cfg(target_os = "linux")]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32) // below a second
    }
    #[cfg(not(target_os = "linux"))]
    {
        static BEGAN: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        BEGAN.get_or_init(std::time::Instant::now).elapsed()
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::thread;

    use super::{lowest, worked};

    const SCHED_OTHER: &str = "0";
    const SCHED_IDLE: &str = "5";

    /// Of the calling thread: the 41st field, proc_pid_stat(5).
    fn policy() -> String {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let behind_the_name = stat.rsplit(") ").next().unwrap();
        behind_the_name.split(' ').nth(41 - 3).unwrap().to_owned()
    }

    #[test]
    fn it_holds_for_the_thread_and_what_it_starts() {
        let started = || {
            lowest();
            (policy(), thread::spawn(policy).join().unwrap())
        };
        let idle = || SCHED_IDLE.to_owned();
        assert_eq!(thread::spawn(started).join().unwrap(), (idle(), idle()));
        assert_eq!(policy(), SCHED_OTHER, "and for no other");
    }

    #[test]
    fn waiting_is_no_work() {
        let (began, before) = (std::time::Instant::now(), worked());
        while worked() == before {}
        thread::park_timeout(std::time::Duration::from_millis(50)); // may end early, and then proves less
        assert!(worked() - before <= began.elapsed());
        let slept = began.elapsed();
        assert!(slept < std::time::Duration::from_millis(50) || worked() - before < slept);
    }
}
