//! Tests account e-mails with a real mail server. The nodes run as two processes, and the steps of a flow use both of
//! them.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::servers::{Database, RedisServer, TestDatabase};
use crate::support::{TIMEOUT, eventually};

/// Secret with which the nodes sign tokens.
pub const JWT_SECRET: &str = "a-secret-of-the-tests-that-is-long-enough";

/// Mail server that requires STARTTLS and a login.
pub struct Sink {
    process: Child,
    port: u16,
    mails: Receiver<Value>,
}

impl Sink {
    pub fn start(folder: &Path) -> Self {
        let openssl = |args: &str| {
            let done = Command::new("openssl").args(args.split(' ')).current_dir(folder).stderr(Stdio::null()).status();
            assert!(done.is_ok_and(|status| status.success()), "openssl, as tests/run sees to");
        };
        let new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
        openssl(&format!("{new} -subj /CN=authority -keyout ca.key -out ca.pem"));
        openssl(&format!(
            "{new} -subj /CN=localhost -keyout key.pem -out cert.pem -CA ca.pem -CAkey ca.key \
             -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE"
        ));
        let mut process = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers/smtp-sink"))
            .args([folder.join("cert.pem"), folder.join("key.pem")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3, as tests/run sees to");
        let lines = process.stdout.take().expect("its output");
        let mails = lines_of(lines);
        let first = mails.recv_timeout(TIMEOUT).expect("the mail server starts");
        let port = first["port"].as_u64().and_then(|port| u16::try_from(port).ok()).expect("a port");
        Self { process, port, mails }
    }

    pub async fn mail(&self) -> Value {
        eventually("a mail comes", async || self.mails.try_recv().ok()).await
    }

    /// Returns whether no further e-mail has arrived so far.
    pub fn is_empty(&self) -> bool {
        self.mails.try_recv().is_err()
    }
}

fn lines_of(output: ChildStdout) -> Receiver<Value> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let line = serde_json::from_str(&line).expect("a line of JSON");
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _gone = self.process.wait();
    }
}

/// Node that runs as a separate process.
pub struct Node {
    process: Child,
    pub address: SocketAddr,
}

impl Node {
    pub async fn start(flags: &[String], ca: &Path, http: &reqwest::Client) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
        let process = Command::new(env!("CARGO_BIN_EXE_pintalk"))
            .args(["serve", "--listen", &address.to_string(), "--drain-delay", "0s", "--drain", "0s"])
            .args(flags)
            .env("SSL_CERT_FILE", ca)
            .stdout(Stdio::null())
            .spawn()
            .expect("the program");
        let node = Self { process, address };
        eventually("a node is ready", async || {
            let ready = http.get(node.url("/health/ready")).send().await.ok()?;
            (ready.status() == 200).then_some(())
        })
        .await;
        node
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _gone = self.process.wait();
    }
}

/// Stores and a mail server, which all nodes of a test use.
pub struct Cluster {
    pub redis: RedisServer,
    pub database: TestDatabase,
    pub sink: Sink,
    pub http: reqwest::Client,
    folder: tempfile::TempDir,
}

impl Cluster {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let http = reqwest::Client::builder().timeout(TIMEOUT).build().expect("a client");
        let (redis, database) = (RedisServer::start().await, TestDatabase::create(Database::MySql).await);
        Self { redis, database, sink: Sink::start(folder.path()), http, folder }
    }

    /// Starts a node with additional flags and waits until it is ready. The first node also creates the schema.
    pub async fn node(&self, more: &[&str]) -> Node {
        let mut flags = vec!["--auto-migrate".to_owned()];
        for (flag, value) in [
            ("--redis-url", self.redis.url()),
            ("--database-url", self.database.url.clone()),
            ("--trusted-proxies", "none".to_owned()),
            ("--jwt-secret", JWT_SECRET.to_owned()),
            ("--data-dir", self.folder.path().display().to_string()),
            ("--smtp-url", format!("smtp://mailer:a%20secret@localhost:{}?tls=required", self.sink.port)),
            ("--mail-from", "The Shop <mail@shop.example>".to_owned()),
        ] {
            flags.extend([flag.to_owned(), value]);
        }
        flags.extend(more.iter().map(|word| (*word).to_owned()));
        Node::start(&flags, &self.folder.path().join("ca.pem"), &self.http).await
    }
}

/// Returns the first word of an e-mail's body for which `is_it` is true.
fn word(mail: &Value, is_it: impl Fn(&str) -> bool) -> String {
    let body = mail["body"].as_str().expect("a text");
    body.split_whitespace().find(|word| is_it(word)).unwrap_or_else(|| panic!("nothing like it in {body}")).to_owned()
}

fn is_code(word: &str) -> bool {
    word.len() == 6 && word.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_password(word: &str) -> bool {
    word.len() == 19 && word.matches(['!', '#', '$', '%']).count() == 3
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn host_signs_up_resets_the_password_leaves_and_returns_with_each_step_on_another_node() {
    let cluster = Cluster::start().await;
    let nodes = [cluster.node(&[]).await, cluster.node(&[]).await];
    let Cluster { sink, http, .. } = &cluster;
    let post = async |node: usize, path: &str, body: Value, cookie: &str, language: &str| {
        let request = http.post(nodes[node].url(path)).json(&body).header("Cookie", cookie);
        let answer = request.header("Accept-Language", language).send().await.expect("an answer");
        let cookie = answer.headers().get("set-cookie").and_then(|cookie| cookie.to_str().ok());
        let cookie = cookie.and_then(|cookie| cookie.split(';').next()).unwrap_or_default().to_owned();
        let status = answer.status();
        (status, cookie, answer.json::<Value>().await.unwrap_or_default())
    };

    // The mail server rejects the first e-mail to this address as busy, and the node sends it again.
    let email = json!({"email": "busy@shop.example"});
    let (_, cookie, _) = post(0, "/api/auth/check-email/", email.clone(), "", "ko").await;
    let (status, cookie, _) = post(1, "/api/auth/email-verification/", email.clone(), &cookie, "ko").await;
    assert_eq!(status, StatusCode::OK);
    let mail = sink.mail().await;
    assert_eq!((&mail["to"], &mail["tls"]), (&json!(["busy@shop.example"]), &json!(true)));
    assert_eq!(mail["headers"]["From"], "The Shop <mail@shop.example>");
    assert_eq!(mail["headers"]["Subject"], "PinTalk 인증 번호");
    let confirmation = json!({"verificationCode": word(&mail, is_code)});
    let (status, ..) = post(0, "/api/auth/email-confirmation/", confirmation, &cookie, "").await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let account = json!({"email": "busy@shop.example", "password": "pass word", "serviceName": "Shop"});
    let (status, _, user) = post(1, "/api/auth/signup/", account, &cookie, "").await;
    assert_eq!((status, &user["email"]), (StatusCode::CREATED, &json!("busy@shop.example")));

    // A host resets a forgotten password, in English. A reset request for an unknown address has no effect.
    post(0, "/api/auth/password-reset/", json!({"email": "nobody@shop.example"}), "", "en").await;
    let (status, ..) = post(0, "/api/auth/password-reset/", email.clone(), "", "en-GB").await;
    assert_eq!(status, StatusCode::OK);
    let mail = sink.mail().await;
    assert_eq!(mail["headers"]["Subject"], "Your temporary PinTalk password");
    let password = word(&mail, is_password);
    let login = json!({"email": "busy@shop.example", "password": password});
    let (status, _, user) = post(1, "/api/auth/login/", login, "", "").await;
    assert_eq!(status, StatusCode::OK);

    // The host deactivates the account on one node. The other node then rejects the host's login, and the host restores
    // the account.
    let token = user["accessToken"].as_str().expect("a token");
    let request = http.post(nodes[0].url("/api/auth/leave/")).bearer_auth(token).json(&json!({"password": password}));
    assert_eq!(request.send().await.expect("an answer").status(), StatusCode::OK);
    let path = format!("/api/users/{}/", user["id"]);
    eventually("the login has ended on the other node", async || {
        let asked = http.get(nodes[1].url(&path)).bearer_auth(token).send().await.ok()?;
        (asked.status() == StatusCode::UNAUTHORIZED).then_some(())
    })
    .await;
    post(1, "/api/auth/restore/", email.clone(), "", "en").await;
    let mail = sink.mail().await;
    assert_eq!(mail["headers"]["Subject"], "Restore your PinTalk account");
    let login = json!({"email": "busy@shop.example", "password": word(&mail, is_password)});
    let (status, _, user) = post(0, "/api/auth/login/", login, "", "").await;
    assert_eq!((status, &user["isDeleted"]), (StatusCode::OK, &json!(false)));
    assert!(sink.is_empty(), "no mail comes twice");
    drop(nodes);
    cluster.database.drop_it().await;
}
