//! Pages and scripts that are part of the binary: the widget for visitors of a site, the console for hosts, and the demo, which
//! shows both beside each other.
//!
//! Their sources are TypeScript in `src/web/`. `src/web/README.md` describes how they are bundled into `src/web/dist/`, which is
//! committed, so that building the server needs no other tools.

use std::fmt;

use bytes::Bytes;
use serde::Serialize;

use crate::config::SignUp;
use crate::domain::WireOffset;
use crate::http::{JSON, Page, SVG};

mod assets;

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
}

/// What the pages must know of the server.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// The host of `pintalk demo`, whose page is served as well.
    pub demo: Option<&'a DemoHost>,
    /// Whether the console offers to create accounts.
    pub sign_up: SignUp,
    /// Path of `public-url` without a final slash, empty if it has none.
    pub base: &'a str,
    /// Offset of the wall clocks on the wire.
    pub wire_offset: WireOffset,
}

/// The widget, the console and their files; the demo only if it has a host.
pub fn pages(settings: &Settings<'_>) -> Vec<Page> {
    let mut pages = assets::pages(settings);
    pages.push(Page::new("/favicon.ico", SVG, Bytes::from_static(include_bytes!("web/icon.svg"))));
    if let Some(host) = settings.demo {
        let facts = DemoFacts {
            access_key: &host.access_key,
            secret_key: &host.secret_key,
            email: &host.email,
            password: &host.password,
        };
        let facts = Page::new("/demo/config.json", JSON, serde_json::to_vec(&facts).unwrap_or_default().into());
        pages.push(facts.kept_from_others());
    }
    pages
}
