//! Removes the path of `public-url` from requests. Some proxies forward this path and others remove it, so nodes accept
//! both forms.

use std::collections::HashSet;

use http::uri::PathAndQuery;
use http::{Request, Uri};

use super::pages::Pages;
use super::request;
use super::routes::{self, Target};

/// Path at which a proxy exposes this server, such as `/chat`.
pub(super) struct Prefix {
    path: String,
    /// First segments of the paths of this server. The prefix is removed only if one of them follows. For example, with
    /// the prefix `/api`, both `/api/chat/` and `/api/api/chat/` refer to the call `/api/chat/`.
    names: HashSet<String>,
    /// Whether the prefix alone refers to the start page. It does not if it is also a path of this server. For example,
    /// with the prefix `/console`, both `/console/` and `/console/console/` refer to the console.
    is_start_page: bool,
}

impl Prefix {
    /// Creates the prefix of a server with these pages. `path` has no trailing slash. Returns `None` if `path` is
    /// empty.
    pub(super) fn new(path: &str, pages: &Pages) -> Option<Self> {
        if path.is_empty() {
            return None;
        }
        // The first segment of the start page is empty.
        let of_pages = pages.first_segments().filter(|name| !name.is_empty()).map(str::to_owned);
        let names = routes::first_segments().map(str::to_owned).chain(of_pages).collect();
        let is_start_page = matches!(routes::find(path, pages), Target::Nothing(_));
        Some(Self { path: path.to_owned(), names, is_start_page })
    }

    /// Removes the prefix from the target of a request.
    pub(super) fn strip<B>(&self, request: &mut Request<B>) {
        if let Some(stripped) = self.stripped(request.uri()) {
            *request.uri_mut() = stripped;
        }
    }

    fn stripped(&self, uri: &Uri) -> Option<Uri> {
        let kept = self.kept(uri.path())?;
        let target = match uri.query() {
            Some(query) => format!("{kept}?{query}"),
            None => kept.to_owned(),
        };
        let mut parts = uri.clone().into_parts();
        parts.path_and_query = Some(PathAndQuery::try_from(target).ok()?);
        Uri::from_parts(parts).ok()
    }

    /// Returns the part of a path after the prefix, or `/` for the start page. Returns `None` if the path has no
    /// prefix, or if the prefix must be kept; see the fields.
    fn kept<'a>(&self, path: &'a str) -> Option<&'a str> {
        let kept = path.strip_prefix(&self.path)?;
        if matches!(kept, "" | "/") {
            return self.is_start_page.then_some("/");
        }
        let name = kept.strip_prefix('/')?.split('/').next().and_then(request::decode)?;
        self.names.contains(&*name).then_some(kept)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::pages::{Page, SCRIPT};
    use super::super::routes::TABLE;
    use super::*;

    fn pages() -> Pages {
        let page = |path| Page::new(path, SCRIPT, Bytes::new());
        let asset = Page::immutable("/assets/", "/assets/abc/widget-panel.js".into(), SCRIPT, Bytes::new());
        Pages::new([page("/"), page("/widget.js"), page("/console/"), page("/demo"), page("/api/docs/docs.css"), asset])
    }

    fn strip(prefix: &str, target: &str) -> String {
        let mut request = Request::builder().uri(target).body(()).unwrap();
        Prefix::new(prefix, &pages()).unwrap().strip(&mut request);
        request.uri().to_string()
    }

    #[test]
    fn only_the_exact_prefix_before_a_path_of_the_server_is_removed() {
        for (target, stripped) in [
            ("/chat/api/chat/", "/api/chat/"),
            ("/chat/ws/chat/abc/?token=a/b/c&v=2", "/ws/chat/abc/?token=a/b/c&v=2"),
            ("/chat/ws/chat/%zz", "/ws/chat/%zz"),
            ("/chat/widget.js?v=1", "/widget.js?v=1"),
            ("/chat/assets/other/widget-panel.js", "/assets/other/widget-panel.js"),
            ("/chat/media/chat", "/media/chat"),
            ("/chat/health/ready", "/health/ready"),
            ("/chat", "/"),
            ("/chat/", "/"),
            ("/chat?from=x", "/?from=x"),
            ("http://shop.example/chat/console/", "http://shop.example/console/"),
        ] {
            assert_eq!(strip("/chat", target), stripped);
        }
        for target in [
            "/chat//",
            "/chatx",
            "/chatx/api/chat/",
            "/Chat/api/chat/",
            "/%63hat/api/chat/",
            "//chat/api/chat/",
            "/chat//api/chat/",
            "/chat%2Fapi/chat/",
            "/chat/%2Fapi/chat/",
            "/chat/../api/chat/",
            "/chat/%2e%2e/api/chat/",
            "/chat/./api/chat/",
            "/chat/chat/api/chat/",
            "/chat/apix/chat/",
            "/chat;x/api/chat/",
            "/api/chat/",
            "/ws/chat/chat/",
        ] {
            assert_eq!(strip("/chat", target), target);
        }
        assert_eq!(strip("/a/b", "/a/b/api/chat/"), "/api/chat/");
        for target in ["/a/api/chat/", "/b/api/chat/", "/a/bc/api/chat/", "/a//b/api/chat/"] {
            assert_eq!(strip("/a/b", target), target);
        }
        assert!(Prefix::new("", &pages()).is_none());
    }

    #[test]
    fn every_path_is_reached_with_and_without_a_prefix_that_is_named_like_a_route() {
        let pages = pages();
        let name = "pQ7xJ2mWcY0tR9vKbN4sZA";
        let mut paths: Vec<String> =
            TABLE.iter().map(|route| route.template.replace("{id}", "7").replace("{name}", name)).collect();
        paths.extend([
            format!("/ws/chat/{name}/"),
            format!("/ws/chat/{name}/status/"),
            format!("/ws/status/{name}/"),
            format!("/media/{name}.png"),
            "/unsubscribe/token".into(),
            "/consent/token".into(),
            "/widget.js".into(),
            "/console/".into(),
            "/demo".into(),
            "/api/docs/docs.css".into(),
            "/assets/abc/widget-panel.js".into(),
        ]);
        let socket = |path: &str| match routes::find(path, &pages) {
            Target::Socket(path) => path,
            target => target.label().to_owned(),
        };
        for prefix in [
            "/chat",
            "/api",
            "/ws",
            "/ws/chat",
            "/api/chat",
            "/api/users",
            "/media",
            "/console",
            "/assets",
            "/health",
            "/metrics",
            "/demo",
            "/unsubscribe",
            "/consent",
            "/widget.js",
            "/a/b",
        ] {
            for path in &paths {
                let (with, without) = (strip(prefix, &format!("{prefix}{path}")), strip(prefix, path));
                assert_eq!((&with, &without), (path, path), "{prefix}");
                assert_ne!(socket(path), "unmatched", "{path}");
            }
        }
        assert_eq!(routes::find("/", &pages).label(), "/");
        for (prefix, target) in [("/console", "/console/"), ("/demo", "/demo"), ("/ws/chat", "/ws/chat/")] {
            assert_eq!((strip(prefix, target).as_str(), strip(prefix, "/").as_str()), (target, "/"));
        }
    }
}
