//! The API tells about itself: OpenAPI 3.1 for the calls, AsyncAPI 3 for the sockets, and a page of both for people.
//!
//! Nothing here is a second truth. Paths and methods are the route table's, bodies are those of [`crate::protocol`], close
//! codes are [`crate::protocol::close`]'s; [`operations`] adds what a call is for and how it may end, and tests hold every
//! answer that they get against it.

mod asyncapi;
mod events;
mod openapi;
mod operations;
mod page;
mod sketch;

use bytes::Bytes;
use serde_json::Value;

use super::pages::{CSS, HTML, JSON, Page};

/// The documents and the page, for a server that is reached at `public_url`.
pub fn docs(public_url: &str) -> Vec<Page> {
    let (calls, sockets) = (openapi::document(public_url), asyncapi::document(public_url));
    let page = page::render(public_url, &calls, &sockets);
    vec![
        Page::new("/api/openapi.json", JSON, to_json(&serde_json::to_value(&calls).unwrap_or_default())),
        Page::new("/api/asyncapi.json", JSON, to_json(&sockets)),
        Page::new("/api/docs", HTML, page.into()),
        Page::new("/api/docs/docs.css", CSS, Bytes::from_static(include_bytes!("docs/docs.css"))),
    ]
}

fn to_json(document: &Value) -> Bytes {
    format!("{document:#}\n").into()
}

#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;
