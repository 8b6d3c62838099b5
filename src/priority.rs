//! Work that may wait gives way to work that somebody waits for.

/// Lets the calling thread, and the threads that it starts from now on, run only when no other wants the processor
/// (`SCHED_IDLE`, sched(7)): it cannot go back. Whoever wakes takes the processor from it at once, which nice 19 does not give:
/// there a thread runs to the end of its slice of some milliseconds. Where the system knows no such policy, nothing happens.
pub fn lowest() {
    #[cfg(target_os = "linux")]
    {
        use thread_priority::unix::{NormalThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id};
        use thread_priority::{ThreadPriority, ThreadSchedulePolicy};

        let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        if let Err(error) = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle) {
            tracing::warn!(?error, "work in the background is not put behind the rest");
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::thread;

    use super::lowest;

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
}
