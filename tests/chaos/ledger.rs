//! Records what all clients send and receive. At the end of a test case, the records are compared with the stored
//! messages.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Sequence number and id of a message.
pub type Entry = (u64, String);

/// Returns the 99th percentile of `sorted`, which is in ascending order. Returns zero if it is empty.
pub fn p99(sorted: &[Duration]) -> Duration {
    sorted.get(sorted.len() * 99 / 100).copied().unwrap_or_default()
}

/// Record of one client.
#[derive(Debug, Default)]
pub struct Record {
    pub name: String,
    pub room: usize,
    /// Number of messages that the client has sent.
    pub sent: usize,
    /// Messages that the client has received, in order of arrival.
    pub received: Vec<Entry>,
    /// Sequence numbers of the client's own acknowledged messages, by id.
    pub acknowledged: BTreeMap<String, u64>,
    /// Time at which each acknowledgement was received.
    pub acknowledged_at: Vec<Instant>,
    pub waited: Vec<Duration>,
    /// Unacknowledged messages of the client, in the order in which they were sent.
    pub pending: VecDeque<Pending>,
    /// Whether the client joined while the room was empty. Such a client must receive every message of the room.
    pub from_start: bool,
    /// Whether the client has an open socket.
    pub is_connected: bool,
    /// Close code with which the client was disconnected permanently. `None` if this has not happened.
    pub over: Option<u16>,
    /// Number of sockets that were closed, by close code. 1006 counts sockets that ended without a close frame.
    pub closes: BTreeMap<u16, usize>,
    /// Reconnection delays, in milliseconds, that the server has requested.
    pub hints: Vec<u64>,
    /// Violations of the protocol that the client has observed.
    pub faults: Vec<String>,
    /// Highest message number that the client has received from each sender.
    newest: HashMap<String, u64>,
}

/// Message that has been sent and is not acknowledged yet.
#[derive(Clone, Debug)]
pub struct Pending {
    pub id: String,
    pub frame: String,
    pub since: Instant,
    pub tries: usize,
}

impl Record {
    pub fn of(name: &str, room: usize, from_start: bool) -> Self {
        Self { name: name.to_owned(), room, from_start, ..Self::default() }
    }

    /// Returns the sequence number of the last message received, or 0 if there is none.
    pub fn last(&self) -> u64 {
        self.received.last().map_or(0, |(seq, _)| *seq)
    }

    /// Records a received message. `alone` is true for a live frame, and false for a message of a history.
    pub fn receive(&mut self, seq: u64, id: &str, alone: bool) {
        let own = self.pending.iter().position(|pending| pending.id == id);
        if seq <= self.last() {
            // Only the acknowledgement of a resent message may repeat a known message. It is a live frame with the
            // original sequence number.
            let known =
                self.received.binary_search_by_key(&seq, |(seq, _)| *seq).is_ok_and(|at| self.received[at].1 == id);
            let own_again = own.is_some_and(|at| self.pending[at].tries > 1)
                || self.acknowledged.get(id).is_some_and(|number| *number == seq);
            if !(alone && own_again && (known || !self.from_start)) {
                self.faults.push(format!("{} was sent {seq} ({id}) after {}", self.name, self.last()));
            }
        } else {
            self.received.push((seq, id.to_owned()));
            self.check_order(seq, id);
        }
        if let Some(at) = own {
            self.waited.extend(self.pending.remove(at).map(|pending| pending.since.elapsed()));
            self.acknowledged.insert(id.to_owned(), seq);
            self.acknowledged_at.push(Instant::now());
        }
    }

    /// Records a violation if a message arrives before an earlier message of the same sender.
    fn check_order(&mut self, seq: u64, id: &str) {
        let Some((writer, number)) = id.rsplit_once('-').and_then(|(who, n)| Some((who, n.parse::<u64>().ok()?)))
        else {
            return;
        };
        let before = self.newest.insert(writer.to_owned(), number);
        if before.is_some_and(|before| before >= number) {
            let before = before.unwrap_or_default();
            self.faults.push(format!("{} was sent {id} as {seq}, after {writer}-{before}", self.name));
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct Ledger(Arc<Mutex<Vec<Arc<Mutex<Record>>>>>);

impl Ledger {
    pub fn add(&self, record: Record) -> Arc<Mutex<Record>> {
        let record = Arc::new(Mutex::new(record));
        self.0.lock().push(record.clone());
        record
    }

    pub fn records(&self) -> Vec<Arc<Mutex<Record>>> {
        self.0.lock().clone()
    }

    pub fn each<T>(&self, mut look: impl FnMut(&Record) -> T) -> Vec<T> {
        self.0.lock().iter().map(|record| look(&record.lock())).collect()
    }

    pub fn sum(&self, count: impl FnMut(&Record) -> usize) -> usize {
        self.each(count).into_iter().sum()
    }

    /// Returns, for each room, the highest sequence number that any client has received.
    pub fn heads(&self, rooms: usize) -> Vec<u64> {
        let mut heads = vec![0; rooms];
        self.each(|record| heads[record.room] = record.last().max(heads[record.room]));
        heads
    }

    /// Returns whether every client has received all messages of its room up to `heads`. Clients that were disconnected
    /// permanently are ignored.
    pub fn all_have(&self, heads: &[u64]) -> bool {
        self.each(|record| record.over.is_some() || record.last() >= heads[record.room]).into_iter().all(|has| has)
    }

    /// Returns the number of sockets that were closed with `code`.
    pub fn closes(&self, code: u16) -> usize {
        self.sum(|record| record.closes.get(&code).copied().unwrap_or_default())
    }

    /// Returns the latencies of all acknowledgements that were received in a period, in ascending order.
    pub fn waits(&self, between: Range<Instant>) -> Vec<Duration> {
        let of = |record: &Record| {
            let times = record.acknowledged_at.iter().zip(&record.waited);
            times.filter(|(at, _)| between.contains(*at)).map(|(_, waited)| *waited).collect::<Vec<_>>()
        };
        let mut all: Vec<Duration> = self.each(of).into_iter().flatten().collect();
        all.sort();
        all
    }

    /// Returns the time from `instant` until every room has had an acknowledgement. `None` if a room has had none since
    /// then.
    pub fn whole_after(&self, rooms: usize, instant: Instant) -> Option<Duration> {
        let mut first: Vec<Option<Instant>> = vec![None; rooms];
        self.each(|record| {
            let earliest = record.acknowledged_at.iter().copied().filter(|at| *at >= instant).min();
            let room = &mut first[record.room];
            *room = [*room, earliest].into_iter().flatten().min();
        });
        first
            .into_iter()
            .map(|first| Some(first?.duration_since(instant)))
            .collect::<Option<Vec<_>>>()?
            .into_iter()
            .max()
    }
}

/// Acknowledged message that is not stored, or that a client has not received.
#[derive(Debug)]
pub struct Loss {
    pub room: usize,
    pub seq: u64,
    /// Whether the message is stored. If so, a client has not received it.
    pub is_stored: bool,
    pub text: String,
}

/// Result of comparing the acknowledged, delivered and stored messages of a room.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Acknowledged messages that are not stored, or that a client has not received.
    pub lost: Vec<Loss>,
    /// Messages that are stored twice, or with a sequence number other than the acknowledged one.
    pub doubled: Vec<String>,
    /// All other violations.
    pub faults: Vec<String>,
    /// Number of stored messages, minus the largest number of messages that one client has not received.
    pub delivered: usize,
}

impl Verdict {
    pub fn is_clean(&self) -> bool {
        self.lost.is_empty() && self.doubled.is_empty() && self.faults.is_empty()
    }

    /// Compares the records of the clients of one room with its stored messages.
    pub fn of(records: &[&Record], stored: &[Entry]) -> Self {
        let mut verdict = Self::default();
        let mut by_id: HashMap<&str, u64> = HashMap::new();
        let mut by_seq: HashMap<u64, &str> = HashMap::new();
        for (seq, id) in stored {
            if by_id.insert(id, *seq).is_some() || by_seq.insert(*seq, id).is_some() {
                verdict.doubled.push(format!("{id} is stored twice"));
            }
        }
        let mut delivered: usize = stored.len();
        for record in records {
            for (id, seq) in &record.acknowledged {
                match by_id.get(id.as_str()) {
                    None => verdict.lost.push(Loss {
                        room: record.room,
                        seq: *seq,
                        is_stored: false,
                        text: format!("{id}, acknowledged as {seq}, is not stored"),
                    }),
                    Some(stored) if stored != seq => {
                        verdict.doubled.push(format!("{id}, acknowledged as {seq}, is stored as {stored}"));
                    }
                    Some(_) => {}
                }
            }
            verdict.faults.extend(record.faults.iter().cloned());
            // A client that was disconnected permanently must have received every message up to the last one that it
            // received.
            let through = if record.over.is_some() { record.last() } else { u64::MAX };
            let first = if record.from_start { 0 } else { record.received.first().map_or(0, |(seq, _)| *seq) };
            let received: HashMap<u64, &str> = record.received.iter().map(|(seq, id)| (*seq, id.as_str())).collect();
            let mut missing = 0;
            for (seq, id) in stored.iter().filter(|(seq, _)| (first..=through).contains(seq)) {
                match received.get(seq) {
                    None => {
                        missing += 1;
                        verdict.lost.push(Loss {
                            room: record.room,
                            seq: *seq,
                            is_stored: true,
                            text: format!("{id}, stored as {seq}, did not reach {}", record.name),
                        });
                    }
                    Some(received) if received != id => {
                        verdict.doubled.push(format!("{seq} is {received} for {}, and stored as {id}", record.name));
                    }
                    Some(_) => {}
                }
            }
            delivered = delivered.min(stored.len() - missing);
            for (seq, id) in record.received.iter().filter(|(seq, _)| !by_seq.contains_key(seq)) {
                verdict.lost.push(Loss {
                    room: record.room,
                    seq: *seq,
                    is_stored: false,
                    text: format!("{id}, sent to {} as {seq}, is not stored", record.name),
                });
            }
        }
        verdict.delivered = delivered;
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(name: &str, received: &[(u64, &str)]) -> Record {
        let mut record = Record::of(name, 0, true);
        for (seq, id) in received {
            record.receive(*seq, id, true);
        }
        record
    }

    fn stored(entries: &[(u64, &str)]) -> Vec<Entry> {
        entries.iter().map(|(seq, id)| (*seq, (*id).to_owned())).collect()
    }

    #[test]
    fn identical_sets_are_clean() {
        let all = [(1, "a-1"), (2, "b-1"), (10_002, "a-2")];
        let verdict = Verdict::of(&[&client("a", &all), &client("b", &all)], &stored(&all));
        assert!(verdict.is_clean() && verdict.delivered == 3, "{verdict:?}");
    }

    #[test]
    fn message_that_one_client_misses_is_lost() {
        let verdict = Verdict::of(&[&client("a", &[(1, "a-1")])], &stored(&[(1, "a-1"), (2, "b-1")]));
        assert_eq!((verdict.lost.len(), verdict.delivered), (1, 1));
        let verdict = Verdict::of(&[&client("a", &[(1, "a-1"), (2, "b-1")])], &stored(&[(1, "a-1")]));
        assert_eq!(verdict.lost.len(), 1);
    }

    #[test]
    fn acknowledged_message_that_is_not_stored_is_lost() {
        let mut record = client("a", &[]);
        record.acknowledged.insert("a-1".into(), 1);
        assert_eq!(Verdict::of(&[&record], &[]).lost.len(), 1);
    }

    #[test]
    fn repeated_or_reordered_message_is_a_violation() {
        for received in
            [[(1, "a-1"), (1, "a-1")], [(2, "a-2"), (1, "a-1")], [(1, "a-2"), (2, "a-1")], [(1, "a-1"), (2, "a-1")]]
        {
            assert_eq!(client("b", &received).faults.len(), 1, "{received:?}");
        }
    }

    #[test]
    fn one_number_for_two_messages_is_a_duplicate() {
        let verdict = Verdict::of(&[&client("a", &[(1, "a-1")])], &stored(&[(1, "b-1")]));
        assert_eq!(verdict.doubled.len(), 1);
    }

    #[test]
    fn acknowledgement_of_a_resent_message_is_not_a_duplicate() {
        let mut record = client("a", &[(1, "a-1"), (2, "b-1")]);
        record.pending.push_back(Pending { id: "a-1".into(), frame: String::new(), since: Instant::now(), tries: 2 });
        record.receive(1, "a-1", true);
        assert!(record.faults.is_empty() && record.pending.is_empty());
    }
}
