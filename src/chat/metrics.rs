//! Metrics of connections, the relay and the archive.

use crate::domain::metric::{Counter, Family, Gauge, Histogram, OnFirstUse, label, metric_set};

metric_set! {
    /// Metrics of socket outboxes, aggregated over all sockets of the node.
    pub(crate) struct OutboxMetrics {
        /// Sockets closed because their outbox was full, or because the peer accepted no byte for 10 s or less than 4
        /// KiB in 30 s.
        slow_closes: Counter = "pintalk_slow_closes_total", Count;
        /// Notices dropped because the socket's outbox held too much.
        notices_skipped: Counter = "pintalk_notices_skipped_total", Count;
        /// Bytes in the outboxes of all sockets, sampled every 5 s.
        bytes: Gauge = "pintalk_outbox_bytes", Bytes;
    }
}

metric_set! {
    /// Metrics of the path of messages from their senders to the sockets of a node.
    pub(crate) struct RelayMetrics {
        /// Messages from clients; `over_budget`: rejected because the daily byte limit of their host was reached.
        messages: Family<Counter, MessageResult> = "pintalk_messages_total", Count;
        /// Messages added to sockets' outboxes on arrival; messages that a socket reads later from the history are
        /// not counted.
        delivered: Counter = "pintalk_messages_delivered_total", Count;
        /// Time from reading a message's frame until the broker has stored it.
        acknowledge_duration: Histogram = "pintalk_acknowledge_duration_seconds", Seconds;
        /// Time from a message's acceptance on any node until it is in this node's outboxes; measured by the broker's
        /// clock, accurate to a few milliseconds.
        relay_duration: Family<Histogram, RelayPath> = "pintalk_relay_duration_seconds", Seconds;
        /// Failed calls to the broker; their messages are retried.
        accept_failures: Counter = "pintalk_accept_failures_total", Count;
        /// Rooms that waited because the archive queue of their partition was full.
        queue_full: Counter = "pintalk_queue_full_total", Count;
        /// Duration of a call to the broker.
        accept_duration: Histogram = "pintalk_accept_duration_seconds", Seconds;
        /// Messages per call to the broker.
        accept_batch: Histogram = "pintalk_accept_batch_size", Count;
        /// Rooms that read messages which the bus did not deliver: a later message revealed the gap (`bus`), an own
        /// message did not arrive (`echo`), or the check of every minute found it (`sweep`).
        gaps: Family<Counter, GapReason> = "pintalk_gaps_total", Count;
    }
}

label! {
    /// Result of a message from a client.
    pub(crate) enum MessageResult = "result" {
        Accepted = "accepted",
        Duplicate = "duplicate",
        Refused = "refused",
        GivenUp = "given_up",
        OverBudget = "over_budget",
    }
}

label! {
    /// Whether a message was accepted on this node or on another node.
    pub(crate) enum RelayPath = "path" {
        Local = "local",
        Remote = "remote",
    }
}

label! {
    /// How a missing message was detected.
    pub(crate) enum GapReason = "reason" {
        Echo = "echo",
        Sweep = "sweep",
        Bus = "bus",
    }
}

metric_set! {
    /// Metrics of the archive.
    pub(crate) struct ArchiveMetrics {
        /// Messages written to SQL.
        archived: Counter = "pintalk_messages_archived_total", Count;
        /// Messages that SQL rejected permanently; every increase raises an alert.
        dead_letters: Counter = "pintalk_dead_letters_total", Count;
        /// Failed rounds of an archiver; they are retried.
        failures: Counter = "pintalk_archive_failures_total", Count;
        /// Duration of an archiver's transaction.
        duration: OnFirstUse<Histogram> = "pintalk_archive_duration_seconds", Seconds;
        /// Messages per transaction of an archiver.
        batch: OnFirstUse<Histogram> = "pintalk_archive_batch_size", Count;
        /// Accepted messages that are not in SQL yet, in the whole cluster; every node reports the same value.
        lag: Gauge = "pintalk_archive_lag_messages", Count;
        /// Used share of the limit of the fullest archive queue, in messages (`limit-queue`) or bytes
        /// (`limit-queue-bytes`), whichever is larger; senders are closed with 1013 at 1.
        fullest: Gauge = "pintalk_archive_queue_ratio", Count;
        /// Age of the oldest message that is not in SQL yet.
        lag_age: Gauge = "pintalk_archive_lag_seconds", Seconds;
    }
}
