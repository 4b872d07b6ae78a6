//! API documentation: OpenAPI 3.1 for the calls, AsyncAPI 3 for the sockets, and an HTML page generated from both.
//!
//! The documents are mostly derived from the code: paths and methods from the route table, bodies from
//! [`crate::protocol`], close codes from [`crate::protocol::close`]. [`operations`] describes the purpose and the
//! outcomes of each call. Tests validate every response that they receive against the OpenAPI document.

mod asyncapi;
mod call_doc;
mod events;
mod openapi;
mod operations;
mod page;

use bytes::Bytes;
use serde_json::Value;

use super::pages::{CSS, HTML, JSON, Page};

/// Returns the documents and the page of a server at `public_url`.
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
