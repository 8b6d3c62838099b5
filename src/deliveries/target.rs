//! Whom a webhook may go to. A merchant names the URL, and our network must not be reached through us: only addresses that
//! anybody on the Internet can reach are told anything, unless a development switch says otherwise.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use reqwest::Url;

use crate::amqp::Address;
use crate::payment::Invalid;

/// The longest URL of an endpoint, in bytes.
pub const URL_MAX: usize = 2_048;

/// IPv4 ranges that nobody outside can mean: network, length of the prefix.
const CLOSED_V4: &[([u8; 4], u32)] = &[
    ([0, 0, 0, 0], 8),        // this network
    ([10, 0, 0, 0], 8),       // private
    ([100, 64, 0, 0], 10),    // shared by a carrier; a metadata service too
    ([127, 0, 0, 0], 8),      // this machine
    ([168, 63, 129, 16], 32), // Azure's own, though it looks public
    ([169, 254, 0, 0], 16),   // link-local: metadata services
    ([172, 16, 0, 0], 12),    // private
    ([192, 0, 0, 0], 24),     // protocol assignments; a metadata service too
    ([192, 0, 2, 0], 24),     // documentation
    ([192, 88, 99, 0], 24),   // 6to4 relays
    ([192, 168, 0, 0], 16),   // private
    ([198, 18, 0, 0], 15),    // benchmarks
    ([198, 51, 100, 0], 24),  // documentation
    ([203, 0, 113, 0], 24),   // documentation
    ([224, 0, 0, 0], 4),      // multicast
    ([240, 0, 0, 0], 4),      // reserved, broadcast
];

/// Of the IPv6 addresses only 2000::/3 is given out to anybody; and of that not these.
const OPEN_V6: (u16, u32) = (0x2000, 3);
const CLOSED_V6: &[([u16; 2], u32)] = &[
    ([0x2001, 0x0000], 23), // protocol assignments: Teredo, benchmarks, ORCHID
    ([0x2001, 0x0db8], 32), // documentation
    ([0x2002, 0x0000], 16), // 6to4, which carries an IPv4 address
    ([0x3fff, 0x0000], 20), // documentation
];

/// May this address be told anything?
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(mapped) => is_public_v4(mapped),
            None => is_public_v6(address),
        },
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let bits = address.to_bits();
    let within = |(network, length): &([u8; 4], u32)| {
        (bits ^ u32::from_be_bytes(*network)).checked_shr(32 - length).is_none_or(|differs| differs == 0)
    };
    !CLOSED_V4.iter().any(within)
}

/// NAT64, unique local, link-local, loopback and multicast addresses are all outside 2000::/3.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    let bits = u32::from(first) << 16 | u32::from(second);
    let within = |network: u32, length: u32| (bits ^ network) >> (32 - length) == 0;
    let closed =
        |(network, length): &([u16; 2], u32)| within(u32::from(network[0]) << 16 | u32::from(network[1]), *length);
    within(u32::from(OPEN_V6.0) << 16, OPEN_V6.1) && !CLOSED_V6.iter().any(closed)
}

/// The URL of an endpoint, as far as it can be judged before its name is resolved: that is done at every connection.
pub fn parse(text: &str, allow_private: bool) -> Result<Url, Invalid> {
    let refuse = |detail: &str| {
        Err(Invalid { code: "invalid_url", field: Some("url"), detail: detail.to_owned(), malformed: false })
    };
    if text.len() > URL_MAX {
        return refuse("url is too long");
    }
    let Ok(url) = Url::parse(text) else { return refuse("url is no URL: it must begin with https:// and name a host") };
    match url.scheme() {
        "https" => {}
        "http" if allow_private => {}
        _ => return refuse("url must begin with https://"),
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return refuse(
            "url must have no user, password or fragment: the endpoint's secret or credential is what it knows us by",
        );
    }
    if url.host_str().is_none_or(str::is_empty) {
        return refuse("url must name a host");
    }
    if !allow_private && literal(&url).is_some_and(|address| !is_public(address)) {
        return refuse("url leads to an address that only a private network knows");
    }
    Ok(url)
}

/// A queue of a broker, as far as it can be judged before its host is resolved.
pub fn queue(text: &str, allow_private: bool) -> Result<Address, Invalid> {
    let refuse = |detail: String| Err(Invalid { code: "invalid_url", field: Some("url"), detail, malformed: false });
    if text.len() > URL_MAX {
        return refuse("url is too long".to_owned());
    }
    let address = match Address::parse(text) {
        Ok(address) => address,
        Err(why) => return refuse(format!("url: {why}")),
    };
    if !allow_private && !address.is_tls() {
        return refuse("url must begin with amqps://".to_owned());
    }
    let closed = |address: IpAddr| !is_public(address);
    if !allow_private && address.host().parse().is_ok_and(closed) {
        return refuse("url leads to an address that only a private network knows".to_owned());
    }
    Ok(address)
}

/// The address in a URL that has no name to be resolved.
#[must_use]
pub fn literal(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{is_public, parse, queue};

    #[test]
    fn an_address_that_only_a_private_network_knows_is_not_public() {
        for closed in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.100.100.200",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.7",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:2::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(closed.parse().unwrap()), "{closed}");
        }
        for open in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.0.1",
            "172.32.0.1",
            "168.63.129.17",
            "192.0.1.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "::ffff:1.1.1.1",
            "2606:4700::1111",
            "2a00:1450::1",
            "2001:4860:4860::8888",
            "2003::1",
        ] {
            assert!(is_public(open.parse().unwrap()), "{open}");
        }
    }

    #[test]
    fn a_url_that_cannot_be_told_is_refused_at_once() {
        for good in [
            "https://example.org/hook",
            "https://example.org:8443/?a=b",
            "https://1.1.1.1/",
            "https://[2606:4700::1111]/",
        ] {
            assert!(parse(good, false).is_ok(), "{good}");
        }
        for wrong in [
            "",
            "example.org",
            "ftp://example.org",
            "http://example.org",
            "https://",
            "https://me:secret@example.org/",
            "https://example.org/#part",
            "https://127.0.0.1/",
            "https://127.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://[::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://169.254.169.254/latest/meta-data",
        ] {
            assert!(parse(wrong, false).is_err(), "{wrong}");
        }
        assert!(parse(&format!("https://example.org/{}", "x".repeat(2_048)), false).is_err());
        assert!(parse("http://127.0.0.1:1/", true).is_ok());
    }

    #[test]
    fn a_queue_that_cannot_be_told_is_refused_at_once() {
        assert!(queue("amqps://shop.servicebus.windows.net/payments", false).is_ok());
        assert!(queue("amqp://127.0.0.1:5672/payments", true).is_ok());
        for wrong in [
            "https://shop.servicebus.windows.net/payments",
            "amqp://shop.servicebus.windows.net/payments",
            "amqps://10.0.0.1/payments",
            "amqps://[::1]/payments",
            "amqps://me:secret@shop.servicebus.windows.net/payments",
            "amqps://shop.servicebus.windows.net/",
        ] {
            assert_eq!(queue(wrong, false).unwrap_err().code, "invalid_url", "{wrong}");
        }
        assert!(queue(&format!("amqps://example.org/{}", "x".repeat(2_048)), false).is_err());
    }
}
