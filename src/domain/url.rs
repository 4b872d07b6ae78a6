//! Extraction of the path from a URL.

/// Returns the path of an absolute URL that has no query and no fragment. Returns an empty string if the URL has no
/// path.
pub(crate) fn url_path(url: &str) -> &str {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    authority.find('/').map_or("", |at| &authority[at..])
}
