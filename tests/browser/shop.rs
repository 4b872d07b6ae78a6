//! Web server of the shop, which has a different origin than the nodes. It serves pages with the widget, and libraries
//! for these pages.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Path below which the files of npm packages are served.
pub const LIBRARIES: &str = "/npm/";

/// Returns the folder of the installed npm packages.
pub fn node_modules() -> PathBuf {
    PathBuf::from(std::env::var("PINTALK_TEST_NODE_MODULES").expect("npm packages, which tests/run installs"))
}

/// Response of the shop.
#[derive(Clone)]
pub struct Reply {
    pub content_type: &'static str,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn html(body: &str) -> Self {
        let body = body.as_bytes().to_vec();
        Self { content_type: "text/html; charset=utf-8", body }
    }

    /// Returns a file of an npm package. `path` is relative to `node_modules`.
    fn library(path: &str) -> Self {
        let body = std::fs::read(node_modules().join(path));
        let body = body.unwrap_or_else(|error| panic!("{path}: {error}"));
        let content_type = if path.ends_with(".css") { "text/css" } else { "text/javascript; charset=utf-8" };
        Self { content_type, body }
    }
}

#[derive(Default)]
struct Routes {
    /// Page for all paths that have no reply of their own.
    page: String,
    replies: HashMap<String, Reply>,
}

/// Web server of the shop. It serves the same page under all paths that have no reply of their own.
pub struct Shop {
    pub address: SocketAddr,
    routes: Arc<Mutex<Routes>>,
    serving: JoinHandle<()>,
}

/// Host names of further origins. They all resolve to the shop's server.
pub const ORIGINS: [&str; 3] = ["one.localhost", "two.localhost", "three.localhost"];

impl Shop {
    pub async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let routes = Arc::new(Mutex::new(Routes::default()));
        let shown = routes.clone();
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, shown.clone()));
            }
        });
        Self { address, routes, serving }
    }

    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Returns the URL of the page at another origin. `origin` is one of [`ORIGINS`].
    pub fn url_at(&self, origin: &str) -> String {
        format!("http://{origin}:{}/", self.address.port())
    }

    /// Returns the domains that the host must register for the shop.
    pub fn domains(&self) -> String {
        let further = ORIGINS.map(|origin| format!("{origin}:{}", self.address.port()));
        format!("{},{}", self.address, further.join(","))
    }

    /// Serves the page of the shop with the widget's tag at its end.
    pub fn show(&self, script: &str, access_key: &str, secret_key: &str) {
        self.show_with("", &tag(script, access_key, secret_key));
    }

    /// Serves a page with the given markup in its head and at its end.
    pub fn show_with(&self, head: &str, end: &str) {
        self.routes.lock().page = page("Shop", head, &format!("<main><h1>Shop</h1><p>Things to buy.</main>{end}"));
    }

    /// Serves a reply under one path.
    pub fn serve(&self, path: &str, reply: Reply) {
        self.routes.lock().replies.insert(path.to_owned(), reply);
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Returns the HTML of a complete page.
pub fn page(title: &str, head: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head><title>{title}</title>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">{head}</head><body>{body}</body></html>"
    )
}

/// Returns the script tag of the widget with the keys of a host.
pub fn tag(script: &str, access_key: &str, secret_key: &str) -> String {
    format!(
        "<script src=\"{script}\" data-access-key=\"{access_key}\" data-secret-key=\"{secret_key}\" async></script>"
    )
}

/// Returns a script tag that loads a file of an npm package.
pub fn library(path: &str) -> String {
    format!("<script src=\"{LIBRARIES}{path}\"></script>")
}

async fn serve(mut stream: TcpStream, routes: Arc<Mutex<Routes>>) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        // Browsers open connections in advance, so a connection may be closed before it contains a request.
        let Ok(len @ 1..) = stream.read(&mut buffer).await else { return };
        request.extend_from_slice(&buffer[..len]);
    }
    let request = String::from_utf8_lossy(&request);
    let path = request.split(' ').nth(1).unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default();
    let reply = match path.strip_prefix(LIBRARIES) {
        Some(file) => Reply::library(file),
        None => {
            let routes = routes.lock();
            routes.replies.get(path).cloned().unwrap_or_else(|| Reply::html(&routes.page))
        }
    };
    let Reply { content_type, body } = reply;
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let _sent = stream.write_all(&[head.as_bytes(), &body].concat()).await;
}
