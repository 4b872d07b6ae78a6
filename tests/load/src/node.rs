//! Nodes under load. Logs the host in and creates rooms over HTTP before a run.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::Failure;

/// Timeout of an HTTP request.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Node with an address of the form `http://host:port`.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// Host and port as given on the command line. They are sent in the `Host` header.
    pub(crate) authority: String,
    pub(crate) address: SocketAddr,
}

impl FromStr for Node {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let authority = text
            .strip_prefix("http://")
            .ok_or("expected http://host:port: the generator connects to nodes directly, without TLS")?
            .trim_end_matches('/');
        let resolved = if authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
            authority.to_socket_addrs()
        } else {
            (authority, 80).to_socket_addrs()
        };
        let address = resolved
            .map_err(|error| format!("{authority} is not found: {error}"))?
            .next()
            .ok_or_else(|| format!("{authority} is not found"))?;
        Ok(Self { authority: authority.to_owned(), address })
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.authority)
    }
}

/// Login of the host with the account's keys and domains.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Login {
    pub(crate) access_token: String,
    /// Identifies the host in the path of status sockets.
    pub(crate) uuid: String,
    access_key: String,
    secret_key: String,
    service_domain: Option<String>,
}

impl Login {
    /// Returns the origin of the first domain that the host has registered.
    pub(crate) fn origin(&self) -> Result<String, Failure> {
        let first = self.service_domain.as_deref().and_then(|list| list.split(',').next()).map(str::trim);
        match first {
            Some(domain) if !domain.is_empty() && !domain.starts_with("*.") => Ok(format!("https://{domain}")),
            _ => Err(Failure::usage("--origin: is required, because the account has no service domain")),
        }
    }
}

/// HTTP client of a node's API. It keeps one connection open.
pub(crate) struct Api {
    agent: ureq::Agent,
}

impl Api {
    pub(crate) fn new() -> Self {
        let config = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).http_status_as_error(false).build();
        Self { agent: config.into() }
    }

    pub(crate) fn log_in(&self, node: &Node, email: &str, password: &str) -> Result<Login, Failure> {
        let url = format!("{node}/api/auth/login/");
        let answer = self.agent.post(&url).send_json(serde_json::json!({"email": email, "password": password}));
        read(&url, answer)
    }

    /// Creates a room with the host's keys and without `Origin`, and returns the name of the room.
    pub(crate) fn open_room(&self, node: &Node, login: &Login) -> Result<String, Failure> {
        #[derive(Deserialize)]
        struct Room {
            name: String,
        }
        let url = format!("{node}/api/chat/");
        let request = self
            .agent
            .post(&url)
            .header("X-PinTalk-Access-Key", &login.access_key)
            .header("X-PinTalk-Secret-Key", &login.secret_key);
        read::<Room>(&url, request.send_empty()).map(|room| room.name)
    }
}

fn read<T: DeserializeOwned>(
    url: &str,
    answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
) -> Result<T, Failure> {
    let mut answer = answer.map_err(|error| Failure::new(format!("{url}: {error}")))?;
    let status = answer.status();
    let body = answer.body_mut().read_to_string().map_err(|error| Failure::new(format!("{url}: {error}")))?;
    if !status.is_success() {
        return Err(Failure::new(format!("{url} answers {}: {body}", status.as_u16())));
    }
    serde_json::from_str(&body).map_err(|error| Failure::new(format!("{url} returned an unexpected response: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(domain: Option<&str>) -> Login {
        let nothing = String::new;
        Login {
            access_token: nothing(),
            uuid: nothing(),
            access_key: nothing(),
            secret_key: nothing(),
            service_domain: domain.map(Into::into),
        }
    }

    #[test]
    fn origin_is_the_first_registered_domain() {
        assert_eq!(login(Some("shop.example, other.example")).origin().unwrap(), "https://shop.example");
        for domain in [None, Some(""), Some("*.example")] {
            assert!(login(domain).origin().is_err());
        }
    }

    #[test]
    fn node_is_an_http_address() {
        let node: Node = "http://127.0.0.1:8081/".parse().unwrap();
        assert_eq!((node.to_string().as_str(), node.address.port()), ("http://127.0.0.1:8081", 8081));
        assert_eq!("http://127.0.0.1".parse::<Node>().unwrap().address.port(), 80);
        for wrong in ["127.0.0.1:80", "https://127.0.0.1", "http://", "http://127.0.0.1:x"] {
            assert!(wrong.parse::<Node>().is_err(), "{wrong}");
        }
    }
}
