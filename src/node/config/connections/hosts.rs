//! Option value with the addresses of servers: `host` or `host:port`, separated by commas.

use std::str::FromStr;

use url::Host;

use crate::node::config::InvalidValue;

/// Addresses of one or several Redis servers. Each address may have its own port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisHosts(Vec<(Host, Option<u16>)>);

impl RedisHosts {
    /// Returns each address as `host:port`. The port is `default` for an address without a port.
    pub(super) fn with_port(&self, default: u16) -> Vec<String> {
        self.0.iter().map(|(host, port)| format!("{host}:{}", port.unwrap_or(default))).collect()
    }
}

impl FromStr for RedisHosts {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let hosts = text.split(',').map(|host| host_and_port(host.trim())).collect::<Option<Vec<_>>>();
        hosts.map(Self).ok_or_else(|| InvalidValue::new("expected host or host:port, several separated by commas"))
    }
}

fn host_and_port(text: &str) -> Option<(Host, Option<u16>)> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse().ok()?)),
        _ => (text, None),
    };
    Some((Host::parse(host).ok()?, port))
}
