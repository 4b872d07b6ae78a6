//! Who calls: the client's address behind proxies that are trusted, and nobody else's word for it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::HeaderMap;

/// The peer of a connection, put into each request's extensions by the accept loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// What a proxy adds. One of these means that the caller is not who holds the socket.
const FORWARDING: [&str; 6] =
    ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"];

/// Whether a request was forwarded, as far as its headers show.
pub(super) fn is_forwarded(headers: &HeaderMap) -> bool {
    FORWARDING.iter().any(|name| headers.contains_key(*name))
}

/// Whether an address is one of the operator's own proxies (`trusted-proxies`).
pub type IsTrustedProxy = Arc<dyn Fn(IpAddr) -> bool + Send + Sync>;

/// The client of a request: from the right of `X-Forwarded-For`, the first address that is not a trusted proxy.
pub(super) fn client(peer: IpAddr, headers: &HeaderMap, is_trusted: &IsTrustedProxy) -> IpAddr {
    let hops: Vec<&str> = headers
        .get_all("x-forwarded-for")
        .iter()
        .flat_map(|value| value.to_str().unwrap_or_default().split(','))
        .map(str::trim)
        .collect();
    let mut client = peer.to_canonical();
    for hop in hops.iter().rev() {
        if !is_trusted(client) {
            break;
        }
        match address(hop) {
            Some(address) => client = address,
            // Nothing left of nonsense is believed.
            None => break,
        }
    }
    client
}

/// One entry of `X-Forwarded-For`; some proxies add a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.trim_matches('"');
    let parsed = bare
        .parse::<IpAddr>()
        .ok()
        .or_else(|| bare.parse::<SocketAddr>().ok().map(|address| address.ip()))
        .or_else(|| bare.strip_prefix('[')?.strip_suffix(']')?.parse().ok())?;
    Some(parsed.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The client that is seen when addresses beginning with `trusted` are proxies.
    fn seen(trusted: &'static str, peer: &str, forwarded: &str) -> String {
        let headers = [("x-forwarded-for".parse().unwrap(), forwarded.parse().unwrap())].into_iter().collect();
        let is_trusted: IsTrustedProxy = Arc::new(move |address| address.to_string().starts_with(trusted));
        client(peer.parse().unwrap(), &headers, &is_trusted).to_string()
    }

    #[test]
    fn nobody_is_believed_unless_he_is_trusted() {
        assert_eq!(seen("none", "10.0.0.1", "1.2.3.4"), "10.0.0.1");
        assert_eq!(seen("10.", "11.0.0.1", "1.2.3.4"), "11.0.0.1");
        assert_eq!(seen("10.", "10.0.0.1", "1.2.3.4"), "1.2.3.4");
    }

    #[test]
    fn what_a_client_puts_on_the_left_is_not_believed() {
        assert_eq!(seen("10.", "10.0.0.1", "6.6.6.6, 1.2.3.4, 10.0.0.2"), "1.2.3.4");
        assert_eq!(seen("10.", "10.0.0.1", "6.6.6.6, nonsense, 10.0.0.2"), "10.0.0.2");
        assert_eq!(seen("10.", "10.0.0.1", ""), "10.0.0.1");
    }

    #[test]
    fn addresses_are_read_in_every_common_spelling() {
        assert_eq!(seen("127.", "::ffff:127.0.0.1", "1.2.3.4:5678"), "1.2.3.4");
        assert_eq!(seen("::1", "::1", "[2001:db8::1]:443"), "2001:db8::1");
        assert_eq!(seen("::1", "::1", "[2001:db8::1]"), "2001:db8::1");
    }
}
