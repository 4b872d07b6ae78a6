//! Every metric there is: its name, its kind, and what it tells. `/metrics`, the dashboards and the alerts know no
//! other.
//!
//! **Invariant:** no label's values grow with rooms, users or paths: a series is never freed. Routes are templates.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Writes a metric down once: a constant for those who count, and a row for those who describe.
macro_rules! table {
    ($($kind:ident $name:ident $text:literal $unit:ident $help:literal;)*) => {
        $(#[doc = $help] pub const $name: &str = $text;)*

        /// Gives every metric its help text.
        pub fn describe_all() {
            $(table!(@ $kind $name $unit $help);)*
        }
    };
    (@ counter $name:ident $unit:ident $help:literal) => { describe_counter!($name, Unit::$unit, $help) };
    (@ gauge $name:ident $unit:ident $help:literal) => { describe_gauge!($name, Unit::$unit, $help) };
    (@ histogram $name:ident $unit:ident $help:literal) => { describe_histogram!($name, Unit::$unit, $help) };
}

table! {
    // the process
    gauge BUILD_INFO "pintalk_build_info" Count "Always 1; the label `version` is the program's.";
    gauge START_TIME "process_start_time_seconds" Seconds "When the process began to serve, in seconds since 1970.";
    gauge RESIDENT_BYTES "process_resident_memory_bytes" Bytes "Memory that the process holds.";
    gauge READY "pintalk_ready" Count "1 while /health/ready answers 200.";
    gauge DEGRADED "pintalk_degraded" Count "1 while a store is away; label `store` (sql, redis).";

    // sockets
    gauge CONNECTIONS "pintalk_connections" Count "Open sockets; label `kind` (chat_guest, chat_host, status_guest, status_host).";
    counter CLOSES "pintalk_closes_total" Count "Sockets that the server closed; label `code`.";
    counter SLOW "pintalk_slow_closes_total" Count "Sockets closed because their outbox was full or took no write.";

    // messages
    counter MESSAGES "pintalk_messages_total" Count "Messages from clients; label `result` (accepted, duplicate, refused, given_up).";
    counter ACCEPT_FAILURES "pintalk_accept_failures_total" Count "Calls to the broker that failed; their messages are sent again.";
    counter QUEUE_FULL "pintalk_queue_full_total" Count "Rooms that waited because too much of their partition was not in SQL.";
    counter HANDSHAKES "pintalk_handshakes_total" Count "WebSocket handshakes that were answered.";
    histogram ACCEPT_SECONDS "pintalk_accept_duration_seconds" Seconds "One call to the broker.";
    histogram ACCEPT_BATCH "pintalk_accept_batch_size" Count "Messages in one call to the broker.";

    // the archive
    counter ARCHIVED "pintalk_messages_archived_total" Count "Messages written to SQL.";
    counter DEAD_LETTERS "pintalk_dead_letters_total" Count "Messages that SQL will never take. Any is an alert.";
    counter ARCHIVE_FAILURES "pintalk_archive_failures_total" Count "Rounds of an archiver that failed and are tried again.";
    histogram ARCHIVE_SECONDS "pintalk_archive_duration_seconds" Seconds "One transaction of an archiver.";

    // buses
    counter GAPS "pintalk_gaps_total" Count "Rooms whose sockets fetched what the bus had not brought; label `reason`.";
    counter BUS_LAGGED "pintalk_bus_lagged_total" Count "Times that the listener fell behind the bus.";
    counter BUS_DEAF "pintalk_bus_deaf_total" Count "Times that the node did not hear itself on a bus and connected anew.";
    counter BUS_RESUBSCRIBED "pintalk_bus_resubscribed_total" Count "Times that the buses were subscribed anew.";

    // what is done by the clock
    gauge LEADER "pintalk_leader" Count "1 on the node that leads; 0 on the others.";
    counter DUTY_RUNS "pintalk_duty_runs_total" Count "Times that the leader looked after a duty; labels `duty` and `outcome` (done, failed: tried again).";
    counter DUTY_ROWS "pintalk_duty_rows_total" Count "What a duty acted on; label `duty`.";
    histogram DUTY_SECONDS "pintalk_duty_duration_seconds" Seconds "One look after a duty, all its batches and the pauses between them; label `duty`.";

    // HTTP
    histogram HTTP_SECONDS "pintalk_http_request_duration_seconds" Seconds "Answering a request; labels `route` (its template), `method` and `status`.";
    counter HTTP_REQUESTS "pintalk_http_requests_total" Count "Requests; labels `route` (its template), `method` and `status`.";
    counter LOGINS "pintalk_logins_total" Count "Logins; label `outcome`.";
    counter MAILS "pintalk_mails_total" Count "Mails; label `outcome` (sent, failed and tried again, refused for good, expired; unknown: one that is never sent twice broke off half-way).";
    counter NOTIFICATIONS "pintalk_notifications_total" Count "Decisions about mails to who was not in a room; labels `to` (host, guest) and `outcome` (mailed, present, read, closed, unwanted).";
    counter WEBHOOKS "pintalk_webhooks_total" Count "Events sent to hosts' own systems; label `outcome` (delivered, failed and sent again, given_up).";
    histogram WEBHOOK_SECONDS "pintalk_webhook_duration_seconds" Seconds "Sending an event to a host's own system, until its answer.";
    gauge WEBHOOK_LAG "pintalk_webhook_lag_seconds" Seconds "For how long the event has been due that waits longest, of receivers that are not switched off.";
    counter LIMITED "pintalk_limited_total" Count "Calls and handshakes answered with 429; label `kind` (handshake, room, login_address, login_account, mail, webhook_test).";

}
