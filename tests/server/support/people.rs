//! Hosts, rooms, and the clients of hosts and guests.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use pintalk::domain::Host as Account;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::{Node, SHOP, TIMEOUT, TestApp};

pub const PASSWORD: &str = "correct horse battery";

/// Time that the clients of tests send in their messages.
pub const NOW: &str = "2023-03-23T08:15:07.123";

/// Host account with a login.
pub struct Host {
    pub account: Account,
    pub token: String,
    pub refresh_cookie: String,
    http: reqwest::Client,
}

impl Host {
    pub(super) async fn log_in(app: &TestApp, account: Account, email: &str) -> Self {
        let body = json!({"email": email, "password": PASSWORD});
        let answer = app.http.post(app.two().0.url("/api/auth/login/")).json(&body).send().await.expect("an answer");
        assert_eq!(answer.status(), 200);
        let cookie =
            answer.headers()["set-cookie"].to_str().expect("text").split(';').next().unwrap_or_default().to_owned();
        let token = answer.json::<Value>().await.expect("JSON")["accessToken"].as_str().expect("a token").to_owned();
        Self { account, token, refresh_cookie: cookie, http: app.http.clone() }
    }

    /// Creates another login of the same host.
    pub async fn again(&self, app: &TestApp) -> Self {
        Self::log_in(app, self.account.clone(), &self.account.email).await
    }

    /// Sends a request with the host's token, and returns the status and the body.
    pub async fn call(&self, node: &Node, method: Method, path: &str, body: Value) -> (u16, Value) {
        let request = self.http.request(method, node.url(path)).bearer_auth(&self.token);
        let request = if body.is_null() { request } else { request.json(&body) };
        let answer = request.send().await.expect("an answer");
        (answer.status().as_u16(), answer.json().await.unwrap_or(Value::Null))
    }

    /// Uploads a profile image and returns the path of its URL. An empty `image` removes the current one; `None` is
    /// then returned.
    pub async fn upload(&self, node: &Node, image: &[u8]) -> Option<String> {
        const HEAD: &str = "--x\r\nContent-Disposition: form-data; name=\"profile_image\"; filename=\"me\"\r\n\r\n";
        let body = [HEAD.as_bytes(), image, b"\r\n--x--\r\n"].concat();
        let request = self.http.patch(node.url(&format!("/api/users/{}/", self.account.id.0))).bearer_auth(&self.token);
        let request = request.header("Content-Type", "multipart/form-data; boundary=x").body(body);
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), 200);
        let user: Value = answer.json().await.expect("JSON");
        let url = user["profileImage"].as_str()?;
        Some(url[url.find("/media/").expect("a path")..].to_owned())
    }

    /// Sends a GET request with the host's token and returns the response, which need not be JSON.
    pub async fn raw(&self, node: &Node, path: &str, accept: &str) -> reqwest::Response {
        let request = self.http.get(node.url(path)).bearer_auth(&self.token).header("Accept", accept);
        request.send().await.expect("an answer")
    }

    pub async fn get(&self, node: &Node, path: &str) -> Value {
        let (status, body) = self.call(node, Method::GET, path, Value::Null).await;
        assert_eq!(status, 200, "{body}");
        body
    }

    /// Returns the entry of a room in the host's room list, or `None` if the room is not listed.
    pub async fn listed(&self, node: &Node, room: &Room) -> Option<Value> {
        let list = self.get(node, "/api/chat/chatrooms/").await;
        list["results"].as_array()?.iter().find(|listed| listed["name"] == room.name.as_str()).cloned()
    }

    pub async fn path_of(&self, node: &Node, room: &Room) -> String {
        let id = self.listed(node, room).await.expect("the room is listed")["id"].as_i64().expect("an id");
        format!("/api/chat/chatrooms/{id}/")
    }

    /// Opens the host's socket of a room.
    pub async fn join(&self, node: &Node, room: &Room) -> Client {
        Client::open(node, &format!("/ws/chat/{}/?token={}", room.name, self.token), None).await
    }

    /// Opens the host's socket of a room as a version 2 client.
    pub async fn join_v2(&self, node: &Node, room: &Room) -> Client {
        Client::open(node, &format!("/ws/chat/{}/?v=2&token={}", room.name, self.token), None).await
    }

    /// Opens the host's status socket.
    pub async fn open_status(&self, node: &Node) -> Client {
        Client::open(node, &format!("/ws/chat/{}/status/?token={}", self.account.uuid, self.token), None).await
    }

    /// Opens the host's status socket as a version 2 client.
    pub async fn open_status_v2(&self, node: &Node) -> Client {
        Client::open(node, &format!("/ws/chat/{}/status/?v=2&token={}", self.account.uuid, self.token), None).await
    }

    /// Opens a guest's status socket as a version 2 client.
    pub async fn open_guest_status_v2(&self, node: &Node) -> Client {
        Client::open(node, &format!("/ws/status/{}/?v=2", self.account.uuid), Some(SHOP)).await
    }

    /// Opens a guest's status socket.
    pub async fn open_guest_status(&self, node: &Node) -> Client {
        Client::open(node, &format!("/ws/status/{}/", self.account.uuid), Some(SHOP)).await
    }
}

/// Room that a guest created.
pub struct Room {
    pub name: String,
    pub body: Value,
}

impl Room {
    pub async fn open(app: &TestApp, node: &Node, host: &Host) -> Self {
        let request = app
            .http
            .post(node.url("/api/chat/"))
            .header("X-PinTalk-Access-Key", &host.account.access_key)
            .header("X-PinTalk-Secret-Key", &host.account.secret_key)
            .header("Origin", SHOP);
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), 201);
        let body: Value = answer.json().await.expect("JSON");
        Self { name: body["name"].as_str().expect("a name").to_owned(), body }
    }

    pub async fn join(&self, node: &Node) -> Client {
        Client::open(node, &format!("/ws/chat/{}/", self.name), Some(SHOP)).await
    }

    pub async fn join_v2(&self, node: &Node) -> Client {
        Client::open(node, &format!("/ws/chat/{}/?v=2", self.name), Some(SHOP)).await
    }

    /// Opens the guest's socket as a client that reconnects and has received all messages up to `after`.
    pub async fn join_after(&self, node: &Node, after: u64) -> Client {
        Client::open(node, &format!("/ws/chat/{}/?after={after}", self.name), Some(SHOP)).await
    }
}

/// Returns a message as the widget sends it.
pub fn message(text: &str) -> Value {
    json!({"type": "chat_message", "is_host": false, "message": text, "datetime": NOW})
}

/// WebSocket client.
pub struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// Frames that were received before the server admitted or rejected the client.
    early: VecDeque<Message>,
}

impl Client {
    pub async fn open(node: &Node, path: &str, origin: Option<&str>) -> Self {
        Self::open_at(node.address, path, origin).await
    }

    pub async fn open_at(address: SocketAddr, path: &str, origin: Option<&str>) -> Self {
        let mut request = format!("ws://{address}{path}").into_client_request().expect("a request");
        if let Some(origin) = origin {
            request.headers_mut().insert("Origin", origin.parse().expect("a header"));
        }
        let (socket, _) = tokio_tungstenite::connect_async(request).await.expect("an upgrade");
        let mut client = Self { socket, early: VecDeque::new() };
        client.settle().await;
        client
    }

    /// Waits until the server has admitted or rejected the client: it has either answered a ping or closed the socket.
    async fn settle(&mut self) {
        self.try_send(Message::Ping("settle".into())).await;
        loop {
            let next = tokio::time::timeout(TIMEOUT, self.socket.next()).await.expect("a decision in time");
            match next.expect("the socket is open").expect("a frame") {
                Message::Pong(_) => return,
                Message::Ping(_) => {}
                message => {
                    let decided = message.is_close();
                    self.early.push_back(message);
                    if decided {
                        return;
                    }
                }
            }
        }
    }

    pub async fn send(&mut self, frame: &Value) {
        self.send_raw(Message::text(frame.to_string())).await;
    }

    pub async fn send_raw(&mut self, message: Message) {
        self.socket.send(message).await.expect("the socket takes a frame");
    }

    /// Sends a message. An error is ignored, because the server may have closed the socket.
    pub async fn try_send(&mut self, message: Message) {
        // If the server has closed the socket, the next read returns the reason.
        drop(self.socket.send(message).await);
    }

    /// Returns whether the server has admitted the socket, that is, answers a ping.
    pub async fn is_admitted(&mut self) -> bool {
        if self.early.iter().any(Message::is_close) {
            return false;
        }
        self.try_send(Message::Ping("x".into())).await;
        loop {
            match tokio::time::timeout(TIMEOUT, self.socket.next()).await.expect("an answer in time") {
                Some(Ok(Message::Pong(_))) => return true,
                Some(Ok(Message::Close(_)) | Err(_)) | None => return false,
                Some(Ok(_)) => {}
            }
        }
    }

    /// Sends a message and returns its acknowledgement.
    pub async fn send_text(&mut self, text: &str) -> Value {
        self.send(&message(text)).await;
        let echo = self.frame().await;
        assert_eq!(echo["message"], text, "{echo}");
        echo
    }

    /// Receives the next frame and parses its JSON.
    pub async fn frame(&mut self) -> Value {
        match self.next().await {
            Message::Text(text) => serde_json::from_str(&text).expect("JSON"),
            other => panic!("expected a frame, got {other:?}"),
        }
    }

    pub async fn frames(&mut self, count: usize) -> Vec<Value> {
        let mut frames = Vec::with_capacity(count);
        for _ in 0..count {
            frames.push(self.frame().await);
        }
        frames
    }

    /// Receives the close frame and returns its code and reason. Panics if another frame precedes it.
    pub async fn closed(&mut self) -> (u16, String) {
        match self.next().await {
            Message::Close(Some(close)) => (close.code.into(), close.reason.to_string()),
            other => panic!("expected a close, got {other:?}"),
        }
    }

    pub async fn close_code(&mut self) -> u16 {
        self.closed().await.0
    }

    /// Receives frames until the socket is closed, and returns the close code.
    pub async fn close_code_at_last(&mut self) -> u16 {
        loop {
            if let Message::Close(Some(close)) = self.next().await {
                return close.code.into();
            }
        }
    }

    /// Asserts that no frame has been received. Sends a ping and expects its answer as the next frame.
    pub async fn nothing(&mut self) {
        let frames = self.frames_so_far().await;
        assert!(frames.is_empty(), "expected nothing, got {frames:?}");
    }

    /// Returns the frames that have been received so far. Sends a ping and reads up to its answer.
    pub async fn frames_so_far(&mut self) -> Vec<Value> {
        self.send_raw(Message::Ping("x".into())).await;
        let mut frames = Vec::new();
        loop {
            let message = match self.early.pop_front() {
                Some(message) => message,
                None => {
                    let next = tokio::time::timeout(TIMEOUT, self.socket.next()).await.expect("a frame in time");
                    next.expect("the socket is open").expect("a frame")
                }
            };
            match message {
                Message::Pong(_) => return frames,
                Message::Text(text) => frames.push(serde_json::from_str(&text).expect("JSON")),
                other => panic!("expected frames, got {other:?}"),
            }
        }
    }

    /// Returns whether a status is received within `span`. Other frames before it are skipped.
    pub async fn receives_status(&mut self, status: &str, span: Duration) -> bool {
        let received = async { while self.frame().await["status"] != status {} };
        tokio::time::timeout(span, received).await.is_ok()
    }

    /// Returns whether no frame is received during `span`.
    pub async fn is_quiet_for(&mut self, span: Duration) -> bool {
        tokio::time::timeout(span, self.next()).await.is_err()
    }

    pub async fn leave(mut self) {
        self.socket.close(None).await.expect("a goodbye");
    }

    /// Receives the next frame that is not a ping or pong.
    pub async fn next(&mut self) -> Message {
        if let Some(early) = self.early.pop_front() {
            return early;
        }
        loop {
            let next = tokio::time::timeout(TIMEOUT, self.socket.next()).await.expect("a frame in time");
            match next.expect("the socket is open").expect("a frame") {
                Message::Ping(_) | Message::Pong(_) => {}
                message => return message,
            }
        }
    }
}
