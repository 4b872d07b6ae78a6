//! Determines the address of a client. Forwarding headers are evaluated only if a trusted proxy sent them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::{HeaderMap, HeaderValue};

/// Address of a connection's peer. The accept loop adds it to the extensions of each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// Headers that proxies add. A request that contains one of them was forwarded, so its peer is not the client.
const FORWARDING: [&str; 6] =
    ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"];

/// Returns whether the headers show that a request was forwarded.
pub(super) fn is_forwarded(headers: &HeaderMap) -> bool {
    FORWARDING.iter().any(|name| headers.contains_key(*name))
}

/// Returns whether an address belongs to a proxy of the operator (`trusted-proxies`).
pub type IsTrustedProxy = Arc<dyn Fn(IpAddr) -> bool + Send + Sync>;

/// Returns the address of the client: the peer or, if the peer is a trusted proxy, the rightmost entry of
/// `X-Forwarded-For` that is not a trusted proxy. If all entries are trusted proxies, returns the leftmost one. Empty
/// entries are skipped. An invalid entry and all entries to its left are ignored; if none remains, returns the peer.
pub(super) fn client(peer: IpAddr, headers: &HeaderMap, is_trusted: &IsTrustedProxy) -> IpAddr {
    let mut client = peer.to_canonical();
    if !is_trusted(client) {
        return client;
    }
    let lines: Vec<&HeaderValue> = headers.get_all("x-forwarded-for").iter().collect();
    let hops = lines.iter().rev().flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    for hop in hops.map(<[u8]>::trim_ascii).filter(|hop| !hop.is_empty()) {
        match address(hop) {
            Some(address) => client = address,
            // Entries to the left of an invalid entry are not trusted.
            None => break,
        }
        if !is_trusted(client) {
            break;
        }
    }
    client
}

/// Parses one entry of `X-Forwarded-For`: an address, optionally with a port or a zone.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?;
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let bare = match text.strip_prefix('[') {
        Some(rest) => {
            let (inside, port) = rest.split_once(']')?;
            let is_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
            if !port.is_empty() && !port.strip_prefix(':').is_some_and(is_port) {
                return None;
            }
            inside
        }
        None => text,
    };
    let bare = bare.split_once('%').map_or(bare, |(address, _zone)| address);
    let with_port = || bare.parse::<SocketAddr>().ok().map(|address| address.ip());
    bare.parse::<IpAddr>().ok().or_else(with_port).map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the address of the client if all addresses that begin with `trusted` belong to trusted proxies.
    fn seen(trusted: &'static str, peer: &str, forwarded: &str) -> String {
        let headers = [("x-forwarded-for".parse().unwrap(), forwarded.parse().unwrap())].into_iter().collect();
        let is_trusted: IsTrustedProxy = Arc::new(move |address| address.to_string().starts_with(trusted));
        client(peer.parse().unwrap(), &headers, &is_trusted).to_string()
    }

    #[test]
    fn forwarded_address_of_an_untrusted_peer_is_ignored() {
        assert_eq!(seen("none", "10.0.0.1", "1.2.3.4"), "10.0.0.1");
        assert_eq!(seen("10.", "11.0.0.1", "1.2.3.4"), "11.0.0.1");
        assert_eq!(seen("10.", "10.0.0.1", "1.2.3.4"), "1.2.3.4");
    }

    #[test]
    fn entries_added_by_the_client_are_ignored() {
        assert_eq!(seen("10.", "10.0.0.1", "6.6.6.6, 1.2.3.4, 10.0.0.2"), "1.2.3.4");
        assert_eq!(seen("10.", "10.0.0.1", "6.6.6.6, nonsense, 10.0.0.2"), "10.0.0.2");
        assert_eq!(seen("10.", "10.0.0.1", ""), "10.0.0.1");
    }

    #[test]
    fn one_unreadable_entry_does_not_hide_the_others() {
        let is_trusted: IsTrustedProxy = Arc::new(|address| address.to_string().starts_with("10."));
        let seen = |lines: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("x-forwarded-for", HeaderValue::from_bytes(line).unwrap());
            }
            client("10.0.0.1".parse().unwrap(), &headers, &is_trusted).to_string()
        };
        assert_eq!(seen(&[b"\xe9, 1.2.3.4"]), "1.2.3.4");
        assert_eq!(seen(&[b"6.6.6.6\xff, 1.2.3.4, 10.0.0.2"]), "1.2.3.4");
        assert_eq!(seen(&[b"1.2.3.4, \xe9, 10.0.0.2"]), "10.0.0.2");
        assert_eq!(seen(&[b"\xff\xfe", b"1.2.3.4", b"10.0.0.2"]), "1.2.3.4", "several lines are one list");
        assert_eq!(seen(&[b"1.2.3.4", b"5.6.7.8"]), "5.6.7.8");
        assert_eq!(seen(&[b"1.2.3.4, , 10.0.0.2,,", b" , "]), "1.2.3.4", "empty entries are none");
        assert_eq!(seen(&[b"1.2.3.4, unknown, 10.0.0.2"]), "10.0.0.2");
        assert_eq!(seen(&[b"1.2.3.4,_hidden"]), "10.0.0.1");
        assert_eq!(seen(&[b""]), "10.0.0.1");
    }

    #[test]
    fn addresses_are_read_in_every_common_spelling() {
        assert_eq!(seen("127.", "::ffff:127.0.0.1", "1.2.3.4:5678"), "1.2.3.4");
        assert_eq!(seen("::1", "::1", "[2001:db8::1]:443"), "2001:db8::1");
        assert_eq!(seen("::1", "::1", "[2001:db8::1]"), "2001:db8::1");
        assert_eq!(seen("::1", "::1", "\"[2001:db8::1]:443\""), "2001:db8::1");
        assert_eq!(seen("::1", "::1", "fe80::1%eth0"), "fe80::1");
        assert_eq!(seen("::1", "::1", "\"1.2.3.4\""), "1.2.3.4");
        assert_eq!(seen("::1", "::1", "::ffff:1.2.3.4"), "1.2.3.4");
        for bad in ["[2001:db8::1]x", "[2001:db8::1]:", "[2001:db8::1", "1.2.3", "1.2.3.4:x", "01.2.3.4", "localhost"] {
            assert_eq!(seen("::1", "::1", bad), "::1", "{bad}");
        }
    }
}
