//! Every metric: name, type, labels and help text. `/metrics`, `grafana/README.md`, the dashboard and the alerts use only these.
//!
//! **Invariant:** no label's values grow with rooms, users or paths: a series is never freed. Routes are templates.
//!
//! What is counted for each message is counted through handles that are kept ([`metrics::Counter`]): finding a metric by its name
//! costs ten times as much as counting.

use metrics::{Label, Unit, counter, describe_counter, describe_gauge, describe_histogram};

/// What can be asked of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises, until the process ends.
    Counter,
    /// Is what it is now.
    Gauge,
    /// Counts values by size.
    Histogram,
}

/// A label, and its values where these are few and known. The others are as many as there are routes, statuses, or files of code.
#[derive(Clone, Copy, Debug)]
pub struct LabelOf {
    /// Its name.
    pub name: &'static str,
    /// Its values, if they are known.
    pub values: &'static [&'static str],
}

/// A metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name in Prometheus' conventions.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Its unit.
    pub unit: Unit,
    /// Its labels.
    pub labels: &'static [LabelOf],
    /// What it tells, in a sentence.
    pub help: &'static str,
}

impl Metric {
    fn describe(&self) {
        match self.kind {
            Kind::Counter => describe_counter!(self.name, self.unit, self.help),
            Kind::Gauge => describe_gauge!(self.name, self.unit, self.help),
            Kind::Histogram => describe_histogram!(self.name, self.unit, self.help),
        }
    }

    /// A counter whose labels are known begins at 0: what has never happened can be told from what nobody counts, and the first
    /// time is a rise. The processor's time is the kernel's to count.
    fn begin(&self) {
        if self.kind != Kind::Counter
            || self.name == CPU_SECONDS
            || self.labels.iter().any(|label| label.values.is_empty())
        {
            return;
        }
        let mut series: Vec<Vec<Label>> = vec![Vec::new()];
        for label in self.labels {
            let with = |labels: &Vec<Label>, value: &'static str| -> Vec<Label> {
                let one_more = Label::from_static_parts(label.name, value);
                labels.iter().cloned().chain([one_more]).collect()
            };
            series =
                series.iter().flat_map(|labels| label.values.iter().map(move |value| with(labels, value))).collect();
        }
        for labels in series {
            counter!(self.name, labels).increment(0);
        }
    }
}

/// The table of `grafana/README.md`, one row per metric.
pub fn as_markdown() -> String {
    use std::fmt::Write as _;
    let mut table = String::from("| metric | type | labels | description |\n|---|---|---|---|\n");
    for Metric { name, kind, labels, help, .. } in TABLE {
        let kind = format!("{kind:?}").to_lowercase();
        let labels: Vec<String> = labels.iter().map(LabelOf::to_string).collect();
        // Writing to a string does not fail.
        let _ = writeln!(table, "| `{name}` | {kind} | {} | {help} |", labels.join(", "));
    }
    table
}

impl std::fmt::Display for LabelOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}`", self.name)?;
        if self.values.is_empty() { Ok(()) } else { write!(f, " ({})", self.values.join(", ")) }
    }
}

/// Gives every metric its help text, and every counter its beginning.
pub fn describe_all() {
    for metric in TABLE {
        metric.describe();
        metric.begin();
    }
}

/// Writes a metric down once: a constant for those who count, and a row for those who describe.
macro_rules! table {
    ($($kind:ident $name:ident $text:literal $unit:ident [$($label:ident: $($value:literal)*;)*] $help:literal;)*) => {
        $(#[doc = $help] pub const $name: &str = $text;)*

        /// All of them.
        pub const TABLE: &[Metric] = &[$(Metric {
            name: $text,
            kind: Kind::$kind,
            unit: Unit::$unit,
            labels: &[$(LabelOf { name: stringify!($label), values: &[$($value),*] }),*],
            help: $help,
        }),*];
    };
}

table! {
    // the process
    Gauge BUILD_INFO "pintalk_build_info" Count [version:; revision:; rust_version:;] "Always 1; the labels identify the build.";
    Gauge START_TIME "process_start_time_seconds" Seconds [] "Start time of the process, in seconds since 1970.";
    Gauge RESIDENT_BYTES "process_resident_memory_bytes" Bytes [] "Resident memory of the process.";
    Counter CPU_SECONDS "process_cpu_seconds_total" Seconds [] "CPU time of the process, user and system.";
    Gauge OPEN_FDS "process_open_fds" Count [] "Open file descriptors.";
    Gauge MAX_FDS "process_max_fds" Count [] "Maximum number of open file descriptors.";
    Counter LOG_LINES_DROPPED "pintalk_log_lines_dropped_total" Count [reason: "buffer_full" "write_failed";] "Log lines dropped because standard error did not accept them.";
    Gauge READY "pintalk_ready" Count [] "1 while /health/ready answers 200.";
    Gauge DEGRADED "pintalk_degraded" Count [store: "sql" "redis";] "1 while the store is unreachable, or SQL is read-only, full or cannot be written for another reason.";

    // sockets
    Gauge CONNECTIONS "pintalk_connections" Count [kind: "chat_guest" "chat_host" "status_guest" "status_host";] "Open sockets.";
    Counter HANDSHAKES "pintalk_handshakes_total" Count [kind: "chat" "status"; result: "admitted" "limited" "draining" "not_ready" "refused" "overloaded";] "WebSocket handshakes; `refused` received a close code, `overloaded` received 1013 because too many joins waited.";
    Gauge JOINS_WAITING "pintalk_joins_waiting" Count [] "Upgraded sockets that wait to join their room or status.";
    Counter CLOSES "pintalk_closes_total" Count [code:;] "Closed sockets by close code; `peer`: the peer closed or lost the connection.";
    Counter SLOW "pintalk_slow_closes_total" Count [] "Sockets closed because their outbox was full, or because the peer accepted no byte for 10 s or less than 4 KiB in 30 s.";
    Counter NOTICES_SKIPPED "pintalk_notices_skipped_total" Count [] "Notices dropped because the socket's outbox held too much.";
    Gauge OUTBOX_BYTES "pintalk_outbox_bytes" Bytes [] "Bytes in the outboxes of all sockets, sampled every 5 s.";

    // messages
    Counter MESSAGES "pintalk_messages_total" Count [result: "accepted" "duplicate" "refused" "given_up" "over_budget";] "Messages from clients; `over_budget`: rejected because the daily byte limit of their host was reached.";
    Counter DELIVERED "pintalk_messages_delivered_total" Count [] "Messages added to sockets' outboxes on arrival; messages that a socket reads later from the history are not counted.";
    Histogram ACKNOWLEDGE_SECONDS "pintalk_acknowledge_duration_seconds" Seconds [] "Time from reading a message's frame until the broker has stored it.";
    Histogram RELAY_SECONDS "pintalk_relay_duration_seconds" Seconds [path: "local" "remote";] "Time from a message's acceptance on any node until it is in this node's outboxes; measured by the broker's clock, accurate to a few milliseconds.";
    Counter ACCEPT_FAILURES "pintalk_accept_failures_total" Count [] "Failed calls to the broker; their messages are retried.";
    Counter QUEUE_FULL "pintalk_queue_full_total" Count [] "Rooms that waited because the archive queue of their partition was full.";
    Histogram ACCEPT_SECONDS "pintalk_accept_duration_seconds" Seconds [] "Duration of a call to the broker.";
    Histogram ACCEPT_BATCH "pintalk_accept_batch_size" Count [] "Messages per call to the broker.";

    // the archive
    Counter ARCHIVED "pintalk_messages_archived_total" Count [] "Messages written to SQL.";
    Counter DEAD_LETTERS "pintalk_dead_letters_total" Count [] "Messages that SQL rejected permanently; every increase raises an alert.";
    Counter ARCHIVE_FAILURES "pintalk_archive_failures_total" Count [] "Failed rounds of an archiver; they are retried.";
    Histogram ARCHIVE_SECONDS "pintalk_archive_duration_seconds" Seconds [] "Duration of an archiver's transaction.";
    Histogram ARCHIVE_BATCH "pintalk_archive_batch_size" Count [] "Messages per transaction of an archiver.";
    Gauge ARCHIVE_LAG "pintalk_archive_lag_messages" Count [] "Accepted messages that are not in SQL yet, in the whole cluster; every node reports the same value.";
    Gauge ARCHIVE_LAG_SECONDS "pintalk_archive_lag_seconds" Seconds [] "Age of the oldest message that is not in SQL yet.";

    // installation
    Gauge SUSPENDED "pintalk_suspended" Count [] "1 while the node does not use its Redis: it belongs to another installation, or the node's database is not the leader's.";
    Counter RECOVERIES "pintalk_recoveries_total" Count [store: "redis" "sql";] "Times that a store was found in an earlier state; every increase raises an alert.";

    // Redis
    Histogram ROUND_TRIP "pintalk_redis_round_trip_seconds" Seconds [] "Duration of a Redis script, measured by the node.";
    Counter RECONNECTS "pintalk_redis_reconnects_total" Count [client: "commands" "subscriber";] "Connections to Redis that replaced lost ones.";
    Gauge PROBE_AGE "pintalk_bus_probe_age_seconds" Seconds [] "Age of the newest probe that the node received from itself, on the bus where it is oldest; a probe is published every 5 s.";
    Counter GAPS "pintalk_gaps_total" Count [reason: "echo" "sweep" "bus";] "Rooms that read messages which the bus did not deliver: a later message revealed the gap (`bus`), an own message did not arrive (`echo`), or the check of every minute found it (`sweep`).";
    Counter BUS_LAGGED "pintalk_bus_lagged_total" Count [] "Times that the subscriber fell behind the bus.";
    Counter BUS_DEAF "pintalk_bus_deaf_total" Count [] "Times that the node did not receive its own probe on a bus and reconnected.";
    Counter BUS_RESUBSCRIBED "pintalk_bus_resubscribed_total" Count [] "Times that the buses were resubscribed.";

    // SQL
    Histogram SQL_SECONDS "pintalk_sql_duration_seconds" Seconds [operation:;] "Duration of a store operation, retries included, by the part of the store that implements it.";

    // presence
    Counter TRANSITIONS "pintalk_presence_transitions_total" Count [to: "online" "offline";] "Hosts that this node reported online or offline.";
    Counter CLAIMS "pintalk_presence_claims_total" Count [] "Dead nodes whose presence entries this node removed.";

    // clocks
    Gauge CLOCK_SKEW "pintalk_clock_skew_seconds" Seconds [store: "sql" "redis";] "This machine's clock minus the store's; with several Redis servers, the largest difference. Absent with SQLite.";

    // what is done by the clock
    Gauge LEADER "pintalk_leader" Count [] "1 on the leader, 0 on other nodes.";
    Counter DUTY_RUNS "pintalk_duty_runs_total" Count [duty:; outcome: "done" "failed";] "Runs of a job on the leader; failed runs are retried.";
    Counter DUTY_ROWS "pintalk_duty_rows_total" Count [duty:;] "Rows that a job acted on.";
    Histogram DUTY_SECONDS "pintalk_duty_duration_seconds" Seconds [duty:;] "Duration of a job's run, with all its batches and the pauses between them.";
    Gauge DUTY_SUCCESS "pintalk_duty_last_success_timestamp_seconds" Seconds [duty:;] "Time of the job's last successful run on this node.";

    // HTTP
    Gauge TCP_CONNECTIONS "pintalk_tcp_connections" Count [] "Open TCP connections, WebSockets included.";
    Counter TCP_REFUSED "pintalk_tcp_connections_refused_total" Count [reason: "address" "node" "shed";] "Connections refused above the limit of an address (`address`) or of the node's file descriptors (`node`); `shed`: idle connections closed to admit new ones.";
    Counter TCP_TIMEOUTS "pintalk_tcp_timeouts_total" Count [phase: "head" "write";] "Connections closed because the peer sent a request's head (`head`) or read a response (`write`) too slowly.";
    Histogram HTTP_SECONDS "pintalk_http_request_duration_seconds" Seconds [route:; method:; status:;] "Duration of HTTP requests.";
    Counter HTTP_REQUESTS "pintalk_http_requests_total" Count [route:; method:; status:;] "HTTP requests; `route` is the route's template, with one value for unknown paths.";
    Counter LOGINS "pintalk_logins_total" Count [outcome: "ok" "wrong" "deactivated" "failed";] "Logins.";
    Counter LIMITED "pintalk_limited_total" Count [kind: "handshake" "room" "login_address" "login_pair" "login_pair_hour" "login_account" "mail" "webhook_test" "unknown_keys" "sign_up" "image";] "Calls and handshakes rejected with 429.";

    // mail
    Counter MAILS "pintalk_mails_total" Count [outcome: "sent" "failed" "refused" "expired" "unknown";] "E-mails; `failed` is retried, `refused` is permanent, `unknown` may have been sent and is not retried.";
    Counter MAILS_LIMITED "pintalk_mails_limited_total" Count [scope: "mailbox" "host" "installation"; class: "account" "host" "guest";] "E-mails delayed by a limit, counted at each delay; an e-mail that expires first is dropped (`expired` above).";
    Counter NOTIFICATIONS "pintalk_notifications_total" Count [to: "host" "guest"; outcome: "mailed" "asked" "unconsented" "present" "read" "closed" "unwanted";] "Decisions about e-mails to participants who are not in a room; `asked`: a request for consent is sent, `unconsented`: the e-mail waits for consent.";
    Gauge MAILS_WAITING "pintalk_mails_waiting" Count [] "E-mails that wait to be sent, counted by the leader; 0 on other nodes.";

    // traces
    Counter TRACE_EXPORTS "pintalk_trace_exports_total" Count [outcome: "sent" "failed";] "Batches of spans sent to the collector; failed batches are lost.";

    // webhooks
    Counter WEBHOOKS "pintalk_webhooks_total" Count [outcome: "delivered" "failed" "given_up";] "Webhook events; `failed` is retried.";
    Histogram WEBHOOK_SECONDS "pintalk_webhook_duration_seconds" Seconds [] "Duration of a webhook request until its response.";
    Gauge WEBHOOK_LAG "pintalk_webhook_lag_seconds" Seconds [] "Age of the oldest due event of all enabled webhooks.";
}

#[cfg(test)]
mod tests;
