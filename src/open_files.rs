//! How many files this process may have open: every connection is one.

/// For what is open besides connections: logs, stores, brokers.
const BESIDES: u64 = 1_000;

/// Takes what so many connections need, if the system allows it: a shell starts with less. Says so if that is too little.
/// Elsewhere than on Unix nothing happens.
pub fn raise(connections: usize) {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};

        let wanted = BESIDES.saturating_add(u64::try_from(connections).unwrap_or(u64::MAX));
        let mut limit = getrlimit(Resource::Nofile);
        if limit.current.is_none_or(|current| current >= wanted) {
            return;
        }
        limit.current = Some(limit.maximum.map_or(wanted, |maximum| wanted.min(maximum)));
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "the limit of open files cannot be raised");
        }
        let allowed = getrlimit(Resource::Nofile).current;
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
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    #[test]
    fn what_connections_need_is_taken_as_far_as_the_system_allows() {
        let most = getrlimit(Resource::Nofile).maximum.unwrap_or(1_000_000);
        setrlimit(Resource::Nofile, Rlimit { current: Some(most.min(900)), maximum: Some(most) }).unwrap();
        super::raise(1);
        assert_eq!(getrlimit(Resource::Nofile).current, Some(most.min(1_001)));
        super::raise(usize::MAX);
        assert_eq!(getrlimit(Resource::Nofile).current, Some(most));
    }
}
