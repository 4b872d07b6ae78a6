//! Embedded pages and scripts: the widget for visitors of a site, the console for hosts, and the demo, whose page shows
//! both side by side.
//!
//! The sources in `src/web/` are TypeScript. They are bundled into `src/web/dist/` as `src/web/README.md` describes.
//! The bundle is committed, so that building the server needs no other tools.

use std::fmt;

use bytes::Bytes;
use serde::Serialize;

use crate::accounts::SignUp;
use crate::domain::WireOffset;
use crate::http::{JSON, Page, SVG};

mod assets;

/// Host of `pintalk demo`, with the data that the demo page needs.
#[derive(Clone, PartialEq, Eq)]
pub struct DemoHost {
    /// E-mail address for the login.
    pub email: String,
    /// Password with which the demo page logs in automatically.
    pub password: String,
    /// Access key of the service.
    pub access_key: String,
    /// Secret key of the service.
    pub secret_key: String,
    /// Public identifier, which is in the path of the status socket.
    pub uuid: String,
}

impl fmt::Debug for DemoHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DemoHost({})", self.email)
    }
}

/// Values that the server inserts into the demo page.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DemoFacts<'a> {
    access_key: &'a str,
    secret_key: &'a str,
    email: &'a str,
    password: &'a str,
}

/// Configuration of the embedded pages.
#[derive(Clone, Copy, Debug)]
pub struct WebSettings<'a> {
    /// Host of `pintalk demo`. The demo page is served only if this is set.
    pub demo: Option<&'a DemoHost>,
    /// Whether the console offers sign-up.
    pub sign_up: SignUp,
    /// Path of `public-url` without a trailing slash; empty if the URL has no path.
    pub base: &'a str,
    /// Offset from UTC of the wall-clock times on the wire.
    pub wire_offset: WireOffset,
}

/// Returns the widget, the console and their files. Also returns the demo if it has a host.
pub fn pages(settings: &WebSettings<'_>) -> Vec<Page> {
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
        pages.push(facts.same_origin_only());
    }
    pages
}
