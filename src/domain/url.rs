//! Extracts the path of a URL.

/// Returns the path of an absolute URL without query and fragment; empty if it has none.
pub(crate) fn url_path(url: &str) -> &str {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    authority.find('/').map_or("", |at| &authority[at..])
}
