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
        pub(super) fn describe_all() {
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
    gauge CONNECTIONS "pintalk_connections" Count "Open sockets; labels `kind` (chat, status) and `side` (guest, host).";
    counter CLOSES "pintalk_closes_total" Count "Sockets that the server closed; label `code`.";
    counter SLOW "pintalk_slow_closes_total" Count "Sockets closed because their outbox was full or took no write.";
    gauge LOCAL_ROOMS "pintalk_local_rooms" Count "Rooms that somebody on this node is in.";

    // messages
    counter ACCEPTED "pintalk_messages_accepted_total" Count "Messages that were stored and numbered.";
    counter REFUSED "pintalk_messages_refused_total" Count "Messages that were not; label `reason` (full, closed, deleted, unavailable).";
    counter REPEATED "pintalk_messages_repeated_total" Count "Messages that had come before under the same id.";
    counter DELIVERED "pintalk_deliveries_total" Count "Frames handed to sockets of this node.";
    histogram ACCEPT_SECONDS "pintalk_accept_duration_seconds" Seconds "From reading a message to its being stored.";
    histogram ACCEPT_BATCH "pintalk_accept_batch_size" Count "Messages in one call to the broker.";

    // the archive
    counter ARCHIVED "pintalk_messages_archived_total" Count "Messages written to SQL.";
    counter DEAD_LETTERS "pintalk_dead_letters_total" Count "Messages that SQL will never take. Any is an alert.";
    gauge ARCHIVE_QUEUE "pintalk_archive_queue_entries" Count "Messages not yet in SQL; label `partition`.";
    histogram ARCHIVE_SECONDS "pintalk_archive_duration_seconds" Seconds "One transaction of an archiver.";

    // buses
    counter CATCH_UPS "pintalk_catch_ups_total" Count "Rooms whose sockets fetched what the bus had not brought; label `reason`.";
    counter MISSED_PROBES "pintalk_missed_probes_total" Count "Probes that did not come back over a bus.";

    // HTTP
    histogram HTTP_SECONDS "pintalk_http_request_duration_seconds" Seconds "Answering a request; labels `route` (its template), `method` and `status`.";
    counter LIMITED "pintalk_limited_total" Count "Requests and sockets refused by a limit; label `limit`.";
    counter LOGINS "pintalk_logins_total" Count "Logins; label `outcome`.";

    // duties
    gauge LEADER "pintalk_leader" Count "1 on the node that does the cluster's duties.";
    counter DUTIES "pintalk_duties_total" Count "Rounds of duties; labels `duty` and `outcome`.";
    counter PURGED "pintalk_messages_purged_total" Count "Messages deleted because their time was over.";
    counter MAILS "pintalk_mails_total" Count "Mails; label `outcome` (sent, failed, logged).";
}
