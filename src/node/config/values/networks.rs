//! Lists of networks, used for trusted proxies and for webhook receivers in private networks.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use super::InvalidValue;

/// List of addresses and networks, or `none`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// The empty list.
    pub const NONE: Self = Self(Vec::new());

    /// Returns whether an address is in one of the networks. An IPv4-mapped IPv6 address is treated as the IPv4
    /// address.
    pub fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Returns whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for Networks {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        if text.trim() == "none" {
            return Ok(Self::NONE);
        }
        let networks: Option<Vec<IpNet>> = text.split(',').map(|entry| network(entry.trim())).collect();
        networks
            .map(Self)
            .ok_or_else(|| InvalidValue::new("expected addresses or networks such as 10.0.0.0/8, or none"))
    }
}

/// Parses a network. A single address is parsed as the network that contains only this address.
fn network(text: &str) -> Option<IpNet> {
    text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_parsed_and_contain_addresses() {
        let networks: Networks = "10.0.0.0/8, 192.0.2.7,2001:db8::/32".parse().unwrap();
        for inside in ["10.255.0.1", "192.0.2.7", "2001:db8:ffff::1", "::ffff:10.1.2.3"] {
            assert!(networks.contain(inside.parse().unwrap()), "{inside}");
        }
        for outside in ["11.0.0.1", "192.0.2.8", "2001:db9::1", "::1", "127.0.0.1"] {
            assert!(!networks.contain(outside.parse().unwrap()), "{outside}");
        }
        let all: Networks = "0.0.0.0/0,::/0".parse().unwrap();
        assert!(all.contain("203.0.113.9".parse().unwrap()) && all.contain("2001::1".parse().unwrap()));
        assert!("none".parse::<Networks>().unwrap().is_empty());
        for bad in ["", "10.0.0.0/33", "::/129", "proxy.example", "10.0.0.0/", "10.0.0.1,,10.0.0.2", "10/8"] {
            assert!(bad.parse::<Networks>().is_err(), "{bad}");
        }
    }
}
