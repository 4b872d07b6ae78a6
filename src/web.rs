//! Pages that are part of the binary.

use std::fmt;

use bytes::Bytes;
use serde::Serialize;

use crate::http::Page;

/// The host of `pintalk demo`, as its page needs him.
#[derive(Clone, PartialEq, Eq)]
pub struct DemoHost {
    /// His login.
    pub email: String,
    /// His password: the demo page logs in by itself.
    pub password: String,
    /// His access key.
    pub access_key: String,
    /// His secret key.
    pub secret_key: String,
    /// His uuid.
    pub uuid: String,
}

impl fmt::Debug for DemoHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DemoHost({})", self.email)
    }
}

/// What the demo page must know of its host.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DemoFacts<'a> {
    access_key: &'a str,
    secret_key: &'a str,
    email: &'a str,
    password: &'a str,
    host_uuid: &'a str,
}

/// The demo page with guest and host side by side, for the host of `pintalk demo`.
pub fn demo(host: &DemoHost) -> Vec<Page> {
    let facts = DemoFacts {
        access_key: &host.access_key,
        secret_key: &host.secret_key,
        email: &host.email,
        password: &host.password,
        host_uuid: &host.uuid,
    };
    vec![
        ("/demo", "text/html; charset=utf-8", Bytes::from_static(include_bytes!("web/demo.html"))),
        ("/demo/demo.css", "text/css; charset=utf-8", Bytes::from_static(include_bytes!("web/demo.css"))),
        ("/demo/demo.js", "text/javascript; charset=utf-8", Bytes::from_static(include_bytes!("web/demo.js"))),
        ("/demo/icon.svg", "image/svg+xml", Bytes::from_static(include_bytes!("web/icon.svg"))),
        ("/demo/config.json", "application/json", serde_json::to_vec(&facts).unwrap_or_default().into()),
    ]
}
