//! Client of a guest or host. It follows the protocol and records everything that it receives.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pintalk::domain::Rng;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::ledger::{Pending, Record};
use crate::socket::{Event, SHOP, Socket};

/// Maximum number of unacknowledged messages. At the limit, the client waits for an acknowledgement before it sends the
/// next message.
const UNANSWERED: usize = 32;

/// Command that all clients follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Talk,
    /// Sends no new messages. A client that reconnects resends its unacknowledged messages.
    Finish,
    /// Disconnects permanently.
    Leave,
}

/// Behaviour of a client.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// Mean time between two messages. With `None`, the client sends no messages.
    pub every: Option<Duration>,
    /// Maximum time for an acknowledgement. When it has passed, the client reconnects, possibly to another node. `None`
    /// is unlimited.
    pub ack_timeout: Option<Duration>,
    /// Mean time after which the client drops its socket and reconnects. With `None`, it keeps the socket.
    pub drop_after: Option<Duration>,
    /// Maximum number of letters in a message, not counting its id.
    pub letters: usize,
    /// Maximum number of messages that the client sends.
    pub most: usize,
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            every: Some(Duration::from_millis(150)),
            ack_timeout: None,
            drop_after: None,
            letters: 60,
            most: usize::MAX,
        }
    }
}

/// Client with its identity and the addresses that it connects to.
pub struct Client {
    pub record: Arc<Mutex<Record>>,
    pub manner: Manner,
    pub rng: Rng,
    /// Addresses of the nodes that the client connects to. The test case may change them.
    pub nodes: Arc<Mutex<Vec<SocketAddr>>>,
    /// Path of the room's socket. For a host, it contains the token.
    pub path: Arc<Mutex<String>>,
    pub is_host: bool,
    pub mode: watch::Receiver<Mode>,
}

/// Reason why the client stopped using a socket.
enum End {
    /// The client reconnects after this number of milliseconds.
    Reconnect(u64),
    Closed(u16),
    Left,
}

impl Client {
    pub async fn run(mut self) {
        // Clients wait for a random time, so that they do not connect at the same moment.
        self.pause(200).await;
        while *self.mode.borrow() != Mode::Leave {
            match self.connect().await {
                Some(socket) => {
                    self.record.lock().is_connected = true;
                    let over = self.talk(socket).await;
                    self.record.lock().is_connected = false;
                    match over {
                        End::Reconnect(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
                        End::Closed(code) => {
                            self.record.lock().over = Some(code);
                            return;
                        }
                        End::Left => return,
                    }
                }
                None => self.pause(500).await,
            }
        }
    }

    async fn pause(&self, below_ms: u64) {
        tokio::time::sleep(Duration::from_millis(10 + self.rng.below(below_ms))).await;
    }

    /// Connects to a random node and requests the messages after the last one that was received. A client that
    /// reconnects without having received a message requests all messages, provided that it joined an empty room.
    /// Returns `None` if no socket can be opened.
    async fn connect(&self) -> Option<Socket> {
        let address = {
            let nodes = self.nodes.lock();
            *nodes.get(self.rng.below(nodes.len() as u64) as usize)?
        };
        let (mut path, last) = (self.path.lock().clone(), self.record.lock().last());
        let been_here = !self.record.lock().closes.is_empty();
        if last > 0 || (been_here && self.record.lock().from_start) {
            path += &format!("{}after={last}", if path.contains('?') { '&' } else { '?' });
        }
        Socket::open(address, &path, (!self.is_host).then_some(SHOP)).await
    }

    async fn talk(&mut self, mut socket: Socket) -> End {
        if !self.resend(&mut socket).await {
            return self.broken(socket);
        }
        let mut next = self.next_message();
        let leaves = self.manner.drop_after.map(|mean| self.some(mean));
        loop {
            let (ack_deadline, mode) = (self.ack_deadline(), *self.mode.borrow());
            tokio::select! {
                received = socket.receive() => match received {
                    Event::Frame(frame) => self.receive(&frame),
                    Event::Closed { code, reason } => return self.closed(code, &reason),
                    Event::Broken => return self.broken(socket),
                },
                () = until(next), if mode == Mode::Talk => {
                    next = self.next_message();
                    if !self.send_next(&mut socket).await {
                        return self.broken(socket);
                    }
                }
                () = until(ack_deadline) => return self.broken(socket),
                () = until(leaves), if mode == Mode::Talk => return self.broken(socket),
                changed = self.mode.changed() => {
                    if changed.is_err() || *self.mode.borrow() == Mode::Leave {
                        return End::Left;
                    }
                }
            }
        }
    }

    /// Returns the time after a random delay whose mean is `mean`.
    fn some(&self, mean: Duration) -> Instant {
        Instant::now() + Duration::from_millis(1 + self.rng.below(2 * mean.as_millis() as u64))
    }

    fn letters(&self) -> usize {
        match self.manner.letters {
            // A long message has exactly the maximum length. 40 letters of it are reserved for the id.
            letters @ 1_000.. => letters - 40,
            letters => self.rng.below(letters as u64) as usize,
        }
    }

    fn next_message(&self) -> Option<Instant> {
        self.manner.every.map(|mean| self.some(mean))
    }

    fn ack_deadline(&self) -> Option<Instant> {
        Some(self.record.lock().pending.front()?.since + self.manner.ack_timeout?)
    }

    async fn send_next(&self, socket: &mut Socket) -> bool {
        let frame = {
            let mut record = self.record.lock();
            if record.pending.len() >= UNANSWERED || record.sent >= self.manner.most {
                return true;
            }
            record.sent += 1;
            let id = format!("{}-{}", record.name, record.sent);
            let text = format!("{id} {}", "가".repeat(self.letters()));
            let frame = json!({"type": "chat_message", "is_host": self.is_host, "message": text, "id": id,
                "datetime": "2026-11-25T10:30:00.123"})
            .to_string();
            record.pending.push_back(Pending { id, frame: frame.clone(), since: Instant::now(), tries: 1 });
            frame
        };
        socket.send(&frame).await
    }

    /// Resends all unacknowledged messages in order, with their original ids. Returns whether all of them were sent.
    async fn resend(&self, socket: &mut Socket) -> bool {
        let frames: Vec<String> = {
            let mut record = self.record.lock();
            record.pending.iter_mut().for_each(|pending| {
                pending.tries += 1;
                pending.since = Instant::now();
            });
            record.pending.iter().map(|pending| pending.frame.clone()).collect()
        };
        for frame in frames {
            if !socket.send(&frame).await {
                return false;
            }
        }
        true
    }

    fn receive(&self, frame: &Value) {
        if frame["type"] != "chat_message" {
            return;
        }
        let mut record = self.record.lock();
        let mut take = |entry: &Value, alone| match (entry["seq"].as_u64(), entry["id"].as_str()) {
            (Some(seq), Some(id)) => record.receive(seq, id, alone),
            _ => record.faults.push(format!("a message without number or id: {entry}")),
        };
        match frame["data"].as_array() {
            Some(data) => data.iter().for_each(|entry| take(entry, false)),
            None => take(frame, true),
        }
    }

    fn closed(&self, code: u16, reason: &str) -> End {
        let mut record = self.record.lock();
        *record.closes.entry(code).or_default() += 1;
        match code {
            1012 | 1013 => {
                let hint = reason.strip_prefix("retry in ").and_then(|rest| rest.strip_suffix(" ms"));
                match hint.and_then(|ms| ms.parse().ok()) {
                    Some(ms) => {
                        record.hints.push(ms);
                        End::Reconnect(ms)
                    }
                    None => {
                        record.faults.push(format!("closed with {code} and no delay: {reason}"));
                        End::Reconnect(1_000)
                    }
                }
            }
            1000 | 4004 | 4009 => End::Closed(code),
            // 4001 means that the login has expired. The test case renews the token.
            4001 => End::Reconnect(1_000),
            _ => {
                record.faults.push(format!("closed with {code}: {reason}"));
                End::Closed(code)
            }
        }
    }

    fn broken(&self, socket: Socket) -> End {
        socket.drop_hard();
        *self.record.lock().closes.entry(1006).or_default() += 1;
        End::Reconnect(20 + self.rng.below(400))
    }
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant.into()).await,
        None => std::future::pending().await,
    }
}
