//! Every metric there is: its name, its kind, its labels, and what it tells. `/metrics`, README, the dashboards and the alerts
//! know no other.
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

/// The table of README: a row a metric.
pub fn as_markdown() -> String {
    use std::fmt::Write as _;
    let mut table = String::from("| metric | is a | labels | tells |\n|---|---|---|---|\n");
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
    Gauge BUILD_INFO "pintalk_build_info" Count [version:; revision:; rust_version:;] "Always 1; the labels say what runs.";
    Gauge START_TIME "process_start_time_seconds" Seconds [] "When the process began to serve, in seconds since 1970.";
    Gauge RESIDENT_BYTES "process_resident_memory_bytes" Bytes [] "Memory that the process holds.";
    Counter CPU_SECONDS "process_cpu_seconds_total" Seconds [] "Time that processors gave the process.";
    Gauge OPEN_FDS "process_open_fds" Count [] "Open files and sockets.";
    Gauge MAX_FDS "process_max_fds" Count [] "How many files and sockets may be open.";
    Counter LOG_LINES_DROPPED "pintalk_log_lines_dropped_total" Count [reason: "buffer_full" "write_failed";] "Log lines dropped because standard error did not take them.";
    Gauge READY "pintalk_ready" Count [] "1 while /health/ready answers 200.";
    Gauge DEGRADED "pintalk_degraded" Count [store: "sql" "redis";] "1 while a store is unreachable, or SQL is read-only, full or otherwise cannot be written.";

    // sockets
    Gauge CONNECTIONS "pintalk_connections" Count [kind: "chat_guest" "chat_host" "status_guest" "status_host";] "Open sockets.";
    Counter HANDSHAKES "pintalk_handshakes_total" Count [kind: "chat" "status"; result: "admitted" "limited" "draining" "not_ready" "refused" "overloaded";] "WebSocket handshakes; those that were refused got a close code, and 1013 if too many joins waited (`overloaded`).";
    Gauge JOINS_WAITING "pintalk_joins_waiting" Count [] "Upgraded sockets that wait to be joined to their room or status.";
    Counter CLOSES "pintalk_closes_total" Count [code:;] "Sockets that have ended, by close code; `peer` went without one.";
    Counter SLOW "pintalk_slow_closes_total" Count [] "Sockets closed because their outbox was full, or because the peer took no byte for 10 s or less than 4 KiB in 30 s.";
    Counter NOTICES_SKIPPED "pintalk_notices_skipped_total" Count [] "Notices that were not sent to a socket because too much waited for it.";
    Gauge OUTBOX_BYTES "pintalk_outbox_bytes" Bytes [] "What waits in the outboxes of all sockets, looked up every 5 s.";

    // messages
    Counter MESSAGES "pintalk_messages_total" Count [result: "accepted" "duplicate" "refused" "given_up" "over_budget";] "Messages from clients; `over_budget`: refused because their host had used its bytes per day.";
    Counter DELIVERED "pintalk_messages_delivered_total" Count [] "Messages put into sockets' outboxes as they came; what a socket reads up later is not counted.";
    Histogram ACKNOWLEDGE_SECONDS "pintalk_acknowledge_duration_seconds" Seconds [] "From reading a message's frame until the broker has stored it.";
    Histogram RELAY_SECONDS "pintalk_relay_duration_seconds" Seconds [path: "local" "remote";] "From a message's acceptance, here or by another node, until it is in the outboxes of this node. By the broker's clock as this node knows it: right to some milliseconds.";
    Counter ACCEPT_FAILURES "pintalk_accept_failures_total" Count [] "Calls to the broker that failed; their messages are sent again.";
    Counter QUEUE_FULL "pintalk_queue_full_total" Count [] "Rooms that waited because too much of their partition was not in SQL.";
    Histogram ACCEPT_SECONDS "pintalk_accept_duration_seconds" Seconds [] "One call to the broker.";
    Histogram ACCEPT_BATCH "pintalk_accept_batch_size" Count [] "Messages in one call to the broker.";

    // the archive
    Counter ARCHIVED "pintalk_messages_archived_total" Count [] "Messages written to SQL.";
    Counter DEAD_LETTERS "pintalk_dead_letters_total" Count [] "Messages that SQL will never take. Any is an alert.";
    Counter ARCHIVE_FAILURES "pintalk_archive_failures_total" Count [] "Rounds of an archiver that failed and are tried again.";
    Histogram ARCHIVE_SECONDS "pintalk_archive_duration_seconds" Seconds [] "One transaction of an archiver.";
    Histogram ARCHIVE_BATCH "pintalk_archive_batch_size" Count [] "Messages in one transaction of an archiver.";
    Gauge ARCHIVE_LAG "pintalk_archive_lag_messages" Count [] "Messages accepted and not in SQL yet, in the whole cluster; every node reports the same.";
    Gauge ARCHIVE_LAG_SECONDS "pintalk_archive_lag_seconds" Seconds [] "How long the oldest of them has waited.";

    // installation
    Gauge SUSPENDED "pintalk_suspended" Count [] "1 while the node does not use its Redis: it belongs to another installation, or the node's database is not the leader's.";
    Counter RECOVERIES "pintalk_recoveries_total" Count [store: "redis" "sql";] "Times that a store was found in an earlier state. Any is an alert.";

    // Redis
    Histogram ROUND_TRIP "pintalk_redis_round_trip_seconds" Seconds [] "One script of Redis, as the node waits for it.";
    Counter RECONNECTS "pintalk_redis_reconnects_total" Count [client: "commands" "subscriber";] "New connections in the place of lost ones.";
    Gauge PROBE_AGE "pintalk_bus_probe_age_seconds" Seconds [] "How long ago the node heard itself, on the bus where that is longest ago. It says something every 5 s.";
    Counter GAPS "pintalk_gaps_total" Count [reason: "echo" "sweep" "bus";] "Rooms whose sockets fetched what the bus had not brought: a message showed that one before it was missing (`bus`), an own one did not come (`echo`), or it was noticed in the minute's round (`sweep`).";
    Counter BUS_LAGGED "pintalk_bus_lagged_total" Count [] "Times that the listener fell behind the bus.";
    Counter BUS_DEAF "pintalk_bus_deaf_total" Count [] "Times that the node did not hear itself on a bus and connected anew.";
    Counter BUS_RESUBSCRIBED "pintalk_bus_resubscribed_total" Count [] "Times that the buses were subscribed anew.";

    // SQL
    Histogram SQL_SECONDS "pintalk_sql_duration_seconds" Seconds [operation:;] "One operation of the store, its retries included, by the part of the store that has it.";

    // presence
    Counter TRANSITIONS "pintalk_presence_transitions_total" Count [to: "online" "offline";] "Hosts who came online or went offline by what this node said.";
    Counter CLAIMS "pintalk_presence_claims_total" Count [] "Dead nodes whose hosts this node has looked after.";

    // clocks
    Gauge CLOCK_SKEW "pintalk_clock_skew_seconds" Seconds [store: "sql" "redis";] "This machine's clock minus the store's; of several servers of Redis, the one that differs most. A node with SQLite has none.";

    // what is done by the clock
    Gauge LEADER "pintalk_leader" Count [] "1 on the node that leads; 0 on the others.";
    Counter DUTY_RUNS "pintalk_duty_runs_total" Count [duty:; outcome: "done" "failed";] "Times that the leader looked after a duty; what failed is tried again.";
    Counter DUTY_ROWS "pintalk_duty_rows_total" Count [duty:;] "What a duty acted on.";
    Histogram DUTY_SECONDS "pintalk_duty_duration_seconds" Seconds [duty:;] "One look after a duty, all its batches and the pauses between them.";
    Gauge DUTY_SUCCESS "pintalk_duty_last_success_timestamp_seconds" Seconds [duty:;] "When this node last looked after a duty and did not fail.";

    // HTTP
    Gauge TCP_CONNECTIONS "pintalk_tcp_connections" Count [] "Open TCP connections, WebSockets included.";
    Counter TCP_REFUSED "pintalk_tcp_connections_refused_total" Count [reason: "address" "node" "shed";] "Connections above what an address may have, or the node's file descriptors allow; `shed` were idle and closed for others.";
    Counter TCP_TIMEOUTS "pintalk_tcp_timeouts_total" Count [phase: "head" "write";] "Connections closed because a request's head, or the peer's taking of a response, was too slow.";
    Histogram HTTP_SECONDS "pintalk_http_request_duration_seconds" Seconds [route:; method:; status:;] "Answering a request.";
    Counter HTTP_REQUESTS "pintalk_http_requests_total" Count [route:; method:; status:;] "Requests; `route` is the template, one value for whatever is no route.";
    Counter LOGINS "pintalk_logins_total" Count [outcome: "ok" "wrong" "deactivated" "failed";] "Logins.";
    Counter LIMITED "pintalk_limited_total" Count [kind: "handshake" "room" "login_address" "login_pair" "login_pair_hour" "login_account" "mail" "webhook_test" "unknown_keys" "sign_up" "image";] "Calls and handshakes answered with 429.";

    // mail
    Counter MAILS "pintalk_mails_total" Count [outcome: "sent" "failed" "refused" "expired" "unknown";] "Mails; `failed` is tried again, `refused` is for good, of `unknown` nobody knows and it is not tried again.";
    Counter MAILS_LIMITED "pintalk_mails_limited_total" Count [scope: "mailbox" "host" "installation"; class: "account" "host" "guest";] "E-mails delayed because a limit was reached, each time that happens; one that expires first is dropped (`expired` above).";
    Counter NOTIFICATIONS "pintalk_notifications_total" Count [to: "host" "guest"; outcome: "mailed" "asked" "unconsented" "present" "read" "closed" "unwanted";] "Decisions about e-mails to who was not in a room; `asked` is a request for consent, `unconsented` waits for it.";
    Gauge MAILS_WAITING "pintalk_mails_waiting" Count [] "Mails that wait to be sent, as the node that leads sees it; 0 on the others.";

    // traces
    Counter TRACE_EXPORTS "pintalk_trace_exports_total" Count [outcome: "sent" "failed";] "Parcels of traces for the collector; what failed is lost.";

    // webhooks
    Counter WEBHOOKS "pintalk_webhooks_total" Count [outcome: "delivered" "failed" "given_up";] "Events sent to hosts' own systems; `failed` is sent again.";
    Histogram WEBHOOK_SECONDS "pintalk_webhook_duration_seconds" Seconds [] "Sending an event to a host's own system, until its answer.";
    Gauge WEBHOOK_LAG "pintalk_webhook_lag_seconds" Seconds [] "For how long the event has been due that waits longest, of receivers that are not switched off.";
}

#[cfg(test)]
mod tests;
