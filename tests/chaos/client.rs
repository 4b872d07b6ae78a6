//! Client of a guest or a host that follows the protocol and records everything it receives.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pintalk::domain::Rng;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::ledger::{Pending, Record};
use crate::socket::{Heard, SHOP, Socket};

/// Maximum number of unacknowledged messages. The client sends no further message until one is acknowledged.
const UNANSWERED: usize = 32;

/// Command to all clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Talk,
    /// Send nothing new; resend unacknowledged messages.
    Finish,
    /// Disconnect permanently.
    Leave,
}

/// Behaviour of a client.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// Mean time between two messages; `None` sends nothing.
    pub every: Option<Duration>,
    /// Reconnects elsewhere if a message has no acknowledgement for this long.
    pub patience: Option<Duration>,
    /// Drops its socket at random, after this time on average.
    pub restless: Option<Duration>,
    /// Maximum number of letters of a message, without its id.
    pub letters: usize,
    /// Number of messages to send.
    pub most: usize,
}

impl Default for Manner {
    fn default() -> Self {
        Self { every: Some(Duration::from_millis(150)), patience: None, restless: None, letters: 60, most: usize::MAX }
    }
}

/// Addresses and identity of a client.
pub struct Person {
    pub record: Arc<Mutex<Record>>,
    pub manner: Manner,
    pub rng: Rng,
    /// Addresses of the nodes that the client connects to. The case may change them.
    pub nodes: Arc<Mutex<Vec<SocketAddr>>>,
    /// Path of the room, with the token if the client is a host.
    pub path: Arc<Mutex<String>>,
    pub is_host: bool,
    pub mood: watch::Receiver<Mood>,
}

/// What the client does after its socket has ended.
enum Over {
    /// Reconnect after this number of milliseconds.
    Back(u64),
    Gone(u16),
    Home,
}

impl Person {
    pub async fn live(mut self) {
        // Waits a random time, so that clients do not connect at the same moment.
        self.pause(200).await;
        while *self.mood.borrow() != Mood::Leave {
            match self.connect().await {
                Some(socket) => {
                    self.record.lock().is_connected = true;
                    let over = self.talk(socket).await;
                    self.record.lock().is_connected = false;
                    match over {
                        Over::Back(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
                        Over::Gone(code) => {
                            self.record.lock().over = Some(code);
                            return;
                        }
                        Over::Home => return,
                    }
                }
                None => self.pause(500).await,
            }
        }
    }

    async fn pause(&self, below_ms: u64) {
        tokio::time::sleep(Duration::from_millis(10 + self.rng.below(below_ms))).await;
    }

    /// Connects to a random node and requests the messages after the last received one. A client that joined an empty
    /// room and has received no message requests all messages.
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

    async fn talk(&mut self, mut socket: Socket) -> Over {
        if !self.send_again(&mut socket).await {
            return self.broken(socket);
        }
        let mut next = self.next_message();
        let leaves = self.manner.restless.map(|mean| self.some(mean));
        loop {
            let (impatient, mood) = (self.impatient(), *self.mood.borrow());
            tokio::select! {
                heard = socket.hear() => match heard {
                    Heard::Frame(frame) => self.hear(&frame),
                    Heard::Closed { code, reason } => return self.closed(code, &reason),
                    Heard::Broken => return self.broken(socket),
                },
                () = until(next), if mood == Mood::Talk => {
                    next = self.next_message();
                    if !self.say(&mut socket).await {
                        return self.broken(socket);
                    }
                }
                () = until(impatient) => return self.broken(socket),
                () = until(leaves), if mood == Mood::Talk => return self.broken(socket),
                changed = self.mood.changed() => {
                    if changed.is_err() || *self.mood.borrow() == Mood::Leave {
                        return Over::Home;
                    }
                }
            }
        }
    }

    /// Returns an instant after a random delay with this mean.
    fn some(&self, mean: Duration) -> Instant {
        Instant::now() + Duration::from_millis(1 + self.rng.below(2 * mean.as_millis() as u64))
    }

    fn letters(&self) -> usize {
        match self.manner.letters {
            // Long messages have the maximum length. 40 letters are reserved for the id.
            letters @ 1_000.. => letters - 40,
            letters => self.rng.below(letters as u64) as usize,
        }
    }

    fn next_message(&self) -> Option<Instant> {
        self.manner.every.map(|mean| self.some(mean))
    }

    fn impatient(&self) -> Option<Instant> {
        Some(self.record.lock().pending.front()?.since + self.manner.patience?)
    }

    async fn say(&self, socket: &mut Socket) -> bool {
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

    /// Resends all unacknowledged messages with the same ids, in order.
    async fn send_again(&self, socket: &mut Socket) -> bool {
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

    fn hear(&self, frame: &Value) {
        if frame["type"] != "chat_message" {
            return;
        }
        let mut record = self.record.lock();
        let mut take = |entry: &Value, alone| match (entry["seq"].as_u64(), entry["id"].as_str()) {
            (Some(seq), Some(id)) => record.hear(seq, id, alone),
            _ => record.faults.push(format!("a message without number or id: {entry}")),
        };
        match frame["data"].as_array() {
            Some(data) => data.iter().for_each(|entry| take(entry, false)),
            None => take(frame, true),
        }
    }

    fn closed(&self, code: u16, reason: &str) -> Over {
        let mut record = self.record.lock();
        *record.closes.entry(code).or_default() += 1;
        match code {
            1012 | 1013 => {
                let hint = reason.strip_prefix("retry in ").and_then(|rest| rest.strip_suffix(" ms"));
                match hint.and_then(|ms| ms.parse().ok()) {
                    Some(ms) => {
                        record.hints.push(ms);
                        Over::Back(ms)
                    }
                    None => {
                        record.faults.push(format!("closed with {code} and no time to come back: {reason}"));
                        Over::Back(1_000)
                    }
                }
            }
            1000 | 4004 | 4009 => Over::Gone(code),
            // The login has expired. The case renews the token.
            4001 => Over::Back(1_000),
            _ => {
                record.faults.push(format!("closed with {code}: {reason}"));
                Over::Gone(code)
            }
        }
    }

    fn broken(&self, socket: Socket) -> Over {
        socket.drop_hard();
        *self.record.lock().closes.entry(1006).or_default() += 1;
        Over::Back(20 + self.rng.below(400))
    }
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant.into()).await,
        None => std::future::pending().await,
    }
}
