//! How many files this process may have open: every connection is one.

/// For what is open besides connections: logs, stores, brokers.
const BESIDES: u64 = 1_000;

/// Takes what the system allows, which is more than what a shell starts with; says so if that is too little for so many
/// connections. Elsewhere than on Unix nothing happens.
pub fn raise(connections: usize) {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};

        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "the limit of open files cannot be raised");
        }
        let allowed = getrlimit(Resource::Nofile).current;
        let wanted = BESIDES.saturating_add(u64::try_from(connections).unwrap_or(u64::MAX));
        if allowed.is_some_and(|allowed| allowed < wanted) {
            tracing::warn!(
                allowed,
                wanted,
                "fewer files may be open than --connections-max needs: raise the limit (ulimit -n), or lower that"
            );
        }
    }
    #[cfg(not(unix))]
    let _ = connections;
}

#[cfg(all(test, unix))]
mod tests {
    use rustix::process::{Resource, getrlimit, setrlimit};

    #[test]
    fn what_the_system_allows_is_taken() {
        let mut low = getrlimit(Resource::Nofile);
        low.current = low.maximum.map(|maximum| maximum - 1);
        setrlimit(Resource::Nofile, low).unwrap();
        super::raise(1);
        assert_eq!(getrlimit(Resource::Nofile).current, low.maximum);
    }
}
