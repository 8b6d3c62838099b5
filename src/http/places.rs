//! How many connections there may be, of all and of each address. A place is held for as long as its socket lives.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::quota::{Held, Quota};

/// What an IPv6 host has to itself, and takes its addresses from (RFC 4291, 2.5.1): its first bits are one client.
const IPV6_CLIENT_BITS: u32 = 64;

pub(super) struct Places {
    all: Arc<Semaphore>,
    count: u32,
    of_addresses: Arc<Quota<IpAddr>>,
    each: usize,
}

pub(super) struct Place {
    _one: OwnedSemaphorePermit,
    _of_address: Option<Held<IpAddr>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// There are as many as there may be.
    All,
    /// This address has as many as it may have.
    Address,
}

impl Full {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Address => "address",
        }
    }
}

impl Places {
    pub(super) fn new(all: usize, each: usize) -> Self {
        let count = u32::try_from(all.min(Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
        let all = Arc::new(Semaphore::new(count as usize));
        Self { all, count, of_addresses: Arc::default(), each }
    }

    pub(super) fn take(&self, peer: IpAddr) -> Result<Place, Full> {
        let one = Arc::clone(&self.all).try_acquire_owned().map_err(|_| Full::All)?;
        let take = |client| self.of_addresses.take(client, self.each).ok_or(Full::Address);
        Ok(Place { _one: one, _of_address: client(peer).map(take).transpose()? })
    }

    /// Returns when none is taken.
    pub(super) async fn all_free(&self) {
        // It is never closed.
        let _ = self.all.acquire_many(self.count).await;
    }
}

/// Whom an address is counted as; `None` is this machine, from which a proxy brings everybody else.
fn client(peer: IpAddr) -> Option<IpAddr> {
    let peer = peer.to_canonical();
    if peer.is_loopback() {
        return None;
    }
    Some(match peer {
        IpAddr::V4(_) => peer,
        IpAddr::V6(peer) => Ipv6Addr::from_bits(peer.to_bits() & (u128::MAX << IPV6_CLIENT_BITS)).into(),
    })
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::{Full, Places};

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_takes_what_one_may_have_and_leaves_nothing_behind() {
        let places = Places::new(5, 2);
        let one = places.take(ip("192.0.2.1")).ok().unwrap();
        let mapped = places.take(ip("::ffff:192.0.2.1")).ok().unwrap();
        assert_eq!(places.take(ip("192.0.2.1")).err(), Some(Full::Address), "in whatever way it is written");
        let other = places.take(ip("192.0.2.2")).ok().unwrap();
        drop(one);
        let again = places.take(ip("192.0.2.1")).ok().unwrap();
        drop((mapped, other, again));
        assert_eq!(places.all.available_permits(), 5, "one that was refused holds none");
    }

    #[test]
    fn a_network_of_ipv6_is_one_client() {
        let places = Places::new(5, 1);
        let _one = places.take(ip("2001:db8:0:1::1")).ok().unwrap();
        assert_eq!(places.take(ip("2001:db8:0:1:ffff::2")).err(), Some(Full::Address));
        assert!(places.take(ip("2001:db8:0:2::1")).is_ok());
    }

    #[test]
    fn this_machine_may_have_them_all_and_no_more() {
        let places = Places::new(2, 1);
        let (_one, _two) = (places.take(ip("127.0.0.1")).ok().unwrap(), places.take(ip("::1")).ok().unwrap());
        assert_eq!(places.take(ip("127.0.0.1")).err(), Some(Full::All));
    }
}
