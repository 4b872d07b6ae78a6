//! Table of the jobs: target, batch size, interval and reason.

use std::time::Duration;

use crate::store::ExpiringRows;

/// A periodic job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// Deletes rooms that never had a message.
    DeleteEmpty,
    /// Closes rooms without recent messages.
    CloseIdle,
    /// Marks the messages of closed rooms as purged, which hides them.
    Purge,
    /// Deletes the rows of purged messages.
    DeleteMessages,
    /// Gives up webhook events that were not delivered in time.
    GiveUpEvents,
    /// Deletes expired rows of one table.
    Forget(ExpiringRows),
    /// Adds dead nodes that still have presence entries to the list of nodes, so that other nodes clean up after them.
    AdoptOrphans,
}

/// Row of the table.
#[derive(Debug)]
pub struct Entry {
    /// The job.
    pub duty: Duty,
    /// Name in logs and metrics.
    pub name: &'static str,
    /// Description of the affected rows.
    pub upon: &'static str,
    /// Maximum number of rows per step.
    pub batch: u64,
    /// Time between the end of a run and the next.
    pub every: Duration,
    /// Reason for the job.
    pub why: &'static str,
}

/// Interval of jobs that find through an index whether anything is due.
const OFTEN: Duration = Duration::from_secs(10);

/// Interval of jobs that are not urgent.
const SELDOM: Duration = Duration::from_secs(3_600);

/// All jobs, in the order in which they run: a job may complete what one above it decided.
pub const TABLE: [Entry; 12] = [
    Entry {
        duty: Duty::DeleteEmpty,
        name: "delete_empty_rooms",
        upon: "rooms that were opened --idle-close ago, never had a message, and have no connection",
        batch: 100,
        every: OFTEN,
        why: "SPEC 6.6: visitors who write nothing leave a room each",
    },
    Entry {
        duty: Duty::CloseIdle,
        name: "close_idle_rooms",
        upon: "rooms that are open, and had no message for --idle-close",
        batch: 100,
        every: OFTEN,
        why: "SPEC 6.5: a list of open rooms shows who is waited for",
    },
    Entry {
        duty: Duty::Purge,
        name: "purge_rooms",
        upon: "rooms that were closed --message-retention ago, and have messages",
        batch: 100,
        every: OFTEN,
        why: "SPEC 6.4: the messages of a closed room are kept for a while only; from now on nobody sees them",
    },
    Entry {
        duty: Duty::DeleteMessages,
        name: "delete_messages",
        upon: "messages that were purged",
        // With 1,000 rows, one step in a hundred took MySQL more than 100 ms, the limit for blocking other statements.
        batch: 500,
        every: OFTEN,
        why: "SPEC 6.4: what nobody sees is to be gone, too, and whatever an interrupted run has left",
    },
    Entry {
        duty: Duty::Forget(ExpiringRows::Login),
        name: "forget_logins",
        upon: "logins that ran out an hour ago, ended or not",
        batch: 1_000,
        every: SELDOM,
        why: "their tokens open nothing; the table would only grow",
    },
    Entry {
        duty: Duty::Forget(ExpiringRows::Verification),
        name: "forget_verifications",
        upon: "codes for addresses that ended an hour ago",
        batch: 1_000,
        every: SELDOM,
        why: "nobody can confirm an address with them; addresses of people who did not sign up are not kept",
    },
    Entry {
        duty: Duty::Forget(ExpiringRows::Mail),
        name: "forget_mails",
        upon: "mails that were to arrive an hour ago",
        batch: 1_000,
        every: SELDOM,
        why: "they help nobody any more, and codes and passwords are in them",
    },
    Entry {
        duty: Duty::Forget(ExpiringRows::SentMail),
        name: "forget_departures",
        upon: "e-mails that left two hours ago",
        batch: 1_000,
        every: SELDOM,
        why: "limits count the last hour; who was e-mailed is not kept for longer",
    },
    Entry {
        duty: Duty::Forget(ExpiringRows::OldKey),
        name: "forget_keys",
        upon: "replaced keys of services that ended an hour ago",
        batch: 1_000,
        every: SELDOM,
        why: "they open nothing; of a host who never changes his again they would stay",
    },
    Entry {
        duty: Duty::GiveUpEvents,
        name: "give_up_events",
        upon: "events of webhooks that did not arrive within three days, as their receivers were away or off",
        batch: 500,
        every: OFTEN,
        why: "who was away for so long asks for what he missed; what is given up holds no message any more",
    },
    Entry {
        duty: Duty::Forget(ExpiringRows::Event),
        name: "forget_events",
        upon: "events of webhooks that arrived a day ago, or were given up a week ago",
        batch: 1_000,
        every: OFTEN,
        why: "they only show what became of them; there are as many as messages",
    },
    Entry {
        duty: Duty::AdoptOrphans,
        name: "adopt_orphans",
        upon: "nodes that are dead, left hosts online, and are in no list of nodes",
        batch: 1_000,
        every: SELDOM,
        why: "a failover of Redis may forget a node and keep what it said: in the list again, others find it dead and clear up",
    },
];
