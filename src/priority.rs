//! Work that may wait gives way to work that somebody waits for.

/// Lets the calling thread, and the threads that it starts from now on, run only when no other wants the processor (nice 19): it
/// cannot go back. Where the system knows that only of whole processes, nothing happens.
pub fn lowest() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, 19) {
        tracing::warn!(%error, "work in the background is not put behind the rest");
    }
}
