//! Two nodes behind a real nginx, with the configuration of the README.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use reqwest::Method;
use serde_json::Value;

use crate::readme;
use crate::support::{Client, Host, MYSQL, Room, SHOP, TestApp, eventually};

/// An nginx that ends with the test.
struct Nginx {
    master: Child,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Nginx {
    async fn before(nodes: [SocketAddr; 2]) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().display().to_string();
        let server = readme::block("nginx")
            .replace("listen 80;", &format!("listen {address};"))
            .replace("127.0.0.1:8081", &nodes[0].to_string())
            .replace("127.0.0.1:8082", &nodes[1].to_string())
            .replace("/var/log/nginx", &path);
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {path}/{kind};\n"))
            .concat();
        // Whoever runs it by hand has this much from his distribution.
        let whole = format!(
            "daemon off;\npid {path}/pid;\nerror_log {path}/error.log;\nworker_processes 1;\n\
             events {{ worker_connections 512; }}\nhttp {{\n{temporary}{server}\n}}\n"
        );
        let file = folder.path().join("nginx.conf");
        std::fs::write(&file, whole).expect("a configuration");
        let nginx = |more: &[&str]| {
            let mut nginx = Command::new("nginx");
            nginx.args(["-p", &path, "-e", &format!("{path}/error.log"), "-c"]).arg(&file).args(more);
            nginx.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
            nginx.spawn().expect("nginx is installed: see tests/run")
        };
        let checked = nginx(&["-t"]).wait_with_output().expect("nginx ends");
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
        let nginx = Self { master: nginx(&[]), address, folder };
        eventually("nginx listens", async || std::net::TcpStream::connect(address).is_ok().then_some(())).await;
        nginx
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn guest(&self, room: &Room, query: &str) -> Client {
        Client::open_at(self.address, &format!("/ws/chat/{}/{query}", room.name), Some(SHOP)).await
    }

    async fn desk(&self, room: &Room, host: &Host, after: &str) -> Client {
        let path = format!("/ws/chat/{}/?token={}{after}", room.name, host.token);
        Client::open_at(self.address, &path, None).await
    }

    fn log(&self) -> String {
        let read = |name: &str| std::fs::read_to_string(Path::new(self.folder.path()).join(name)).unwrap_or_default();
        ["pintalk.log", "pintalk-error.log", "error.log"].map(read).concat()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // An orderly end takes the workers along.
        let told = Command::new("kill").args(["-TERM", &self.master.id().to_string()]).status();
        let _gone = told.and_then(|_| self.master.wait());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_nginx_people_talk_across_nodes_and_lose_nothing_when_one_goes_away() {
    let flags = ["--trusted-proxies", "127.0.0.1", "--drain", "1s"];
    let mut app = TestApp::start_with(MYSQL, &flags).await;
    let host = app.host("host@shop.example").await;
    let nginx = Nginx::before([app.nodes[0].address, app.nodes[1].address]).await;

    // A page of the shop opens a room, the host lists it: plain HTTP.
    let request = app.http.post(nginx.url("/api/chat/")).header("Origin", SHOP);
    let request = request.header("X-PinTalk-Access-Key", &host.account.access_key);
    let answer = request.header("X-PinTalk-Secret-Key", &host.account.secret_key).send().await.expect("an answer");
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["access-control-allow-origin"]),
        (201, &SHOP.parse().unwrap())
    );
    let body: Value = answer.json().await.expect("JSON");
    let room = Room { name: body["name"].as_str().expect("a name").to_owned(), body };
    let list =
        app.http.get(nginx.url("/api/chat/chatrooms/")).bearer_auth(&host.token).send().await.expect("an answer");
    assert_eq!(list.json::<Value>().await.expect("JSON")["count"], 1);
    // What is for the operator is not for the world.
    assert_eq!(app.http.get(nginx.url("/metrics")).send().await.expect("an answer").status(), 404);

    // Least connections: the second socket comes to the other node.
    let (mut guest, mut desk) = (nginx.guest(&room, "").await, nginx.desk(&room, &host, "").await);
    for number in 1..=10 {
        guest.say(&format!("question {number}")).await;
        assert_eq!(desk.frame().await["seq"], number * 2 - 1);
        desk.say(&format!("answer {number}")).await;
        assert_eq!(guest.frame().await["seq"], number * 2);
    }

    // One node goes; whoever is sent away comes back by the same address, with the number of what he saw last.
    let gone = app.nodes.remove(0);
    gone.shutdown.begin();
    gone.ended().await;
    let mut sent_away = 0;
    if !guest.is_admitted().await {
        guest = nginx.guest(&room, "?after=20").await;
        sent_away += 1;
    }
    if !desk.is_admitted().await {
        desk = nginx.desk(&room, &host, "&after=20").await;
        sent_away += 1;
    }
    assert_eq!(sent_away, 1, "each node had one of them");
    guest.say("still there?").await;
    assert_eq!(desk.frame().await["seq"], 21);
    desk.say("yes").await;
    assert_eq!(guest.frame().await["seq"], 22);
    let path = format!("{}chat-messages/?limit=1", host.path_of(&app.nodes[0], &room).await);
    let (_, page) = host.call(&app.nodes[0], Method::GET, &path, Value::Null).await;
    assert_eq!(page["count"], 22);

    let log = nginx.log();
    assert!(log.contains("GET /ws/chat/") && !log.contains(&host.token), "{log}");
    drop(nginx);
    app.stop().await;
}
