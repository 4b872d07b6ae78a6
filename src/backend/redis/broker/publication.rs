//! Format of a publication on a bus. A publication is a sequence of records `<kind><room> <a> <b> <c>
//! <length>\n<frame>` without separators.
//!
//! | kind | record | a | b | c |
//! |---|---|---|---|---|
//! | `A` | provenance of the messages that follow; the id of the accepting node in place of a room | time in ms, by the server's clock | partition | tick |
//! | `T` | trace of the message that follows | its number | 0 | 0 |
//! | `M` | message | preceding number | its number | row id of the host |
//! | `E` | change to a room's state | version | 0 close, 1 resume, 2 delete | 0 |
//! | `N` | notice that is not stored | 0 from a guest, 1 from a host | 0 | 0 |
//! | `P` | probe; a node id in place of a room | partition | 0 | 0 |
//!
//! A node ignores records of unknown kinds, because a newer release may publish them.

use bytes::Bytes;

use super::bus_probes::BusProbes;
use super::clocks::Clocks;
use crate::backend::broker::{Change, Partition, Provenance, Publication, Sink};
use crate::domain::{HostId, NodeId, RoomChange, RoomName, Side};

fn record(kind: char, room: RoomName, [a, b, c]: [u64; 3], frame: &[u8]) -> Bytes {
    let mut record = format!("{kind}{room} {a} {b} {c} {}\n", frame.len()).into_bytes();
    record.extend_from_slice(frame);
    record.into()
}

pub(super) fn changed(change: &Change) -> Bytes {
    let code = match change.change {
        RoomChange::Close => 0,
        RoomChange::Resume => 1,
        RoomChange::Delete => 2,
    };
    record('E', change.room, [change.version, code, 0], &change.notice)
}

pub(super) fn notice(room: RoomName, from: Side, frame: &[u8]) -> Bytes {
    record('N', room, [u64::from(from.is_host()), 0, 0], frame)
}

/// Encodes a probe of a node.
pub(super) fn probe(node: NodeId, partition: Partition) -> Option<Bytes> {
    // A node id has the same format as a room name, so the record can contain it in place of a room name.
    let node = RoomName::from_bytes(node.as_str().as_bytes()).ok()?;
    Some(record('P', node, [u64::from(partition.0), 0, 0], b""))
}

/// Delivers a publication to the sink, record by record, without parsing JSON or copying frames. Returns `false` if a
/// record is malformed. The records after it are lost.
pub(super) fn deliver(publication: &[u8], sink: &dyn Sink, probes: &BusProbes, clocks: &Clocks) -> bool {
    let (mut rest, mut provenance, mut trace) = (publication, None, None);
    while !rest.is_empty() {
        let Some(record) = Record::split(rest) else { return false };
        rest = record.rest;
        match (record.kind, record.b) {
            (b'M', seq) => sink.publication(&Publication {
                room: record.room,
                host: HostId(record.c as i64),
                prev: record.a,
                seq,
                frame: record.frame,
                provenance,
                trace: trace.take(),
            }),
            (b'T', _) => trace = std::str::from_utf8(record.frame).ok().and_then(|text| text.parse().ok()),
            (b'A', partition) => {
                let partition = Partition(partition as u16);
                clocks.saw_tick(partition, record.c);
                let age = clocks.age(partition, record.a as i64);
                provenance = age.map(|age| Provenance { is_own: probes.is_me(record.room.as_bytes()), age });
            }
            (b'P', _) => probes.received_from(record.room.as_bytes(), record.a),
            (b'N', _) => sink.notice(record.room, Side::from_is_host(record.a == 1), record.frame),
            (b'E', code @ 0..=2) => {
                let change = [RoomChange::Close, RoomChange::Resume, RoomChange::Delete][code as usize];
                let notice = Bytes::copy_from_slice(record.frame);
                sink.changed(Change { room: record.room, change, version: record.a, notice });
            }
            // Only a newer release publishes a record of an unknown kind.
            _ => {}
        }
    }
    true
}

struct Record<'a> {
    kind: u8,
    room: RoomName,
    a: u64,
    b: u64,
    c: u64,
    frame: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Record<'a> {
    fn split(bytes: &'a [u8]) -> Option<Self> {
        let (&kind, bytes) = bytes.split_first()?;
        let room = RoomName::from_bytes(bytes.get(..RoomName::LEN)?).ok()?;
        let bytes = bytes.get(RoomName::LEN..)?.strip_prefix(b" ")?;
        let (a, bytes) = number(bytes, b' ')?;
        let (b, bytes) = number(bytes, b' ')?;
        let (c, bytes) = number(bytes, b' ')?;
        let (length, bytes) = number(bytes, b'\n')?;
        let (frame, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
        Some(Self { kind, room, a, b, c, frame, rest })
    }
}

/// Parses the decimal number at the start of `bytes`. The byte `end` must follow the number. Returns the number and the
/// bytes after `end`.
fn number(bytes: &[u8], end: u8) -> Option<(u64, &[u8])> {
    let mut value: u64 = 0;
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'0'..=b'9' => value = value.checked_mul(10)?.checked_add(u64::from(byte - b'0'))?,
            byte if *byte == end && at > 0 => return Some((value, &bytes[at + 1..])),
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use proptest::prelude::*;

    use super::*;
    use crate::domain::Control;

    #[derive(Default)]
    struct Seen(Mutex<Vec<String>>);

    impl Sink for Seen {
        fn publication(&self, publication: &Publication<'_>) {
            let Publication { room, host, prev, seq, frame, provenance, trace } = publication;
            let (frame, is_own) = (String::from_utf8_lossy(frame), provenance.map(|provenance| provenance.is_own));
            let trace = trace.map(|trace| trace.to_string());
            self.0.lock().push(format!("M {room} {prev} {seq} {} {frame} {is_own:?} {trace:?}", host.0));
        }
        fn notice(&self, room: RoomName, from: Side, frame: &[u8]) {
            self.0.lock().push(format!("N {room} {from:?} {}", String::from_utf8_lossy(frame)));
        }
        fn changed(&self, change: Change) {
            self.0.lock().push(format!("E {} {:?} {}", change.room, change.change, change.version));
        }
        fn control(&self, _: Control) {}
        fn missed(&self) {}
    }

    #[test]
    fn encoded_records_are_decoded_unchanged() {
        let room = RoomName::from_random([7; 16]);
        let change = Change { room, change: RoomChange::Close, version: 3, notice: Bytes::from_static(b"{}") };
        let (me, clocks) = (NodeId::from_random([1; 16]), Clocks::of_partitions(16));
        let mut bus = record('M', room, [1, 2, 7], b"{\"a\":1}").to_vec();
        clocks.set(Partition(3), 10_000);
        let mine = RoomName::from_bytes(me.as_str().as_bytes()).unwrap();
        bus.extend_from_slice(&record('A', mine, [9_000, 3, 0], b""));
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        bus.extend_from_slice(&record('T', room, [3, 0, 0], trace.as_bytes()));
        bus.extend_from_slice(&record('M', room, [2, 3, 7], b"{}"));
        bus.extend_from_slice(&record('A', room, [9_000, 3, 0], b""));
        bus.extend_from_slice(&record('M', room, [3, 4, 7], b"{}"));
        bus.extend_from_slice(&record('X', room, [0; 3], b"of the future"));
        bus.extend_from_slice(&notice(room, Side::Host, b"{}"));
        bus.extend_from_slice(&changed(&change));
        let seen = Seen::default();
        let probes = BusProbes::new(me, 16);
        probes.expect(Partition(3));
        bus.extend_from_slice(&probe(me, Partition(3)).unwrap());
        assert!(deliver(&bus, &seen, &probes, &clocks));
        assert_eq!(probes.silent_bus(), None);
        assert_eq!(
            *seen.0.lock(),
            [
                format!("M {room} 1 2 7 {{\"a\":1}} None None"),
                format!("M {room} 2 3 7 {{}} Some(true) Some(\"{trace}\")"),
                format!("M {room} 3 4 7 {{}} Some(false) None"),
                format!("N {room} Host {{}}"),
                format!("E {room} Close 3"),
            ]
        );
    }

    proptest! {
        #[test]
        fn a_malformed_publication_does_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            deliver(&bytes, &Seen::default(), &BusProbes::new(NodeId::from_random([1; 16]), 16), &Clocks::of_partitions(16));
        }
    }
}
