//! What everybody saw: kept while people talk, and compared with what is stored when all is quiet.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// A message's number and id.
pub type Entry = (u64, String);

/// What 99 of 100 are not above, of sorted times.
pub fn p99(sorted: &[Duration]) -> Duration {
    sorted.get(sorted.len() * 99 / 100).copied().unwrap_or_default()
}

/// What one person saw and did.
#[derive(Debug, Default)]
pub struct Record {
    pub name: String,
    pub room: usize,
    /// How many messages he has written.
    pub sent: usize,
    /// What he was sent, in order.
    pub heard: Vec<Entry>,
    /// His own that came back, with their numbers.
    pub acknowledged: BTreeMap<String, u64>,
    /// When they did, one by one, and how long after they were sent.
    pub acknowledged_at: Vec<Instant>,
    pub waited: Vec<Duration>,
    /// His own that did not come back yet, in order.
    pub pending: VecDeque<Pending>,
    /// Whether he came when the room was new, so that he must have heard all of it.
    pub from_start: bool,
    /// Whether he has a socket.
    pub is_connected: bool,
    /// Whether he left of himself, or was sent away for good.
    pub over: Option<u16>,
    /// How his sockets ended, by code; 1006 without a goodbye.
    pub closes: BTreeMap<u16, usize>,
    /// The times to come back that he was given, in ms.
    pub hints: Vec<u64>,
    /// What must not be.
    pub faults: Vec<String>,
    /// The newest of each writer's messages that he was sent.
    newest: HashMap<String, u64>,
}

/// A message that waits for its acknowledgement.
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

    /// The number of what he was sent last.
    pub fn last(&self) -> u64 {
        self.heard.last().map_or(0, |(seq, _)| *seq)
    }

    /// Takes in what he was sent. `alone`: as a frame of its own, not within a history.
    pub fn hear(&mut self, seq: u64, id: &str, alone: bool) {
        let own = self.pending.iter().position(|pending| pending.id == id);
        if seq <= self.last() {
            // The answer to a message that he sent again: only in a frame of its own, and with the number that it has.
            let known = self.heard.binary_search_by_key(&seq, |(seq, _)| *seq).is_ok_and(|at| self.heard[at].1 == id);
            let own_again = own.is_some_and(|at| self.pending[at].tries > 1)
                || self.acknowledged.get(id).is_some_and(|number| *number == seq);
            if !(alone && own_again && (known || !self.from_start)) {
                self.faults.push(format!("{} was sent {seq} ({id}) after {}", self.name, self.last()));
            }
        } else {
            self.heard.push((seq, id.to_owned()));
            self.check_order(seq, id);
        }
        if let Some(at) = own {
            self.waited.extend(self.pending.remove(at).map(|pending| pending.since.elapsed()));
            self.acknowledged.insert(id.to_owned(), seq);
            self.acknowledged_at.push(Instant::now());
        }
    }

    /// A writer's messages have the order in which he wrote them.
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

/// Everybody's records.
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

    /// The highest number that anybody was sent, of each room.
    pub fn heads(&self, rooms: usize) -> Vec<u64> {
        let mut heads = vec![0; rooms];
        self.each(|record| heads[record.room] = record.last().max(heads[record.room]));
        heads
    }

    /// Whether all who are there were sent what is up to these numbers.
    pub fn everybody_has(&self, heads: &[u64]) -> bool {
        self.each(|record| record.over.is_some() || record.last() >= heads[record.room]).into_iter().all(|has| has)
    }

    /// How many sockets ended with a code.
    pub fn closes(&self, code: u16) -> usize {
        self.sum(|record| record.closes.get(&code).copied().unwrap_or_default())
    }

    /// How long all acknowledgements took that came between two instants, the shortest first.
    pub fn waits(&self, between: Range<Instant>) -> Vec<Duration> {
        let of = |record: &Record| {
            let times = record.acknowledged_at.iter().zip(&record.waited);
            times.filter(|(at, _)| between.contains(*at)).map(|(_, waited)| *waited).collect::<Vec<_>>()
        };
        let mut all: Vec<Duration> = self.each(of).into_iter().flatten().collect();
        all.sort();
        all
    }

    /// Until an acknowledgement had come in each of `rooms` after an instant; `None` if one has had none.
    pub fn whole_after(&self, rooms: usize, instant: Instant) -> Option<Duration> {
        let mut first: Vec<Option<Instant>> = vec![None; rooms];
        self.each(|record| {
            let his = record.acknowledged_at.iter().copied().filter(|at| *at >= instant).min();
            let room = &mut first[record.room];
            *room = [*room, his].into_iter().flatten().min();
        });
        first
            .into_iter()
            .map(|first| Some(first?.duration_since(instant)))
            .collect::<Option<Vec<_>>>()?
            .into_iter()
            .max()
    }
}

/// A message that somebody was promised, and that is not where it should be.
#[derive(Debug)]
pub struct Loss {
    pub room: usize,
    pub seq: u64,
    /// Otherwise it did not reach somebody.
    pub is_stored: bool,
    pub told: String,
}

/// The three sets of a room, compared.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Acknowledged, and not stored or not delivered to somebody.
    pub lost: Vec<Loss>,
    /// Stored twice, or with another number than was acknowledged.
    pub doubled: Vec<String>,
    /// Whatever else must not be.
    pub faults: Vec<String>,
    /// Messages that everybody was sent.
    pub delivered: usize,
}

impl Verdict {
    pub fn is_clean(&self) -> bool {
        self.lost.is_empty() && self.doubled.is_empty() && self.faults.is_empty()
    }

    /// Compares what the people of a room saw with what is stored of it.
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
                        told: format!("{id}, acknowledged as {seq}, is not stored"),
                    }),
                    Some(stored) if stored != seq => {
                        verdict.doubled.push(format!("{id}, acknowledged as {seq}, is stored as {stored}"));
                    }
                    Some(_) => {}
                }
            }
            verdict.faults.extend(record.faults.iter().cloned());
            // Who was sent away for good saw all until then.
            let through = if record.over.is_some() { record.last() } else { u64::MAX };
            let first = if record.from_start { 0 } else { record.heard.first().map_or(0, |(seq, _)| *seq) };
            let heard: HashMap<u64, &str> = record.heard.iter().map(|(seq, id)| (*seq, id.as_str())).collect();
            let mut missing = 0;
            for (seq, id) in stored.iter().filter(|(seq, _)| (first..=through).contains(seq)) {
                match heard.get(seq) {
                    None => {
                        missing += 1;
                        verdict.lost.push(Loss {
                            room: record.room,
                            seq: *seq,
                            is_stored: true,
                            told: format!("{id}, stored as {seq}, did not reach {}", record.name),
                        });
                    }
                    Some(heard) if heard != id => {
                        verdict.doubled.push(format!("{seq} is {heard} for {}, and stored as {id}", record.name));
                    }
                    Some(_) => {}
                }
            }
            delivered = delivered.min(stored.len() - missing);
            for (seq, id) in record.heard.iter().filter(|(seq, _)| !by_seq.contains_key(seq)) {
                verdict.lost.push(Loss {
                    room: record.room,
                    seq: *seq,
                    is_stored: false,
                    told: format!("{id}, sent to {} as {seq}, is not stored", record.name),
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

    fn person(name: &str, heard: &[(u64, &str)]) -> Record {
        let mut record = Record::of(name, 0, true);
        for (seq, id) in heard {
            record.hear(*seq, id, true);
        }
        record
    }

    fn stored(entries: &[(u64, &str)]) -> Vec<Entry> {
        entries.iter().map(|(seq, id)| (*seq, (*id).to_owned())).collect()
    }

    #[test]
    fn what_all_have_is_clean() {
        let all = [(1, "a-1"), (2, "b-1"), (10_002, "a-2")];
        let verdict = Verdict::of(&[&person("a", &all), &person("b", &all)], &stored(&all));
        assert!(verdict.is_clean() && verdict.delivered == 3, "{verdict:?}");
    }

    #[test]
    fn what_one_misses_is_lost() {
        let verdict = Verdict::of(&[&person("a", &[(1, "a-1")])], &stored(&[(1, "a-1"), (2, "b-1")]));
        assert_eq!((verdict.lost.len(), verdict.delivered), (1, 1));
        let verdict = Verdict::of(&[&person("a", &[(1, "a-1"), (2, "b-1")])], &stored(&[(1, "a-1")]));
        assert_eq!(verdict.lost.len(), 1);
    }

    #[test]
    fn what_is_acknowledged_and_not_stored_is_lost() {
        let mut record = person("a", &[]);
        record.acknowledged.insert("a-1".into(), 1);
        assert_eq!(Verdict::of(&[&record], &[]).lost.len(), 1);
    }

    #[test]
    fn what_comes_twice_or_out_of_order_is_a_fault() {
        for heard in
            [[(1, "a-1"), (1, "a-1")], [(2, "a-2"), (1, "a-1")], [(1, "a-2"), (2, "a-1")], [(1, "a-1"), (2, "a-1")]]
        {
            assert_eq!(person("b", &heard).faults.len(), 1, "{heard:?}");
        }
    }

    #[test]
    fn one_number_for_two_messages_is_doubled() {
        let verdict = Verdict::of(&[&person("a", &[(1, "a-1")])], &stored(&[(1, "b-1")]));
        assert_eq!(verdict.doubled.len(), 1);
    }

    #[test]
    fn the_answer_to_a_message_sent_again_is_none() {
        let mut record = person("a", &[(1, "a-1"), (2, "b-1")]);
        record.pending.push_back(Pending { id: "a-1".into(), frame: String::new(), since: Instant::now(), tries: 2 });
        record.hear(1, "a-1", true);
        assert!(record.faults.is_empty() && record.pending.is_empty());
    }
}
