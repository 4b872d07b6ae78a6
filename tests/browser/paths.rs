//! Tests PinTalk below a path of a site, with a `public-url` that contains this path. The tests use an nginx that
//! strips the path and an nginx that keeps the path.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::browser::Browser;
use crate::people::{Guest, Host};
use crate::site::Site;
use crate::talk::no_complaints;

/// nginx that exposes a node below `/chat/`. It is stopped on drop.
struct Below {
    nginx: Child,
    folder: tempfile::TempDir,
}

impl Below {
    fn start(address: SocketAddr, node: SocketAddr, strips: bool) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().display().to_string();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {path}/{kind};\n"))
            .concat();
        let slash = if strips { "/" } else { "" };
        let configuration = format!(
            "daemon off;\npid {path}/pid;\nerror_log {path}/error.log;\nworker_processes 1;\nevents {{ worker_connections 256; }}\n\
             http {{\n{temporary}access_log off;\nserver {{\nlisten {address};\nlocation = / {{ return 200 'the site itself'; }}\n\
             location /chat/ {{\nproxy_pass http://{node}{slash};\nproxy_http_version 1.1;\nproxy_set_header Host $http_host;\n\
             proxy_set_header Upgrade $http_upgrade;\nproxy_set_header Connection $http_connection;\n\
             proxy_set_header X-Forwarded-For $remote_addr;\n}}\n}}\n}}\n"
        );
        let file = folder.path().join("nginx.conf");
        std::fs::write(&file, configuration).expect("a configuration");
        let mut nginx = Command::new("nginx");
        nginx.args(["-p", &path, "-e", &format!("{path}/error.log"), "-c"]).arg(&file);
        let nginx = nginx.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self { nginx: nginx.expect("nginx, which tests/run installs"), folder }
    }
}

impl Drop for Below {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", std::fs::read_to_string(self.folder.path().join("error.log")).unwrap_or_default());
        }
        // Sends SIGTERM instead of SIGKILL, so that the workers of nginx also end.
        let _ended = Command::new("kill").arg(self.nginx.id().to_string()).status();
        let _waited = self.nginx.wait();
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn widget_and_console_work_below_a_path_that_the_proxy_keeps_or_strips() {
    for (strips, slash) in [(true, ""), (false, "/"), (true, "/"), (false, "")] {
        let address = free_address();
        let public = format!("http://{address}/chat");
        let site = Site::embedded_with(&["--public-url", &format!("{public}{slash}")]).await;
        let _below = Below::start(address, site.nodes[0].address, strips);
        let listens = async || TcpStream::connect(address).ok().map(drop);
        crate::eventually("nginx listens", crate::TIMEOUT, listens).await;
        let browser = Browser::start("en-US").await;
        let console = format!("{public}/console/");
        let host = Host::sign_in(browser.open_page().await, &console).await;

        // The cookie is valid for the path. The console therefore resumes the login after a reload.
        host.page.reload().await;
        host.is_online().await;
        let cookies =
            host.page.chromium("Network.getCookies", json!({"urls": [&console, &format!("{public}/api/auth/")]})).await;
        let cookies = cookies["cookies"].as_array().cloned().unwrap_or_default();
        let refresh =
            cookies.iter().find(|cookie| cookie["name"].as_str().is_some_and(|name| name.contains("refresh")));
        let path = refresh.map(|cookie| cookie["path"].clone());
        assert!(path.as_ref().and_then(Value::as_str).is_some_and(|path| path.starts_with("/chat")), "{path:?}");

        // The tag that the console shows contains the path.
        host.press("Settings").await;
        let gives = "document.body.innerText.includes(arguments[0])";
        host.page.until_with("the tag names the path", gives, &json!([format!("{public}/widget.js")])).await;

        site.shop.show_with("", &site.tag(&public));
        let guest = Guest::visit(browser.first_page().await, &site.shop.url()).await;
        guest.page.until("the host is shown online", &Guest::at(".presence .dot.on")).await;
        guest.send_text("below a path").await;
        guest.sees(&["me: below a path"]).await;
        host.page.click("document.querySelector('.rooms .room')").await;
        host.page.until("the conversation is open", "document.querySelector('.conversation .writing')").await;
        host.send_text("it works").await;
        guest.sees(&["me: below a path", "they: it works"]).await;
        let outside = format!(
            "performance.getEntriesByType('resource').map(({{ name }}) => name).filter((name) => name.includes('{address}') && !name.startsWith('{public}/'))"
        );
        for page in [&guest.page, &host.page] {
            assert_eq!(page.value(&outside).await, json!([]), "something is requested outside of the path");
        }
        // The API description contains the public URL. The health check and the console are served below the path.
        let http = reqwest::Client::new();
        let get = async |path: &str| http.get(format!("{public}{path}")).send().await.expect("an answer");
        let described: Value = get("/api/openapi.json").await.json().await.expect("JSON");
        assert_eq!(
            described["servers"][0]["url"].as_str().map(|url| url.trim_end_matches('/').to_owned()),
            Some(public.clone())
        );
        assert_eq!(get("/health/ready").await.status(), 200);
        let page = get("/console").await;
        assert!(page.url().as_str().starts_with(&format!("{public}/console")), "{}", page.url());
        no_complaints(&browser).await;

        // A host can log in and list rooms with calls below the path.
        let one = Duration::from_secs(10);
        let login = http.post(format!("{public}/api/auth/login/")).timeout(one);
        let login = login.json(&json!({"email": crate::site::EMAIL, "password": crate::site::PASSWORD}));
        let login: Value = login.send().await.expect("an answer").json().await.expect("JSON");
        let token = login["accessToken"].as_str().expect("a token").to_owned();
        let list = http.get(format!("{public}/api/chat/chatrooms/?page_size=1")).bearer_auth(&token);
        let list = list.send().await.expect("an answer");
        assert_eq!(list.status(), 200);
        site.close().await;
    }
}
