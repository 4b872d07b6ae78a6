//! Pages and scripts that are part of the binary: the widget for visitors of a site, the console for hosts, and the demo, which
//! shows both to each other.
//!
//! All of it is plain JavaScript as browsers read it. [`assets`] serves the pages' modules as they lie in `src/web/`;
//! [`widget`] makes of its modules the one script that a site embeds.

use std::fmt;

use bytes::Bytes;
use serde::Serialize;

use crate::config::SignUp;
use crate::http::{JSON, Page, SCRIPT, SVG};

mod assets;
mod widget;

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

/// The widget's script and the console, which offers to create accounts if sign-up is open; and the demo, for the host of
/// `pintalk demo`.
pub fn pages(demo: Option<&DemoHost>, sign_up: SignUp) -> Vec<Page> {
    let mut pages = assets::pages(demo.is_some(), sign_up);
    pages.push(Page::new("/widget.js", SCRIPT, widget::script().into()));
    pages.push(Page::new("/favicon.ico", SVG, Bytes::from_static(include_bytes!("web/icon.svg"))));
    if let Some(host) = demo {
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
