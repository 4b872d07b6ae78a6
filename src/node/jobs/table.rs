//! Table of the jobs. It contains the affected rows, the batch size, the interval and the reason of each job.

use std::time::Duration;

use crate::store::ExpiringRows;

/// Periodic job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// Deletes rooms that never had a message.
    DeleteEmpty,
    /// Closes rooms without recent messages.
    CloseIdle,
    /// Marks the messages of closed rooms as purged, so that clients no longer receive them.
    Purge,
    /// Deletes the rows of purged messages.
    DeleteMessages,
    /// Marks webhook events that were not delivered in time as failed.
    GiveUpEvents,
    /// Deletes the expired rows of one table.
    Forget(ExpiringRows),
    /// Finds stopped nodes that have presence entries but are missing from the list of nodes. Adds them to the list, so
    /// that other nodes remove these entries.
    AdoptOrphans,
}

/// Entry of the job table.
#[derive(Debug)]
pub struct JobEntry {
    /// Job that this entry describes.
    pub job: Job,
    /// Name of the job in logs and metrics.
    pub name: &'static str,
    /// Description of the rows that the job affects.
    pub upon: &'static str,
    /// Maximum number of rows per step.
    pub batch: u64,
    /// Delay between the end of a run and the start of the next one.
    pub every: Duration,
    /// Reason why the job is needed.
    pub why: &'static str,
}

/// Interval of jobs that find due rows with an index.
const OFTEN: Duration = Duration::from_secs(10);

/// Interval of jobs that are not urgent.
const SELDOM: Duration = Duration::from_secs(3_600);

/// All jobs, in the order in which they run. A job may process rows that an earlier job has marked.
pub const TABLE: [JobEntry; 12] = [
    JobEntry {
        job: Job::DeleteEmpty,
        name: "delete_empty_rooms",
        upon: "rooms opened --idle-close ago that never had a message and have no connection",
        batch: 100,
        every: OFTEN,
        why: "SPEC 6.6: each visitor who writes nothing leaves an empty room",
    },
    JobEntry {
        job: Job::CloseIdle,
        name: "close_idle_rooms",
        upon: "open rooms without a message for --idle-close",
        batch: 100,
        every: OFTEN,
        why: "SPEC 6.5: the list of open rooms shows guests who wait for an answer",
    },
    JobEntry {
        job: Job::Purge,
        name: "purge_rooms",
        upon: "rooms closed --message-retention ago that have messages",
        batch: 100,
        every: OFTEN,
        why: "SPEC 6.4: messages of a closed room are kept for a limited time; from now on they are hidden",
    },
    JobEntry {
        job: Job::DeleteMessages,
        name: "delete_messages",
        upon: "purged messages",
        // With 1,000 rows, one in a hundred steps took MySQL more than 100 ms. A step must not block other statements
        // for longer.
        batch: 500,
        every: OFTEN,
        why: "SPEC 6.4: hidden messages are deleted as well, including those that an interrupted run left",
    },
    JobEntry {
        job: Job::Forget(ExpiringRows::Login),
        name: "forget_logins",
        upon: "logins that expired an hour ago",
        batch: 1_000,
        every: SELDOM,
        why: "their tokens are no longer valid; the table would grow without limit",
    },
    JobEntry {
        job: Job::Forget(ExpiringRows::Verification),
        name: "forget_verifications",
        upon: "verification codes that expired an hour ago",
        batch: 1_000,
        every: SELDOM,
        why: "they are no longer valid; addresses of visitors who did not sign up are not kept",
    },
    JobEntry {
        job: Job::Forget(ExpiringRows::Mail),
        name: "forget_mails",
        upon: "e-mails that expired an hour ago",
        batch: 1_000,
        every: SELDOM,
        why: "they are no longer useful, and contain codes and passwords",
    },
    JobEntry {
        job: Job::Forget(ExpiringRows::SentMail),
        name: "forget_departures",
        upon: "records of e-mails sent two hours ago",
        batch: 1_000,
        every: SELDOM,
        why: "limits count the last hour; recipients are not kept for longer",
    },
    JobEntry {
        job: Job::Forget(ExpiringRows::OldKey),
        name: "forget_keys",
        upon: "replaced service keys that expired an hour ago",
        batch: 1_000,
        every: SELDOM,
        why: "they are no longer valid; without another change of keys they would remain",
    },
    JobEntry {
        job: Job::GiveUpEvents,
        name: "give_up_events",
        upon: "webhook events that were not delivered within three days",
        batch: 500,
        every: OFTEN,
        why: "after so long a receiver has to fetch missed messages; the event's message is deleted",
    },
    JobEntry {
        job: Job::Forget(ExpiringRows::Event),
        name: "forget_events",
        upon: "webhook events delivered a day ago or given up a week ago",
        batch: 1_000,
        every: OFTEN,
        why: "they only record the outcome; there are as many as messages",
    },
    JobEntry {
        job: Job::AdoptOrphans,
        name: "adopt_orphans",
        upon: "dead nodes with hosts online that are missing from the list of nodes",
        batch: 1_000,
        every: SELDOM,
        why: "a failover of Redis may lose a node but keep its presence entries; once listed again, other nodes remove them",
    },
];
